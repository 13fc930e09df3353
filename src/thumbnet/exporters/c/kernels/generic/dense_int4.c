#include "tn_int4.h"

/* As tn_dense, with weights as in tn_int4.h: words [half of out_c, rounded up][quarter of in_c, rounded up]. */
void tn_dense_int4(const tn_dense_int4_params *p, const int8_t *in, int8_t *out)
{
    const int32_t excess = tn_excess_int4(in, (int32_t)p->in_c);
    const int32_t *w = p->weight;
    int32_t sums[4];
    for (int c = 0; c < p->out_c; c++) {
        if ((c & 3) == 0) {
            w = tn_dots_int4(in, w, (int32_t)p->in_c, p->out_c - c, excess, sums);
        }
        const int32_t v = tn_scale(p->bias[c] + sums[c & 3], p->multiplier, p->shift) + p->out_zero_point;
        out[c] = tn_clamp(v, p->low, p->high);
    }
}
