/* The driver of the depthwise convolutions in planes.S, shared so that a firmware holds only the loops it uses. */
#ifndef TN_DEPTHWISE_MVE_H
#define TN_DEPTHWISE_MVE_H

#include "tn_mve.h"

enum { TN_PLANES = 8 }; /* channels that are in planes at a time */

typedef void tn_planes_row(const tn_planes *job, const int8_t *weights, int8_t *out);

/* The planes of some channels. Input row r stands in place r % kernel_h of each column. */
typedef struct {
    int8_t *to;      /* first column of the image in the first plane */
    int32_t columns; /* of the image that are read */
    int32_t step;    /* bytes from a pixel of the image to the next */
    int32_t in_row;  /* bytes from a row of the image to the next */
    int32_t rows;    /* of the image */
    int32_t kernel_h, stride_h, pad_top;
    int32_t out_row, out_h; /* bytes from a row of the output to the next, rows */
    int32_t zero_point;
} tn_columns;

/* Row `row` of the image, which may lie below it, of as many channels as `used` has lanes. */
static inline void tn_load_row_mve(const tn_columns *t, const int8_t *in, int32_t row, int8_t *to, uint16x8_t offsets,
                                   mve_pred16_t used)
{
    if (row < t->rows) {
        in += row * t->in_row;
        for (int32_t i = t->columns; i > 0; i--, in += t->step, to += t->kernel_h) {
            vstrbq_scatter_offset_s16(to, offsets, vldrbq_z_s16(in, used));
        }
    } else {
        const int16x8_t values = vdupq_n_s16((int16_t)t->zero_point);
        for (int32_t i = t->columns; i > 0; i--, to += t->kernel_h) {
            vstrbq_scatter_offset_s16(to, offsets, values);
        }
    }
}

/* The output's rows of `count` channels. `weights`: for each place that a window's first row can be in. */
static inline void tn_depthwise_block_mve(const tn_columns *t, tn_planes *job, const int8_t *in, int8_t *out,
                                          const int8_t *weights, int32_t count, int8_t *room, tn_planes_row *compute)
{
    const uint16x8_t offsets = vmulq_n_u16(vidupq_n_u16(0, 1), (uint16_t)job->plane_bytes);
    const mve_pred16_t used = vctp16q((uint32_t)count);
    const int32_t kernel_h = t->kernel_h;
    int32_t next = -t->pad_top;   /* row of the image to read */
    int32_t base = next;          /* first row of the window */
    int32_t place = 0, first = 0; /* where these go */
    for (int32_t y = t->out_h; y > 0; y--, out += t->out_row) {
        for (; next < base + kernel_h; next++) {
            if (next >= 0) {
                tn_load_row_mve(t, in, next, t->to + place, offsets, used);
            }
            place = place + 1 < kernel_h ? place + 1 : 0;
        }
        if (count & 3) { /* to `room` first, then those channels that there are */
            int8_t *to = out;
            const int8_t *from = room;
            compute(job, weights + 16 * TN_PLANES * first, room);
            for (int32_t i = job->pixels; i > 0; i--, to += t->step, from += TN_PLANES) {
                tn_copy_mve(to, from, count);
            }
        } else {
            compute(job, weights + 16 * TN_PLANES * first, out);
        }
        base += t->stride_h;
        first += t->stride_h;
        while (first >= kernel_h) {
            first -= kernel_h;
        }
        if (next < base) {
            next = base;
            place = first;
        }
    }
}

/* For each place that a window's first row can be in: which tap belongs to which byte of a window. */
static inline void tn_orders_mve(int32_t kernel_h, int32_t kernel_w, int8_t *order)
{
    for (int32_t first = 0; first < kernel_h; first++, order += 16) {
        int8_t *byte = order;
        for (int32_t j = 0; j < kernel_w; j++) {
            for (int32_t place = 0; place < kernel_h; place++) {
                const int32_t i = place < first ? place - first + kernel_h : place - first;
                *byte++ = (int8_t)(i * kernel_w + j);
            }
        }
    }
}

/* Weights of 4 or 8 channels in these orders. */
static inline void tn_turn_weights_mve(int32_t kernel_h, int32_t taps, const int8_t *orders, const int8_t *weights,
                                       int32_t count, int8_t *to)
{
    const mve_pred16_t used = vctp8q((uint32_t)taps);
    for (int32_t first = kernel_h; first > 0; first--, to += 16 * TN_PLANES, orders += 16) {
        const uint8x16_t order = vreinterpretq_u8_s8(vldrbq_s8(orders));
        const int8_t *from = weights;
        for (int32_t k = 0; k < count; k++, from += taps) {
            vstrbq_s8(to + 16 * k, vldrbq_gather_offset_z_s8(from, order, used));
        }
    }
}

/* Images one pixel wide: the same convolution with columns for rows, so that a row has many pixels. */
static inline int32_t tn_turn_mve(tn_conv2d_params *turned, const tn_conv2d_params *p)
{
    if (p->in_w != 1 || p->kernel_w != 1 || p->out_w != 1 || p->pad_left != 0) {
        return 0;
    }
    *turned = *p;
    turned->in_w = p->in_h;
    turned->out_w = p->out_h;
    turned->kernel_w = p->kernel_h;
    turned->stride_w = p->stride_h;
    turned->pad_left = p->pad_top;
    turned->in_h = turned->out_h = 1;
    turned->kernel_h = turned->stride_h = 1;
    turned->pad_top = 0;
    return 1;
}

/* At most 16 taps, any stride and padding, no dilation, one output channel per input channel. `constants`: weights
 * [channels][taps], channels filled up to a multiple of 4, then for each four channels bias, multiplier and shift as in
 * triples.S.
 * Scratch: for each row of the window 16 bytes, and weights of 8 channels of 16 bytes each; 8 planes and 16 bytes behind
 * them; 8 bytes for each pixel of a row where the channels are no multiple of 4.
 * Order: 8 channels at a time; within them each input row is read once, before the first output row that it is needed
 * for is written: in and out may be the same when no dimension grows. */
static inline void tn_depthwise_mve(const tn_conv2d_params *p, const int8_t *in, int8_t *out, int8_t *orders,
                                    tn_planes_row *compute)
{
    tn_conv2d_params turned;
    if (tn_turn_mve(&turned, p)) {
        p = &turned;
    }
    const int32_t kernel_h = p->kernel_h, taps = kernel_h * p->kernel_w;
    const int32_t channels = p->out_c;
    const int32_t pitch = (p->out_w - 1) * p->stride_w + p->kernel_w;
    int8_t *const weights = orders + 16 * kernel_h;
    int8_t *const planes = weights + 16 * TN_PLANES * kernel_h;
    const int8_t *constants = (const int8_t *)p->constants;
    tn_columns t;
    tn_planes job;
    job.planes = planes;
    job.plane_bytes = pitch * kernel_h;
    job.parameters = constants + ((channels + 3) & ~3) * taps;
    job.pixels = p->out_w;
    job.step = kernel_h * p->stride_w;
    job.out_zero_point = p->out_zero_point;
    t.to = planes + p->pad_left * kernel_h;
    t.columns = p->in_w < pitch - p->pad_left ? p->in_w : pitch - p->pad_left;
    t.step = channels;
    t.in_row = p->in_w * channels;
    t.rows = p->in_h;
    t.kernel_h = kernel_h;
    t.stride_h = p->stride_h;
    t.pad_top = p->pad_top;
    t.out_row = p->out_w * channels;
    t.out_h = p->out_h;
    t.zero_point = p->in_zero_point;
    tn_orders_mve(kernel_h, p->kernel_w, orders);
    for (int32_t rest = channels; rest > 0; rest -= TN_PLANES, in += TN_PLANES, out += TN_PLANES) {
        const int32_t count = rest < TN_PLANES ? rest : TN_PLANES;
        job.groups = (count + 3) >> 2;
        job.out_step = count & 3 ? TN_PLANES : channels;
        tn_turn_weights_mve(kernel_h, taps, orders, constants, 4 * job.groups, weights);
        tn_fill_mve(planes, (int8_t)t.zero_point, TN_PLANES * job.plane_bytes);
        tn_depthwise_block_mve(&t, &job, in, out, weights, count, planes + TN_PLANES * job.plane_bytes + 16, compute);
        constants += TN_PLANES * taps;
        job.parameters += TN_PLANES * 9;
    }
}

#endif
