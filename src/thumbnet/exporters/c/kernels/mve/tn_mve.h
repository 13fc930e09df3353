/* What the kernels of this folder share. Not for applications: brings in arm_mve.h. */
#ifndef TN_MVE_H
#define TN_MVE_H

#include "tn_kernels_mve.h"

#include <arm_mve.h>

static inline void tn_copy_mve(int8_t *to, const int8_t *from, int32_t bytes)
{
    for (; bytes > 0; bytes -= 16, to += 16, from += 16) {
        const mve_pred16_t p = vctp8q((uint32_t)bytes);
        vstrbq_p_s8(to, vldrbq_z_s8(from, p), p);
    }
}

static inline void tn_fill_mve(int8_t *to, int8_t value, int32_t bytes)
{
    for (; bytes > 0; bytes -= 16, to += 16) {
        vstrbq_p_s8(to, vdupq_n_s8(value), vctp8q((uint32_t)bytes));
    }
}

/* Whether every pixel is computed from the one in its place: then all pixels are as good as one row. */
static inline int32_t tn_single_taps_mve(const tn_conv2d_params *p)
{
    return p->kernel_h * p->kernel_w * p->stride_h * p->stride_w == 1 && p->pad_top + p->pad_left == 0 &&
           p->in_w == p->out_w && p->in_h >= p->out_h && p->out_h * p->out_w <= UINT16_MAX;
}

static inline void tn_flatten_mve(tn_conv2d_params *flat, const tn_conv2d_params *p)
{
    *flat = *p;
    flat->in_w = flat->out_w = (uint16_t)(p->out_h * p->out_w);
    flat->in_h = flat->out_h = 1;
}

/* Where the image ends as far as it is read: behind the last row that a window reaches. */
static inline const int8_t *tn_image_end_mve(const tn_conv2d_params *p, const int8_t *in)
{
    const int32_t rows = (p->out_h - 1) * p->stride_h + (p->kernel_h - 1) * p->dilation_h + 1 - p->pad_top;
    return in + (rows < p->in_h ? rows : p->in_h) * p->in_w * p->in_c;
}

/* Copies the values of the window at (top, left), which may reach beyond the image, to `column`: a row of the window
 * every `step` bytes. */
void tn_window_mve(const tn_conv2d_params *p, const int8_t *in, int32_t top, int32_t left, int8_t *column, int32_t step);

#endif
