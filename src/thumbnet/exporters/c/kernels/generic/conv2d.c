#include "tn_kernels.h"

/* Copies the inputs of output pixel (y, x) into `column`, group by group, in the order of the weights. */
static void gather(const tn_conv2d_params *p, const int8_t *in, int y, int x, int8_t *column)
{
    const size_t depth = (size_t)(p->in_c / p->groups);
    const int top = y * p->stride_h - p->pad_top;
    const int left = x * p->stride_w - p->pad_left;
    for (size_t first = 0; first < p->in_c; first += depth) {
        for (int i = 0; i < p->kernel_h; i++) {
            const int row = top + i * p->dilation_h;
            for (int j = 0; j < p->kernel_w; j++) {
                const int col = left + j * p->dilation_w;
                if (row < 0 || row >= p->in_h || col < 0 || col >= p->in_w) {
                    memset(column, p->in_zero_point, depth);
                } else {
                    memcpy(column, in + (size_t)(row * p->in_w + col) * p->in_c + first, depth);
                }
                column += depth;
            }
        }
    }
}

static int8_t finish(const tn_conv2d_params *p, const tn_conv2d_constants *k, int32_t acc, int channel)
{
    return tn_clamp(tn_scale(acc, k->multiplier[channel], k->shift[channel]) + p->out_zero_point, p->low, p->high);
}

/* Output channels [first, first + count) from one column of `taps` values; four at a time share the column's loads. */
static void multiply(const tn_conv2d_params *p, const int8_t *column, int taps, int first, int count, int8_t *out)
{
    const tn_conv2d_constants *const k = (const tn_conv2d_constants *)p->constants;
    const int8_t *w = k->weight + (size_t)first * (size_t)taps;
    int c = first;
    for (; c + 4 <= first + count; c += 4, w += 4 * taps) {
        const int8_t *w1 = w + taps, *w2 = w1 + taps, *w3 = w2 + taps;
        int32_t a0 = k->bias[c], a1 = k->bias[c + 1], a2 = k->bias[c + 2], a3 = k->bias[c + 3];
        for (int i = 0; i < taps; i++) {
            const int32_t v = column[i];
            a0 += v * w[i];
            a1 += v * w1[i];
            a2 += v * w2[i];
            a3 += v * w3[i];
        }
        out[c] = finish(p, k, a0, c);
        out[c + 1] = finish(p, k, a1, c + 1);
        out[c + 2] = finish(p, k, a2, c + 2);
        out[c + 3] = finish(p, k, a3, c + 3);
    }
    for (; c < first + count; c++, w += taps) {
        int32_t acc = k->bias[c];
        for (int i = 0; i < taps; i++) {
            acc += column[i] * w[i];
        }
        out[c] = finish(p, k, acc, c);
    }
}

/* Weights [out_c][kernel_h][kernel_w][in_c / groups]. Scratch: kernel_h * kernel_w * in_c bytes.
 * Order: pixel by pixel in raster order; all inputs of a pixel are read before its outputs are written. */
void tn_conv2d(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch)
{
    int8_t *const column = (int8_t *)scratch;
    const int taps = p->kernel_h * p->kernel_w * (p->in_c / p->groups);
    const int count = p->out_c / p->groups;
    for (int y = 0; y < p->out_h; y++) {
        for (int x = 0; x < p->out_w; x++) {
            gather(p, in, y, x, column);
            for (int g = 0; g < p->groups; g++) {
                multiply(p, column + g * taps, taps, g * count, count, out);
            }
            out += p->out_c;
        }
    }
}
