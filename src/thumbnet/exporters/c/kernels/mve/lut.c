#include "tn_mve.h"

/* out = table[in + 128]. Order: 16 elements at a time, read before they are written. */
void tn_lut_mve(const int8_t *table, uint32_t size, const int8_t *in, int8_t *out)
{
    for (int32_t rest = (int32_t)size; rest > 0; rest -= 16, in += 16, out += 16) {
        const mve_pred16_t used = vctp8q((uint32_t)rest);
        const uint8x16_t index = vaddq_n_u8(vreinterpretq_u8_s8(vldrbq_z_s8(in, used)), 128);
        vstrbq_p_s8(out, vldrbq_gather_offset_z_s8(table, index, used), used);
    }
}
