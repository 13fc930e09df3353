#include "tn_int4.h"

/* Copies the inputs of output pixel (y, x) into `column`, group by group, in the order of the weights. */
static void gather(const tn_conv2d_params *p, const int8_t *in, int y, int x, int8_t *column)
{
    const size_t depth = (size_t)(p->in_c / p->groups);
    const int top = y * p->stride_h - p->pad_top;
    const int left = x * p->stride_w - p->pad_left;
    for (size_t first = 0; first < p->in_c; first += depth) {
        for (int i = 0; i < p->kernel_h; i++) {
            const int row = top + i * p->dilation_h;
            for (int j = 0; j < p->kernel_w; j++, column += depth) {
                const int col = left + j * p->dilation_w;
                if (row < 0 || row >= p->in_h || col < 0 || col >= p->in_w) {
                    memset(column, p->in_zero_point, depth);
                } else {
                    memcpy(column, in + (size_t)(row * p->in_w + col) * p->in_c + first, depth);
                }
            }
        }
    }
}

/* As tn_conv2d, with weights as in tn_int4.h: for each group words [half of its channels, rounded up][quarter of
 * kernel_h * kernel_w * in_c / groups, rounded up]. `constants`: tn_conv2d_int4_constants. */
void tn_conv2d_int4(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch)
{
    const tn_conv2d_int4_constants *const k = (const tn_conv2d_int4_constants *)p->constants;
    const int taps = p->kernel_h * p->kernel_w * (p->in_c / p->groups);
    const int count = p->out_c / p->groups;
    for (int y = 0; y < p->out_h; y++) {
        for (int x = 0; x < p->out_w; x++) {
            const int8_t *column = (const int8_t *)scratch;
            const int32_t *w = k->weight;
            gather(p, in, y, x, (int8_t *)scratch);
            for (int first = 0; first < p->out_c; first += count, column += taps) {
                const int32_t excess = tn_excess_int4(column, taps);
                int32_t sums[4];
                for (int i = 0; i < count; i++) {
                    const int c = first + i;
                    if ((i & 3) == 0) {
                        w = tn_dots_int4(column, w, taps, count - i, excess, sums);
                    }
                    const int32_t v = tn_scale(k->bias[c] + sums[i & 3], k->multiplier[c], k->shift[c]);
                    *out++ = tn_clamp(v + p->out_zero_point, p->low, p->high);
                }
            }
        }
    }
}
