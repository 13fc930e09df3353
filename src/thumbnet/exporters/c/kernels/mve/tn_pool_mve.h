/* The part of a pixel's window that lies inside of the image. */
#ifndef TN_POOL_MVE_H
#define TN_POOL_MVE_H

#include "tn_mve.h"

typedef struct {
    int32_t offset; /* of the first tap, in bytes */
    int32_t rows, columns;
    int32_t x_step, row_step; /* bytes to the next column, from the end of a row to the next */
} tn_taps;

static inline tn_taps tn_taps_mve(const tn_pool_params *p, int32_t y, int32_t x)
{
    const int32_t top = y * p->stride_h - p->pad_top, left = x * p->stride_w - p->pad_left;
    const int32_t row = top < 0 ? 0 : top, column = left < 0 ? 0 : left;
    const int32_t end_row = top + p->kernel_h, end_column = left + p->kernel_w;
    tn_taps t;
    t.rows = (end_row < p->in_h ? end_row : p->in_h) - row;
    t.columns = (end_column < p->in_w ? end_column : p->in_w) - column;
    t.x_step = p->channels;
    t.row_step = (p->in_w - t.columns) * t.x_step;
    t.offset = (row * p->in_w + column) * t.x_step;
    return t;
}

#endif
