/* The driver of the depthwise kernels, shared by the kernel sizes so that a firmware holds only the loops it uses. */
#ifndef TN_DEPTHWISE_H
#define TN_DEPTHWISE_H

#include "tn_depthwise_rows.h"
#include "tn_kernels_dsp.h"

typedef void tn_rows_function(tn_depthwise_rows *r);

static inline void tn_fill_line(int16_t *line, int32_t value, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        line[i] = (int16_t)value;
    }
}

/* Two neighbouring taps, doubled, as SMLAD takes them. */
static inline uint32_t tn_tap_pair(int32_t first, int32_t second)
{
    return (uint32_t)(2 * first & 0xffff) | (uint32_t)(2 * second) << 16;
}

/* Reads one channel of an input row into its line; padding at both ends is there already. */
static inline void tn_load_row(const tn_conv2d_params *p, const int8_t *in, int16_t *line, int32_t columns)
{
    const int32_t step = p->in_c;
    line += p->pad_left;
    if ((p->pad_left & 1) && columns > 0) { /* up to a multiple of 4 bytes */
        *line++ = *in;
        in += step;
        columns--;
    }
    if (columns >= 4) {
        line = tn_load_line_dsp(in, line, columns >> 2, step);
        in += (columns & ~3) * step;
    }
    for (columns &= 3; columns > 0; columns--, in += step) {
        *line++ = *in;
    }
}

/* Order: channel by channel; within one, a strip's input rows are read before its output rows are written, and each
 * input row is read once: in and out may be the same when no dimension grows. */
static inline void tn_depthwise(const tn_conv2d_params *p, const int8_t *in, int8_t *out, int16_t *lines,
                                void (*pack)(const int8_t *weight, uint32_t *words), tn_rows_function *rows)
{
    const int32_t fours = (p->out_w + 3) & ~3;
    const int32_t pitch = ((fours - 1) * p->stride_w + p->kernel_w + 1) & ~1;
    const int32_t held = (p->strip - 1) * p->stride_h + p->kernel_h;
    const int32_t room = pitch - p->pad_left;
    const int32_t columns = p->in_w < room ? p->in_w : room;
    const int32_t taps = p->kernel_h * p->kernel_w;
    const tn_conv2d_constants *const k = (const tn_conv2d_constants *)p->constants;
    tn_depthwise_rows r;
    tn_fill_line(lines, p->in_zero_point, held * pitch);
    r.pitch = 2 * pitch;
    r.back = 8 * p->stride_w - p->kernel_h * r.pitch;
    r.row_step = p->stride_h * r.pitch;
    r.width = p->out_w;
    r.rounding = 1 + 2 * p->out_zero_point;
    r.out_step = p->out_c;
    for (int32_t c = 0; c < p->out_c; c++) {
        int32_t loaded = 0; /* rows of the padded input that have been read */
        r.out = out + c;
        r.bias = 2 * k->bias[c];
        r.multiplier = k->multiplier[c];
        r.shift = k->shift[c];
        pack(k->weight + c * taps, r.weights);
        for (int32_t first = 0; first < p->out_h; first += p->strip) {
            const int32_t count = first + p->strip < p->out_h ? p->strip : p->out_h - first;
            const int32_t base = first * p->stride_h;
            const int32_t end = base + (count - 1) * p->stride_h + p->kernel_h;
            if (loaded > base) {
                memmove(lines, lines + p->strip * p->stride_h * pitch, (size_t)((loaded - base) * r.pitch));
            } else {
                loaded = base;
            }
            for (; loaded < end; loaded++) {
                const int32_t row = loaded - p->pad_top;
                int16_t *const line = lines + (loaded - base) * pitch;
                if (row >= 0 && row < p->in_h) {
                    tn_load_row(p, in + row * p->in_w * p->in_c + c, line, columns);
                } else {
                    tn_fill_line(line, p->in_zero_point, pitch);
                }
            }
            r.line = lines;
            r.rows = count;
            rows(&r);
        }
    }
}

#endif
