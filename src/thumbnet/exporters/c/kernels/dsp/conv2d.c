#include "tn_kernels_dsp.h"

typedef struct {
    int32_t top, left; /* of the pixel's window */
} place;

static const int8_t *tap(const tn_conv2d_params *p, const int8_t *in, const int8_t *pad, int32_t row, int32_t col)
{
    const int inside = row >= 0 && row < p->in_h && col >= 0 && col < p->in_w;
    return inside ? in + (row * p->in_w + col) * p->in_c : pad;
}

static int whole_rows(const tn_conv2d_params *p, place a)
{
    return p->dilation_w == 1 && a.left >= 0 && a.left + p->kernel_w <= p->in_w;
}

static int row_inside(const tn_conv2d_params *p, int32_t row)
{
    return row >= 0 && row < p->in_h;
}

/* Columns of two pixels where in_c is a multiple of 4: straight from the input, row by row or tap by tap. */
static uint32_t *gather(const tn_conv2d_params *p, const int8_t *in, const int8_t *pad, place a, place b,
                        uint32_t *columns)
{
    const int whole = whole_rows(p, a) && whole_rows(p, b);
    for (int32_t i = 0; i < p->kernel_h; i++) {
        const int32_t row_a = a.top + i * p->dilation_h, row_b = b.top + i * p->dilation_h;
        if (whole && row_inside(p, row_a) && row_inside(p, row_b)) {
            const int8_t *const from_a = in + (row_a * p->in_w + a.left) * p->in_c;
            const int8_t *const from_b = in + (row_b * p->in_w + b.left) * p->in_c;
            columns = tn_widen2_dsp(from_a, from_b, columns, (p->kernel_w * p->in_c) >> 2);
            continue;
        }
        for (int32_t j = 0; j < p->kernel_w; j++) {
            const int32_t shift = j * p->dilation_w;
            columns = tn_widen2_dsp(tap(p, in, pad, row_a, a.left + shift), tap(p, in, pad, row_b, b.left + shift),
                                    columns, p->in_c >> 2);
        }
    }
    return columns;
}

static int8_t *copy(int8_t *to, const int8_t *from, int32_t count)
{
    for (; count >= 4; count -= 4, to += 4, from += 4) {
        memcpy(to, from, 4);
    }
    for (; count > 0; count--) {
        *to++ = *from++;
    }
    return to;
}

/* One pixel's column as bytes, for channels that do not come in fours. */
static void gather_bytes(const tn_conv2d_params *p, const int8_t *in, const int8_t *pad, place a, int8_t *column)
{
    const int whole = whole_rows(p, a);
    for (int32_t i = 0; i < p->kernel_h; i++) {
        const int32_t row = a.top + i * p->dilation_h;
        if (whole && row_inside(p, row)) {
            column = copy(column, in + (row * p->in_w + a.left) * p->in_c, p->kernel_w * p->in_c);
            continue;
        }
        for (int32_t j = 0; j < p->kernel_w; j++) {
            column = copy(column, tap(p, in, pad, row, a.left + j * p->dilation_w), p->in_c);
        }
    }
}

/* Any window, stride, dilation and padding; one group. With k = kernel_h * kernel_w * in_c rounded up to a multiple of
 * 4, scratch holds 4 k bytes of columns, in_c bytes (rounded up likewise) of padding, and, where in_c is no multiple
 * of 4, 2 k bytes of columns as they are.
 * Order: two pixels at a time in raster order, both read before either is written. */
void tn_conv2d_dsp(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch)
{
    const int32_t taps = (p->kernel_h * p->kernel_w * p->in_c + 3) & ~3;
    uint32_t *const columns = (uint32_t *)scratch;
    int8_t *const pad = (int8_t *)(columns + taps);
    int8_t *const bytes = pad + ((p->in_c + 3) & ~3);
    const int32_t pixels = p->out_h * p->out_w;
    int32_t y = 0, x = 0;
    memset(pad, p->in_zero_point, p->in_c);
    if (p->in_c & 3) {
        memset(bytes, 0, (size_t)(2 * taps));
    }
    for (int32_t i = 0; i < pixels; i += 2) {
        const place a = {y * p->stride_h - p->pad_top, x * p->stride_w - p->pad_left};
        place b = a;
        int8_t *out_b = out;
        const uint32_t *end;
        if (i + 1 < pixels) {
            if (++x == p->out_w) {
                x = 0;
                y++;
            }
            b.top = y * p->stride_h - p->pad_top;
            b.left = x * p->stride_w - p->pad_left;
            out_b += p->out_c;
        }
        if (p->in_c & 3) {
            gather_bytes(p, in, pad, a, bytes);
            gather_bytes(p, in, pad, b, bytes + taps);
            end = tn_widen2_dsp(bytes, bytes + taps, columns, taps >> 2);
        } else {
            end = gather(p, in, pad, a, b, columns);
        }
        tn_columns_dsp(columns, end, (const int32_t *)p->constants, p->out_c, p->out_zero_point, out, out_b);
        out = out_b + p->out_c;
        if (++x == p->out_w) {
            x = 0;
            y++;
        }
    }
}
