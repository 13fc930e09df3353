#include "tn_kernels.h"

/* Input 2 is the slope below zero.
 * Order: element by element, read before write; input 2 may only be overwritten when it does not repeat. */
void tn_prelu(const tn_prelu_params *p, const int8_t *in1, const int8_t *in2, int8_t *out)
{
    for (uint32_t i = 0, j = 0; i < p->spread.size; j = j + 1 == p->spread.period ? 0 : j + 1) {
        const int32_t slope = in2[j] - p->zero_point2;
        for (const uint32_t stop = i + p->spread.repeat; i < stop; i++) {
            const int32_t x = in1[i] - p->zero_point1;
            const int32_t v =
                x >= 0 ? tn_scale(x, p->multiplier1, p->shift1) : tn_scale(x * slope, p->multiplier2, p->shift2);
            out[i] = tn_clamp(v + p->out_zero_point, p->low, p->high);
        }
    }
}
