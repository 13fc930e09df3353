/* Memory functions that the compiler may call. Words where both addresses allow it.
 * The empty asm keeps the compiler from turning a loop into a call of the function it is in. */
#include <stddef.h>
#include <stdint.h>

#define OPAQUE() __asm__ volatile("" ::: "memory")

void *memcpy(void *restrict to, const void *restrict from, size_t count);
void *memmove(void *to, const void *from, size_t count);
void *memset(void *to, int value, size_t count);
int memcmp(const void *a, const void *b, size_t count);

typedef uint32_t __attribute__((may_alias)) word;

static int aligned(const void *a, const void *b)
{
    return (((uintptr_t)a | (uintptr_t)b) & 3) == 0;
}

void *memcpy(void *restrict to, const void *restrict from, size_t count)
{
    uint8_t *d = to;
    const uint8_t *s = from;
    if (aligned(d, s)) {
        for (; count >= 16; count -= 16, d += 16, s += 16) {
            const uint32_t a = ((const word *)s)[0], b = ((const word *)s)[1];
            const uint32_t c = ((const word *)s)[2], e = ((const word *)s)[3];
            ((word *)d)[0] = a;
            ((word *)d)[1] = b;
            ((word *)d)[2] = c;
            ((word *)d)[3] = e;
            OPAQUE();
        }
    }
    for (; count > 0; count--) {
        *d++ = *s++;
        OPAQUE();
    }
    return to;
}

void *memmove(void *to, const void *from, size_t count)
{
    if ((uintptr_t)to - (uintptr_t)from >= count) { /* also where `to` lies before `from` */
        return memcpy(to, from, count);
    }
    uint8_t *d = (uint8_t *)to + count;
    const uint8_t *s = (const uint8_t *)from + count;
    if (aligned(d, s)) {
        for (; count >= 4; count -= 4) {
            d -= 4;
            s -= 4;
            *(word *)d = *(const word *)s;
            OPAQUE();
        }
    }
    for (; count > 0; count--) {
        *--d = *--s;
        OPAQUE();
    }
    return to;
}

void *memset(void *to, int value, size_t count)
{
    uint8_t *d = to;
    const uint32_t fill = (uint8_t)value * 0x01010101u;
    for (; count > 0 && ((uintptr_t)d & 3) != 0; count--) {
        *d++ = (uint8_t)value;
        OPAQUE();
    }
    for (; count >= 4; count -= 4, d += 4) {
        *(word *)d = fill;
        OPAQUE();
    }
    for (; count > 0; count--) {
        *d++ = (uint8_t)value;
        OPAQUE();
    }
    return to;
}

int memcmp(const void *a, const void *b, size_t count)
{
    const uint8_t *x = a, *y = b;
    for (; count > 0; count--, x++, y++) {
        if (*x != *y) {
            return *x - *y;
        }
    }
    return 0;
}

#define ALIAS(name, arguments, body) \
    void name arguments;             \
    void name arguments body

/* Names of the Arm run-time ABI; memset has its arguments in another order there. */
ALIAS(__aeabi_memcpy, (void *d, const void *s, size_t n), { memcpy(d, s, n); })
ALIAS(__aeabi_memcpy4, (void *d, const void *s, size_t n), { memcpy(d, s, n); })
ALIAS(__aeabi_memcpy8, (void *d, const void *s, size_t n), { memcpy(d, s, n); })
ALIAS(__aeabi_memmove, (void *d, const void *s, size_t n), { memmove(d, s, n); })
ALIAS(__aeabi_memmove4, (void *d, const void *s, size_t n), { memmove(d, s, n); })
ALIAS(__aeabi_memmove8, (void *d, const void *s, size_t n), { memmove(d, s, n); })
ALIAS(__aeabi_memset, (void *d, size_t n, int v), { memset(d, v, n); })
ALIAS(__aeabi_memset4, (void *d, size_t n, int v), { memset(d, v, n); })
ALIAS(__aeabi_memset8, (void *d, size_t n, int v), { memset(d, v, n); })
ALIAS(__aeabi_memclr, (void *d, size_t n), { memset(d, 0, n); })
ALIAS(__aeabi_memclr4, (void *d, size_t n), { memset(d, 0, n); })
ALIAS(__aeabi_memclr8, (void *d, size_t n), { memset(d, 0, n); })
