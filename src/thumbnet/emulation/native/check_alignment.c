/* Called before an instruction that may only access aligned addresses: notes when its address is not aligned. */
#include <stdint.h>

typedef struct {
    int (*read_register)(void *engine, int register_id, void *value);
    int32_t base, index; /* the emulator's names of the address registers; index 0 = none */
    uint32_t mask;       /* bits of the address that must be zero */
    uint32_t violations;
} access;

void check_alignment(void *engine, uint64_t address, uint32_t size, void *user)
{
    access *a = user;
    uint32_t base = 0, index = 0;
    (void)address;
    (void)size;
    a->read_register(engine, a->base, &base);
    if (a->index) {
        a->read_register(engine, a->index, &index);
    }
    a->violations += ((base + index) & a->mask) != 0;
}
