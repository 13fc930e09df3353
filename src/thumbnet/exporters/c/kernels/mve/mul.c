#include "tn_scale_mve.h"

/* The least significant byte of each lane is an output. */
static inline int32x4_t product(tn_mul_params p, int32x4_t x, int32x4_t y)
{
    const int32x4_t whole = vmulq_s32(vsubq_n_s32(x, p.zero_point1), vsubq_n_s32(y, p.zero_point2));
    return tn_narrow_to_bytes_mve(tn_scale_mve(whole, p.multiplier, p.shift), p.out_zero_point);
}

/* The right shift is at least 1; clamps are left to a second pass.
 * Input 2 does not repeat value by value (`repeat` is 1).
 * Order: four elements at a time, read before they are written; input 2 may only be overwritten when it does not
 * repeat. */
void tn_mul_mve(const tn_mul_params *params, const int8_t *in1, const int8_t *in2, int8_t *out)
{
    const tn_mul_params p = *params; /* which stores could change, as far as the compiler knows */
    const uint32_t length = p.spread.period > 0 ? p.spread.period : p.spread.size;
    const uint32_t odd = length & 3;
    for (uint32_t done = 0; done < p.spread.size; done += length) {
        const int8_t *other = in2;
        for (uint32_t i = length >> 2; i > 0; i--, in1 += 4, other += 4, out += 4) {
            vstrbq_s32(out, product(p, vldrbq_s32(in1), vldrbq_s32(other)));
        }
        if (odd > 0) {
            const mve_pred16_t used = vctp32q(odd);
            vstrbq_p_s32(out, product(p, vldrbq_z_s32(in1, used), vldrbq_z_s32(other, used)), used);
            in1 += odd;
            out += odd;
        }
    }
}
