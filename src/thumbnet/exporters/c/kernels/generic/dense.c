#include "tn_kernels.h"

/* Order: every output reads all inputs; in and out may not overlap. */
void tn_dense(const tn_dense_params *p, const int8_t *in, int8_t *out)
{
    const int8_t *w = p->weight;
    for (int c = 0; c < p->out_c; c++) {
        int32_t acc = p->bias[c];
        for (uint32_t k = 0; k < p->in_c; k++) {
            acc += in[k] * *w++;
        }
        out[c] = tn_clamp(tn_scale(acc, p->multiplier, p->shift) + p->out_zero_point, p->low, p->high);
    }
}
