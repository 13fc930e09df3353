/* Pooling of four channels at a time, for cores with the DSP extension. */
#ifndef TN_POOL_H
#define TN_POOL_H

#include "tn_kernels_dsp.h"

/* The part of a window that lies in the image: pool.S knows these offsets. */
typedef struct {
    int32_t rows, columns;
    int32_t step, row_step; /* bytes to the next column, from the end of a row to the next */
} tn_pool_window;

void tn_pool_sums_dsp(const tn_pool_window *window, const int8_t *first, int32_t *sums);
uint32_t tn_pool_maxima_dsp(const tn_pool_window *window, const int8_t *first);

/* The window of an output pixel; returns how many bytes of the image lie before its first tap. */
static inline int32_t tn_window_of(const tn_pool_params *p, int32_t y, int32_t x, tn_pool_window *w)
{
    const int32_t top = y * p->stride_h - p->pad_top, left = x * p->stride_w - p->pad_left;
    const int32_t row = top < 0 ? 0 : top, column = left < 0 ? 0 : left;
    const int32_t bottom = top + p->kernel_h, right = left + p->kernel_w;
    w->rows = (bottom < p->in_h ? bottom : p->in_h) - row;
    w->columns = (right < p->in_w ? right : p->in_w) - column;
    w->step = p->channels;
    w->row_step = (p->in_w - w->columns) * p->channels;
    if (w->row_step == 0) { /* as good as one row */
        w->columns *= w->rows;
        w->rows = 1;
    }
    return (row * p->in_w + column) * p->channels;
}

/* The channel after the four from `c` on; of a number that is no multiple of four, the few are the first. */
static inline int32_t tn_next_channels(int32_t c, int32_t channels)
{
    return c == 0 && (channels & 3) ? channels & 3 : c + 4;
}

#endif
