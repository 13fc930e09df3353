/* Planes of some channels, each column by column, so that a window is one run of bytes there. */
#ifndef TN_COLUMNS_MVE_H
#define TN_COLUMNS_MVE_H

#include "tn_mve.h"

enum { TN_PLANES = 8 }; /* channels that are in planes at a time */

/* A plane holds as many rows as a window spans: row r of the image stands in place r % span of each column. */
typedef struct {
    int8_t *planes;
    int32_t plane_bytes;
    int8_t *to;      /* first column of the image in the first plane */
    int32_t columns; /* of the image that are read */
    int32_t step;    /* bytes from a pixel to the next, of the image and of the output */
    int32_t in_row;  /* bytes from a row of the image to the next */
    int32_t rows;    /* of the image */
    int32_t span, stride, pad_top;
    int32_t out_row, out_h; /* bytes from a row of the output to the next, rows */
    int32_t zero_point;
} tn_columns;

/* Computes a row of outputs from windows whose first row is in place `first`. */
typedef void tn_columns_row(void *job, int32_t first, int8_t *out);

/* The same convolution; of images one pixel wide with columns for rows, so that a row has many pixels. */
tn_conv2d_params tn_turned_params_mve(const tn_conv2d_params *p);

tn_columns tn_columns_of_mve(const tn_conv2d_params *p, int8_t *planes);

/* For each place that a window's first row can be in, `size` bytes: which tap belongs to which byte of a window, 255
 * where none does. */
void tn_orders_mve(const tn_conv2d_params *p, int8_t *orders, int32_t size);

/* Rows that a window reaches over. */
static inline int32_t tn_span_mve(const tn_conv2d_params *p)
{
    return (p->kernel_h - 1) * p->dilation_h + 1;
}

/* The weights of a channel that meet 16 bytes of a window. */
static inline int8x16_t tn_turned_mve(const int8_t *weights, const int8_t *order, uint8x16_t taps)
{
    const uint8x16_t tap = vreinterpretq_u8_s8(vldrbq_s8(order));
    return vldrbq_gather_offset_z_s8(weights, tap, vcmphiq_u8(taps, tap));
}

/* Row `row` of the image, which may lie below it, of as many channels as `used` has lanes. */
static inline void tn_load_row_mve(const tn_columns *t, const int8_t *in, int32_t row, int8_t *to, uint16x8_t offsets,
                                   mve_pred16_t used)
{
    if (row < t->rows) {
        in += row * t->in_row;
        for (int32_t i = t->columns; i > 0; i--, in += t->step, to += t->span) {
            vstrbq_scatter_offset_s16(to, offsets, vldrbq_z_s16(in, used));
        }
    } else {
        const int16x8_t values = vdupq_n_s16((int16_t)t->zero_point);
        for (int32_t i = t->columns; i > 0; i--, to += t->span) {
            vstrbq_scatter_offset_s16(to, offsets, values);
        }
    }
}

/* The output's rows of `count` channels. Each row of the image is read once, before the first output row that needs it is
 * written. */
static inline void tn_compute_rows_mve(const tn_columns *t, const int8_t *in, int8_t *out, int32_t count,
                                       tn_columns_row *compute, void *job)
{
    const uint16x8_t offsets = vmulq_n_u16(vidupq_n_u16(0, 1), (uint16_t)t->plane_bytes);
    const mve_pred16_t used = vctp16q((uint32_t)count);
    const int32_t span = t->span;
    int32_t next = -t->pad_top;   /* row of the image to read */
    int32_t base = next;          /* first row of the window */
    int32_t place = 0, first = 0; /* where these go */
    tn_fill_mve(t->planes, (int8_t)t->zero_point, TN_PLANES * t->plane_bytes);
    for (int32_t y = t->out_h; y > 0; y--, out += t->out_row) {
        for (; next < base + span; next++) {
            if (next >= 0) {
                tn_load_row_mve(t, in, next, t->to + place, offsets, used);
            }
            place = place + 1 < span ? place + 1 : 0;
        }
        compute(job, first, out);
        base += t->stride;
        first += t->stride;
        while (first >= span) {
            first -= span;
        }
        if (next < base) {
            next = base;
            place = first;
        }
    }
}

#endif
