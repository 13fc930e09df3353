#include "tn_pool.h"

/* Largest of the taps inside the image; at least four channels.
 * Order: four channels at a time (the first few if their number is no multiple of four), pixel by pixel in raster order. */
void tn_max_pool2d_dsp(const tn_pool_params *p, const int8_t *in, int8_t *out)
{
    for (int32_t c = 0, next; c < p->channels; c = next) {
        int8_t *to = out + c;
        next = tn_next_channels(c, p->channels);
        for (int32_t y = 0; y < p->out_h; y++) {
            for (int32_t x = 0; x < p->out_w; x++, to += p->channels) {
                tn_pool_window w;
                const int8_t *const first = in + c + tn_window_of(p, y, x, &w);
                uint32_t maxima = tn_pool_maxima_dsp(&w, first);
                for (int32_t i = 0; i < next - c; i++, maxima >>= 8) {
                    to[i] = tn_clamp((int8_t)(uint8_t)maxima, p->low, p->high);
                }
            }
        }
    }
}
