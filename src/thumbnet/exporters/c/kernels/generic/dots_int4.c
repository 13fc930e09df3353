#include "tn_int4.h"

#define BLOCKS 4 /* of four values, after which halves are split */

/* Adds the products of one value, number `i` of four, to the halves of `both`. */
static inline uint32_t product(uint32_t both, uint32_t weights, int i, int32_t x)
{
    return both + (weights >> (4 * i) & 0x000f000fu) * (uint32_t)x;
}

static inline uint32_t four_products(uint32_t both, uint32_t weights, const int8_t *x)
{
    both = product(product(both, weights, 0, x[0]), weights, 1, x[1]);
    return product(product(both, weights, 2, x[2]), weights, 3, x[3]);
}

/* Adds the halves of `both` to the sums of two channels. */
static inline void split(uint32_t both, int32_t *sums)
{
    const int32_t low = (int16_t)(uint16_t)both;
    sums[0] += low;
    sums[1] += (int32_t)(both - (uint32_t)low) >> 16;
}

const int32_t *tn_dots_int4(const int8_t *x, const int32_t *weight, int32_t count, int32_t left, int32_t excess,
                            int32_t sums[4])
{
    const int32_t words = (count + 3) >> 2;
    const uint32_t *w = (const uint32_t *)weight;
    const uint32_t *v = left > 2 ? w + words : w; /* of one or two channels, the others' sums mean nothing */
    uint32_t ab, cd;
    sums[0] = sums[1] = sums[2] = sums[3] = -excess;
    while (count >= 4) {
        ab = cd = 0;
        for (int i = 0; i < BLOCKS && count >= 4; i++, count -= 4, w++, v++, x += 4) {
            ab = four_products(ab, *w, x);
            cd = four_products(cd, *v, x);
        }
        split(ab, sums);
        split(cd, sums + 2);
    }
    if (count > 0) {
        ab = cd = 0;
        for (int i = 0; i < count; i++) {
            ab = product(ab, *w, i, x[i]);
            cd = product(cd, *v, i, x[i]);
        }
        split(ab, sums);
        split(cd, sums + 2);
    }
    return weight + (left > 2 ? 2 * words : words);
}
