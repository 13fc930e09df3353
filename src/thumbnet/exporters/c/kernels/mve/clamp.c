#include "tn_mve.h"

/* Clamps in place. */
void tn_clamp_mve(int8_t *values, uint32_t size, int32_t low, int32_t high)
{
    const int8x16_t least = vdupq_n_s8((int8_t)low), most = vdupq_n_s8((int8_t)high);
    for (int32_t rest = (int32_t)size; rest > 0; rest -= 16, values += 16) {
        const mve_pred16_t p = vctp8q((uint32_t)rest);
        vstrbq_p_s8(values, vminq_s8(vmaxq_s8(vldrbq_z_s8(values, p), least), most), p);
    }
}
