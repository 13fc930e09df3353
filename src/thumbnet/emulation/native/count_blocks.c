/* Counts executed basic blocks for the emulator. Called once per block, so it must be short.
 *
 * Per segment and halfword of code: `enter` holds differences (+1 where a block starts, -1 behind its end), so that
 * running sums are execution counts; `taken` counts, at the end of each block, departures to anywhere but the next
 * address. A segment is the part of the run that follows one block of the top function: one call, so one layer.
 */
#include <stdint.h>

typedef struct {
    uint32_t base, end;         /* code */
    uint32_t top, top_end;      /* the function whose blocks open segments */
    uint32_t halfwords;         /* per segment, one more than the code has */
    uint32_t segments;          /* room */
    uint32_t used;              /* segments opened */
    uint32_t current;           /* segment */
    uint32_t previous_end;      /* of the last block; 0 = none yet */
    uint32_t outside;           /* blocks that were not in the code */
    uint32_t stop;              /* a breakpoint: the block that begins here is entered but not run */
    uint32_t unused;
    const uint16_t *code;
    int64_t *enter, *taken;     /* [segments][halfwords] */
    int32_t *segment_of;        /* by halfword of the top function; -1 = none yet */
    uint32_t *address;          /* of the block that opened each segment */
} counter;

void count_block(void *engine, uint64_t where, uint32_t size, void *user)
{
    counter *c = user;
    const uint32_t address = (uint32_t)where;
    (void)engine;
    if (address == c->stop) {
        return;
    }
    if (address < c->base || address + size > c->end) {
        c->outside++;
        return;
    }
    if (c->previous_end && address != c->previous_end) {
        c->taken[(uint64_t)c->current * c->halfwords + ((c->previous_end - c->base) >> 1)]++;
    }
    if (address >= c->top && address < c->top_end) {
        int32_t *slot = &c->segment_of[(address - c->top) >> 1];
        if (*slot < 0 && c->used < c->segments) {
            c->address[c->used] = address;
            *slot = (int32_t)c->used++;
        }
        if (*slot >= 0) {
            c->current = (uint32_t)*slot;
        }
    }
    int64_t *row = c->enter + (uint64_t)c->current * c->halfwords;
    row[(address - c->base) >> 1]++;
    row[(address + size - c->base) >> 1]--;
    c->previous_end = address + size;
}
