/* Products with weights of 4 bits, two channels in each multiplication.
 *
 * A word holds the weights of four values for two channels a b: those of a, plus 8, in its lower half, those of b, plus
 * 8, in its upper half, the first value's lowest. A product with `word >> 4 i & 0x000f000f` adds (a + 8) x to the lower
 * and (b + 8) x to the upper half of a sum, and 16 products keep the halves apart: 15 * 128 * 16 < 2^15. The eights are
 * taken back by the sum of all values. */
#ifndef TN_INT4_H
#define TN_INT4_H

#include "tn_kernels.h"

/* What the weights' eights add to each channel. */
static inline int32_t tn_excess_int4(const int8_t *x, int32_t count)
{
    int32_t sum = 0;
    for (int32_t i = 0; i < count; i++) {
        sum += x[i];
    }
    return 8 * sum;
}

/* Sums of the products of `count` values with the weights of the first four of `left` channels, or of as many as there
 * are; from -`excess` on. Returns where the next channels' weights begin. */
const int32_t *tn_dots_int4(const int8_t *x, const int32_t *weight, int32_t count, int32_t left, int32_t excess,
                            int32_t sums[4]);

#endif
