#include "tn_kernels.h"

#define FRACTION 10 /* bits behind the point of a position */

/* Two neighbouring rows or columns, and the weight of the upper one of 1 << FRACTION; below the image it is negative,
 * but then both neighbours are the same. */
typedef struct {
    int32_t lower, upper, weight;
} between;

static between neighbours(int32_t position, int32_t size)
{
    between b;
    const int32_t above = (position + (1 << FRACTION) - 1) >> FRACTION;
    b.lower = position > 0 ? position >> FRACTION : 0;
    b.upper = above < size ? above : size - 1;
    b.weight = position - b.lower * (1 << FRACTION);
    return b;
}

/* Order: pixel by pixel in raster order; a pixel is written before the next one is read. */
void tn_resize_bilinear(const tn_resize_bilinear_params *p, const int8_t *in, int8_t *out)
{
    const int32_t one = 1 << FRACTION;
    const int32_t depth = p->channels;
    int32_t row = p->start_h;
    for (int32_t y = 0; y < p->out_h; y++, row += p->step_h) {
        const between v = neighbours(row, p->in_h);
        const int8_t *const above = in + v.lower * p->in_w * depth;
        const int8_t *const below = in + v.upper * p->in_w * depth;
        int32_t column = p->start_w;
        for (int32_t x = 0; x < p->out_w; x++, column += p->step_w) {
            const between h = neighbours(column, p->in_w);
            const int8_t *const a = above + h.lower * depth, *const b = above + h.upper * depth;
            const int8_t *const c = below + h.lower * depth, *const d = below + h.upper * depth;
            const int32_t weight_d = v.weight * h.weight;
            const int32_t weight_c = v.weight * one - weight_d;
            const int32_t weight_b = h.weight * one - weight_d;
            const int32_t weight_a = one * one - weight_b - weight_c - weight_d;
            for (int32_t k = 0; k < depth; k++) {
                const int32_t sum = a[k] * weight_a + b[k] * weight_b + c[k] * weight_c + d[k] * weight_d;
                *out++ = (int8_t)tn_round_shift(sum, 2 * FRACTION);
            }
        }
    }
}
