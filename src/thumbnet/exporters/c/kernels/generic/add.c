#include "tn_kernels.h"

static int32_t common_scale(int8_t x, int zero_point, int left_shift, int32_t multiplier, int shift)
{
    const int32_t v = (x - zero_point) * (1 << left_shift);
    /* a negative multiplier subtracts; the product's sign must not change its rounding */
    return multiplier < 0 ? -tn_scale(v, -multiplier, shift) : tn_scale(v, multiplier, shift);
}

/* Order: element by element, read before write; input 2 may only be overwritten when it does not repeat. */
void tn_add(const tn_add_params *p, const int8_t *in1, const int8_t *in2, int8_t *out)
{
    for (uint32_t i = 0, j = 0; i < p->spread.size; j = j + 1 == p->spread.period ? 0 : j + 1) {
        const int32_t b = common_scale(in2[j], p->zero_point2, p->left_shift, p->multiplier2, p->shift2);
        for (const uint32_t stop = i + p->spread.repeat; i < stop; i++) {
            const int32_t a = common_scale(in1[i], p->zero_point1, p->left_shift, p->multiplier1, p->shift1);
            const int32_t v = tn_scale(a + b, p->out_multiplier, p->out_shift) + p->out_zero_point;
            out[i] = tn_clamp(v, p->low, p->high);
        }
    }
}
