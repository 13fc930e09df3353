#include "tn_kernels.h"

/* Order: element by element, read before write; input 2 may only be overwritten when it does not repeat. */
void tn_mul(const tn_mul_params *p, const int8_t *in1, const int8_t *in2, int8_t *out)
{
    uint32_t j = 0;
    for (uint32_t i = 0; i < p->size; i++) {
        const int32_t product = (in1[i] - p->zero_point1) * (in2[j] - p->zero_point2);
        out[i] = tn_clamp(tn_scale(product, p->multiplier, p->shift) + p->out_zero_point, p->low, p->high);
        if (++j == p->period) {
            j = 0;
        }
    }
}
