#include "tn_kernels.h"

/* Order: element by element, read before write. */
void tn_requantize(const tn_requantize_params *p, const int8_t *in, int8_t *out)
{
    for (uint32_t i = 0; i < p->size; i++) {
        const int32_t v = tn_scale(in[i] - p->in_zero_point, p->multiplier, p->shift) + p->out_zero_point;
        out[i] = tn_clamp(v, p->low, p->high);
    }
}
