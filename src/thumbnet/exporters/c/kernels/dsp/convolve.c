#include "tn_kernels_dsp.h"

typedef struct {
    int32_t top, left;      /* of the pixel's window */
    int32_t before, inside; /* bytes of its rows that lie left of the image and in it, where the window has no gaps */
} place;

static place place_of(const tn_conv2d_params *p, int32_t y, int32_t x)
{
    place a;
    a.top = y * p->stride_h - p->pad_top;
    a.left = x * p->stride_w - p->pad_left;
    const int32_t room = p->in_w - a.left;
    const int32_t first = a.left < 0 ? (-a.left < p->kernel_w ? -a.left : p->kernel_w) : 0;
    const int32_t end = room < p->kernel_w ? (room > first ? room : first) : p->kernel_w;
    a.before = first * p->in_c;
    a.inside = (end - first) * p->in_c;
    return a;
}

/* A row of a pixel's window; `in` is the image's row, NULL where there is none: as it is, or, where it reaches beyond the
 * image or has gaps, built in `room`. */
static const int8_t *window_row(const tn_conv2d_params *p, const int8_t *in, const place *a, int32_t run, int8_t *room)
{
    const int32_t depth = p->in_c;
    if (in != NULL && a->inside == run && p->dilation_w == 1) {
        return in + a->left * depth;
    }
    memset(room, p->in_zero_point, (size_t)run);
    if (in != NULL && p->dilation_w == 1) {
        memcpy(room + a->before, in + a->left * depth + a->before, (size_t)a->inside);
    } else if (in != NULL) {
        for (int32_t j = 0, col = a->left; j < p->kernel_w; j++, col += p->dilation_w) {
            if (col >= 0 && col < p->in_w) {
                memcpy(room + j * depth, in + col * depth, p->in_c);
            }
        }
    }
    return room;
}

/* The columns of a pair of pixels, row by row. */
static void gather(const tn_conv2d_params *p, const int8_t *in, const place *a, const place *b, const tn_pairs *job)
{
    const int32_t row_bytes = p->in_w * p->in_c, run = job->run;
    uint32_t *columns = job->columns;
    int8_t *const room = (int8_t *)(columns + 2 * job->twos);
    int8_t *const room_b = room + ((run + 3) & ~3);
    int32_t row_a = a->top, row_b = b->top;
    for (int32_t i = 0; i < job->rows; i++, row_a += p->dilation_h, row_b += p->dilation_h) {
        const int8_t *from_a = row_a >= 0 && row_a < p->in_h ? in + row_a * row_bytes : NULL;
        const int8_t *from_b = row_b >= 0 && row_b < p->in_h ? in + row_b * row_bytes : NULL;
        from_a = window_row(p, from_a, a, run, room);
        from_b = window_row(p, from_b, b, run, room_b);
        columns = tn_widen2_dsp(from_a, from_b, columns, run);
    }
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

/* Any window, stride, dilation and padding; one group. `constants`: what `pairs` takes as `packed`.
 * Scratch: 8 bytes for each two values of each row of a window (an odd last one counts as two), and, where windows
 * reach beyond the image or have gaps, two rows of a window, each rounded up to a multiple of 4 bytes.
 * Order: two pixels at a time in raster order, both read before either is written. */
void tn_convolve_dsp(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch,
                     tn_pairs_function *pairs, tn_tail *tail)
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
    job.tail = tail;
    job.packed = (const int32_t *)p->constants;
    job.rounding = 1 + 2 * p->out_zero_point;
    job.channels = p->out_c;
    job.in_step = p->stride_w * p->in_c;
    inner_columns(p, &first, &end);
    while (y < p->out_h) {
        const place a = place_of(p, y, x);
        const int32_t below = a.top + (p->kernel_h - 1) * p->dilation_h;
        job.out_p = out;
        job.out_q = out + p->out_c;
        if (x >= first && x + 1 < end && a.top >= 0 && below < p->in_h) {
            job.pairs = (end - x) >> 1;
            job.in = in + (a.top * p->in_w + a.left) * p->in_c;
            out += 2 * job.pairs * p->out_c;
            x += 2 * job.pairs;
            pairs(&job);
        } else {
            place b = a;
            if (++x == p->out_w) {
                x = 0;
                y++;
            }
            if (y < p->out_h) {
                b = place_of(p, y, x++);
                out += 2 * p->out_c;
            } else { /* the last of an odd number is computed twice */
                job.out_q = out;
            }
            gather(p, in, &a, &b, &job);
            job.pairs = 1;
            job.in = NULL;
            pairs(&job);
        }
        if (x >= p->out_w) {
            x = 0;
            y++;
        }
    }
}
