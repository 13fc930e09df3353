#include "tn_scale_mve.h"

/* Sums of eight channels over all pixels, even channels first. */
static void sums(const tn_global_avg_pool_params *p, const int8_t *in, mve_pred16_t used, int32x4_t *even, int32x4_t *odd)
{
    *even = *odd = vdupq_n_s32(p->offset);
    for (uint32_t rest = p->pixels; rest > 0;) {
        const uint32_t count = rest < 255 ? rest : 255; /* so many fit into 16 bits */
        int16x8_t sum = vdupq_n_s16(0);
        for (uint32_t i = count; i > 0; i--, in += p->channels) {
            sum = vaddq_s16(sum, vldrbq_z_s16(in, used));
        }
        *even = vaddq_s32(*even, vmovlbq_s16(sum));
        *odd = vaddq_s32(*odd, vmovltq_s16(sum));
        rest -= count;
    }
}

/* The right shift is at least 1. Order: 8 channels at a time; all their pixels are read before their outputs are
 * written. */
void tn_global_avg_pool_mve(const tn_global_avg_pool_params *p, const int8_t *in, int8_t *out)
{
    const int16x8_t low = vdupq_n_s16(p->low), high = vdupq_n_s16(p->high);
    for (int32_t c = 0; c < p->channels; c += 8) {
        const mve_pred16_t used = vctp16q((uint32_t)(p->channels - c));
        int32x4_t even, odd;
        sums(p, in + c, used, &even, &odd);
        even = tn_scale_mve(even, p->multiplier, p->shift);
        odd = tn_scale_mve(odd, p->multiplier, p->shift);
        int16x8_t mean = vqmovntq_s32(vqmovnbq_s32(low, even), odd);
        mean = vqaddq_n_s16(mean, p->out_zero_point);
        vstrbq_p_s16(out + c, vminq_s16(vmaxq_s16(mean, low), high), used);
    }
}
