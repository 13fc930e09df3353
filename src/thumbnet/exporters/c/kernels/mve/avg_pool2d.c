#include "tn_pool_mve.h"

/* floor(x / taps) for 0 <= x < 2^15, where `inverse` = floor(2^31 / taps) + 1: too large by at most 2^-31, which times x
 * is less than the distance of a quotient to the next whole number, 1 / 255. */
static uint16x8_t divided(uint16x8_t x, uint32_t inverse)
{
    const uint32x4_t even = vmulhq_u32(vshlq_n_u32(vmovlbq_u16(x), 1), vdupq_n_u32(inverse));
    const uint32x4_t odd = vmulhq_u32(vshlq_n_u32(vmovltq_u16(x), 1), vdupq_n_u32(inverse));
    return vmovntq_u32(vmovnbq_u32(x, even), odd);
}

/* Mean of the taps inside of the image, at most 255, rounded half away from zero.
 * Order: 8 channels at a time, pixel by pixel in raster order. */
void tn_avg_pool2d_mve(const tn_pool_params *p, const int8_t *in, int8_t *out)
{
    const int16x8_t low = vdupq_n_s16(p->low), high = vdupq_n_s16(p->high);
    for (int32_t c = 0; c < p->channels; c += 8) {
        const mve_pred16_t used = vctp16q((uint32_t)(p->channels - c));
        int8_t *to = out + c;
        for (int32_t y = 0; y < p->out_h; y++) {
            for (int32_t x = 0; x < p->out_w; x++, to += p->channels) {
                const tn_taps t = tn_taps_mve(p, y, x);
                const uint32_t taps = (uint32_t)(t.rows * t.columns);
                const int8_t *from = in + c + t.offset;
                int16x8_t sum = vdupq_n_s16(0);
                for (int32_t i = t.rows; i > 0; i--, from += t.row_step) {
                    for (int32_t j = t.columns; j > 0; j--, from += t.x_step) {
                        sum = vaddq_s16(sum, vldrbq_z_s16(from, used));
                    }
                }
                const uint16x8_t magnitude = vreinterpretq_u16_s16(vaddq_n_s16(vabsq_s16(sum), (int16_t)(taps / 2)));
                int16x8_t mean = vreinterpretq_s16_u16(divided(magnitude, (1u << 31) / taps + 1));
                mean = vnegq_m_s16(mean, mean, vcmpltq_n_s16(sum, 0));
                vstrbq_p_s16(to, vminq_s16(vmaxq_s16(mean, low), high), used);
            }
        }
    }
}
