/* Notes which instructions make unaligned accesses: cores without them, and instructions that never may, fault there,
 * but the emulator lets them pass. */
#include <stdint.h>

typedef struct {
    int (*read_register)(void *engine, int register_id, void *value);
    int32_t pc; /* the emulator's name for the program counter */
    uint32_t used, room;
    uint32_t *address; /* of each such instruction, once */
} alignment;

void check_alignment(void *engine, int kind, uint64_t address, int size, int64_t value, void *user)
{
    alignment *a = user;
    uint32_t pc = 0;
    (void)kind;
    (void)value;
    if ((address & (uint32_t)(size - 1)) == 0) {
        return;
    }
    a->read_register(engine, a->pc, &pc);
    for (uint32_t i = 0; i < a->used; i++) {
        if (a->address[i] == pc) {
            return;
        }
    }
    if (a->used < a->room) {
        a->address[a->used++] = pc;
    }
}
