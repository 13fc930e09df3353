#include "tn_pool.h"

/* Mean of the taps inside the image, at most 256, rounded half away from zero; at least four channels.
 * Order: four channels at a time (the first few if their number is no multiple of four), pixel by pixel in raster order. */
void tn_avg_pool2d_dsp(const tn_pool_params *p, const int8_t *in, int8_t *out)
{
    for (int32_t c = 0, next; c < p->channels; c = next) {
        int8_t *to = out + c;
        next = tn_next_channels(c, p->channels);
        for (int32_t y = 0; y < p->out_h; y++) {
            for (int32_t x = 0; x < p->out_w; x++, to += p->channels) {
                int32_t sums[4] = {0, 0, 0, 0};
                tn_pool_window w;
                const int8_t *const first = in + c + tn_window_of(p, y, x, &w);
                const int32_t taps = w.rows * w.columns;
                tn_pool_sums_dsp(&w, first, sums);
                for (int32_t i = 0; i < next - c; i++) {
                    const int32_t half = sums[i] < 0 ? -(taps >> 1) : taps >> 1;
                    to[i] = tn_clamp((sums[i] + half) / taps, p->low, p->high);
                }
            }
        }
    }
}
