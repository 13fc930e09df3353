#include "tn_pool.h"

/* At least four channels. Order: four channels at a time (the first few if their number is no multiple of four); all
 * their pixels are read before their outputs are written. */
void tn_global_avg_pool_dsp(const tn_global_avg_pool_params *p, const int8_t *in, int8_t *out)
{
    for (int32_t c = 0, next; c < p->channels; c = next) {
        const int8_t *from = in + c;
        int32_t sums[4] = {p->offset, p->offset, p->offset, p->offset};
        tn_pool_window w = {1, 0, p->channels, 0};
        next = tn_next_channels(c, p->channels);
        for (int32_t left = (int32_t)p->pixels; left > 0; left -= w.columns, from += w.columns * w.step) {
            w.columns = left < 256 ? left : 256; /* so many fit into 16 bits */
            tn_pool_sums_dsp(&w, from, sums);
        }
        for (int32_t i = 0; i < next - c; i++) {
            const int32_t mean = tn_scale(sums[i], p->multiplier, p->shift) + p->out_zero_point;
            out[c + i] = tn_clamp(mean, p->low, p->high);
        }
    }
}
