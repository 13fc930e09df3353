#include "tn_kernels.h"

/* Order: output by output; all inputs of one are read before it is written, and lie behind it. */
void tn_reduce_max(const tn_blocks *p, const int8_t *in, int8_t *out)
{
    for (uint32_t o = 0; o < p->outer; o++, in += p->count * p->inner) {
        for (uint32_t i = 0; i < p->inner; i++) {
            const int8_t *v = in + i;
            int8_t best = *v;
            for (uint32_t k = 1; k < p->count; k++) {
                v += p->inner;
                best = *v > best ? *v : best;
            }
            *out++ = best;
        }
    }
}

void tn_reduce_min(const tn_blocks *p, const int8_t *in, int8_t *out)
{
    for (uint32_t o = 0; o < p->outer; o++, in += p->count * p->inner) {
        for (uint32_t i = 0; i < p->inner; i++) {
            const int8_t *v = in + i;
            int8_t best = *v;
            for (uint32_t k = 1; k < p->count; k++) {
                v += p->inner;
                best = *v < best ? *v : best;
            }
            *out++ = best;
        }
    }
}
