/* Requantization of vectors of 32 bits; see triples.S. */
#ifndef TN_SCALE_MVE_H
#define TN_SCALE_MVE_H

#include "tn_mve.h"

/* x * multiplier * 2^(shift - 31) with both roundings of TFLite Micro, for shift <= -1. */
static inline int32x4_t tn_scale_mve(int32x4_t x, int32_t multiplier, int32_t shift)
{
    const int32x4_t high = vqrdmulhq_n_s32(x, multiplier);
    return vrshlq_n_s32(vaddq_s32(high, vshrq_n_s32(high, 31)), shift);
}

/* Each of four values plus the zero point, cut to 8 bits, in the lowest byte of its lane. */
static inline int32x4_t tn_narrow_to_bytes_mve(int32x4_t x, int32_t zero_point)
{
    const int16x8_t half = vqaddq_n_s16(vqmovnbq_s32(vreinterpretq_s16_s32(x), x), (int16_t)zero_point);
    return vreinterpretq_s32_s8(vqmovnbq_s16(vreinterpretq_s8_s16(half), half));
}

#endif
