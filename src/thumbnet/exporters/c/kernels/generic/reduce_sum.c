#include "tn_kernels.h"

/* Sums or means. Order: output by output; all inputs of one are read before it is written, and lie behind it. */
void tn_reduce_sum(const tn_reduce_sum_params *p, const int8_t *in, int8_t *out)
{
    for (uint32_t o = 0; o < p->blocks.outer; o++, in += p->blocks.count * p->blocks.inner) {
        for (uint32_t i = 0; i < p->blocks.inner; i++) {
            const int8_t *v = in + i;
            int32_t sum = p->offset;
            for (uint32_t k = 0; k < p->blocks.count; k++, v += p->blocks.inner) {
                sum += *v;
            }
            *out++ = tn_clamp(tn_scale(sum, p->multiplier, p->shift) + p->out_zero_point, p->low, p->high);
        }
    }
}
