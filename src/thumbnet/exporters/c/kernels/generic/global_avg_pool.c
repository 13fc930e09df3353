#include "tn_kernels.h"

/* Order: channel by channel; all pixels of a channel are read before its output is written. */
void tn_global_avg_pool(const tn_global_avg_pool_params *p, const int8_t *in, int8_t *out)
{
    for (int c = 0; c < p->channels; c++) {
        const int8_t *v = in + c;
        int32_t sum = p->offset;
        for (uint32_t i = 0; i < p->pixels; i++, v += p->channels) {
            sum += *v;
        }
        out[c] = tn_clamp(tn_scale(sum, p->multiplier, p->shift) + p->out_zero_point, p->low, p->high);
    }
}
