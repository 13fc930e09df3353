#include "tn_kernels.h"

/* Order: element by element, read before write; input 2 may only be overwritten when it does not repeat. */
void tn_mul(const tn_mul_params *p, const int8_t *in1, const int8_t *in2, int8_t *out)
{
    for (uint32_t i = 0, j = 0; i < p->spread.size; j = j + 1 == p->spread.period ? 0 : j + 1) {
        const int32_t b = in2[j] - p->zero_point2;
        for (const uint32_t stop = i + p->spread.repeat; i < stop; i++) {
            const int32_t v = tn_scale((in1[i] - p->zero_point1) * b, p->multiplier, p->shift) + p->out_zero_point;
            out[i] = tn_clamp(v, p->low, p->high);
        }
    }
}
