/* Sums, shared so that a firmware holds only the loop it uses. */
#ifndef TN_ADD_MVE_H
#define TN_ADD_MVE_H

#include "tn_scale_mve.h"

/* The least significant byte of each lane is an output. */
static inline int32x4_t tn_sum_mve(tn_add_mve_params p, int32x4_t exact, int32x4_t other, int positive)
{
    const int32x4_t x = vmlasq_n_s32(exact, vdupq_n_s32(1 << 19), p.constant_x);
    const int32x4_t y = vmlasq_n_s32(other, vdupq_n_s32(p.lift), p.constant_y);
    int32x4_t sum = vaddq_s32(x, tn_scale_mve(y, p.multiplier, p.shift));
    if (positive) {
        sum = vrshlq_n_s32(vqrdmulhq_n_s32(sum, p.out_multiplier), p.out_shift);
    } else {
        sum = tn_scale_mve(sum, p.out_multiplier, p.out_shift);
    }
    return tn_narrow_to_bytes_mve(sum, p.out_zero_point);
}

/* TFLite Micro brings both inputs to a common scale, 20 bits up, where the one with the larger scale is halved exactly:
 * its factor is 2^30 / 2^31. The other one is scaled. Order: four elements at a time, read before they are written. */
static inline void tn_sums_mve(const tn_add_mve_params *params, const int8_t *exact, const int8_t *other, int8_t *out,
                               int positive)
{
    const tn_add_mve_params p = *params; /* which stores could change, as far as the compiler knows */
    for (uint32_t i = p.size >> 2; i > 0; i--, exact += 4, other += 4, out += 4) {
        vstrbq_s32(out, tn_sum_mve(p, vldrbq_s32(exact), vldrbq_s32(other), positive));
    }
    if (p.size & 3) {
        const mve_pred16_t used = vctp32q(p.size & 3);
        vstrbq_p_s32(out, tn_sum_mve(p, vldrbq_z_s32(exact, used), vldrbq_z_s32(other, used), positive), used);
    }
}

#endif
