#include "tn_pool_mve.h"

/* Order: 16 channels at a time, pixel by pixel in raster order. */
void tn_max_pool2d_mve(const tn_pool_params *p, const int8_t *in, int8_t *out)
{
    const int8x16_t low = vdupq_n_s8(p->low), high = vdupq_n_s8(p->high);
    for (int32_t c = 0; c < p->channels; c += 16) {
        const mve_pred16_t used = vctp8q((uint32_t)(p->channels - c));
        int8_t *to = out + c;
        for (int32_t y = 0; y < p->out_h; y++) {
            for (int32_t x = 0; x < p->out_w; x++, to += p->channels) {
                const tn_taps t = tn_taps_mve(p, y, x);
                const int8_t *from = in + c + t.offset;
                int8x16_t best = low;
                for (int32_t i = t.rows; i > 0; i--, from += t.row_step) {
                    for (int32_t j = t.columns; j > 0; j--, from += t.x_step) {
                        best = vmaxq_s8(best, vldrbq_z_s8(from, used));
                    }
                }
                vstrbq_p_s8(to, vminq_s8(best, high), used);
            }
        }
    }
}
