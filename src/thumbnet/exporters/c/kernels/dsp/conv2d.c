#include "tn_kernels_dsp.h"

typedef struct {
    int32_t top, left; /* of the pixel's window */
} place;

/* One row of a pixel's window: in the input, or, where it reaches beyond the image or has gaps, built in `room`. */
static const int8_t *window_row(const tn_conv2d_params *p, const int8_t *in, place a, int32_t i, int8_t *room)
{
    const int32_t row = a.top + i * p->dilation_h;
    const int32_t depth = p->in_c;
    if (row >= 0 && row < p->in_h) {
        in += row * p->in_w * depth;
        if (p->dilation_w == 1 && a.left >= 0 && a.left + p->kernel_w <= p->in_w) {
            return in + a.left * depth;
        }
        for (int32_t j = 0, col = a.left; j < p->kernel_w; j++, col += p->dilation_w) {
            if (col >= 0 && col < p->in_w) {
                memcpy(room + j * depth, in + col * depth, p->in_c);
            } else {
                memset(room + j * depth, p->in_zero_point, p->in_c);
            }
        }
    } else {
        memset(room, p->in_zero_point, (size_t)(p->kernel_w * depth));
    }
    return room;
}

/* Output columns [*first, *end) whose windows lie inside the image from left to right, as far as they have no gaps. */
static void inner_columns(const tn_conv2d_params *p, int32_t *first, int32_t *end)
{
    const int32_t room = p->in_w + p->pad_left - p->kernel_w;
    *first = (p->pad_left + p->stride_w - 1) / p->stride_w;
    *end = 0;
    if (room >= 0 && p->dilation_w == 1) {
        const int32_t last = room / p->stride_w;
        *end = last < p->out_w ? last + 1 : p->out_w;
    }
}

/* Whether every pixel is computed from the one in its place: then all pixels are as good as one row. */
static int single_taps(const tn_conv2d_params *p)
{
    return p->kernel_h * p->kernel_w * p->stride_h * p->stride_w == 1 && p->pad_top + p->pad_left == 0 &&
           p->in_w == p->out_w && p->in_h >= p->out_h && p->out_h * p->out_w <= UINT16_MAX;
}

/* Any window, stride, dilation and padding; one group. `constants`: `packed` of pairs.S.
 * Scratch: 8 bytes for each two values of each row of a window (an odd last one counts as two), and, where windows
 * reach beyond the image or have gaps, two rows of a window, each rounded up to a multiple of 4 bytes.
 * Order: two pixels at a time in raster order, both read before either is written. */
void tn_convolve_dsp(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch, tn_tail *tail)
{
    tn_conv2d_params flat;
    tn_pairs job;
    int32_t first, end, y = 0, x = 0;
    if (single_taps(p)) {
        flat = *p;
        flat.in_w = flat.out_w = (uint16_t)(p->out_h * p->out_w);
        flat.in_h = flat.out_h = 1;
        p = &flat;
    }
    job.run = p->kernel_w * p->in_c;
    job.rows = p->kernel_h;
    job.row_step = p->dilation_h * p->in_w * p->in_c - job.run;
    job.twos = p->kernel_h * ((job.run + 1) >> 1);
    job.columns = (uint32_t *)scratch;
    int8_t *const room = (int8_t *)(job.columns + 2 * job.twos);
    job.tail = tail;
    job.packed = (const int32_t *)p->constants;
    job.rounding = 1 + 2 * p->out_zero_point;
    job.channels = p->out_c;
    job.in_step = p->stride_w * p->in_c;
    inner_columns(p, &first, &end);
    while (y < p->out_h) {
        const place a = {y * p->stride_h - p->pad_top, x * p->stride_w - p->pad_left};
        const int32_t below = a.top + (p->kernel_h - 1) * p->dilation_h;
        job.out_p = out;
        job.out_q = out + p->out_c;
        if (x >= first && x + 1 < end && a.top >= 0 && below < p->in_h) {
            job.pairs = (end - x) >> 1;
            job.in = in + (a.top * p->in_w + a.left) * p->in_c;
            out += 2 * job.pairs * p->out_c;
            x += 2 * job.pairs;
            tn_pairs_dsp(&job);
        } else {
            uint32_t *columns = job.columns;
            place b = a;
            if (++x == p->out_w) {
                x = 0;
                y++;
            }
            if (y < p->out_h) {
                b.top = y * p->stride_h - p->pad_top;
                b.left = x * p->stride_w - p->pad_left;
                x++;
                out += 2 * p->out_c;
            } else { /* the last of an odd number is computed twice */
                job.out_q = out;
            }
            for (int32_t i = 0; i < p->kernel_h; i++) {
                const int8_t *const from_a = window_row(p, in, a, i, room);
                const int8_t *const from_b = window_row(p, in, b, i, room + ((job.run + 3) & ~3));
                columns = tn_widen2_dsp(from_a, from_b, columns, job.run);
            }
            tn_pair_dsp(&job);
        }
        if (x >= p->out_w) {
            x = 0;
            y++;
        }
    }
}

void tn_conv2d_dsp(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch)
{
    tn_convolve_dsp(p, in, out, scratch, tn_tail_dsp);
}
