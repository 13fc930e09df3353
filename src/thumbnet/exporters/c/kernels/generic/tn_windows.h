/* Where the windows of a convolution lie, for kernels that compute several pixels at a time. */
#ifndef TN_WINDOWS_H
#define TN_WINDOWS_H

#include "tn_kernels.h"

typedef struct {
    int32_t top, left;      /* of the pixel's window */
    int32_t before, inside; /* bytes of its rows that lie left of the image and in it, where the window has no gaps */
} tn_place;

static inline tn_place tn_place_of(const tn_conv2d_params *p, int32_t y, int32_t x)
{
    tn_place a;
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
static inline const int8_t *tn_window_row(const tn_conv2d_params *p, const int8_t *in, const tn_place *a, int32_t run,
                                          int8_t *room)
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

/* Output columns [*first, *end) whose windows lie inside the image from left to right, as far as they have no gaps. */
static inline void tn_inner_columns(const tn_conv2d_params *p, int32_t *first, int32_t *end)
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
static inline int tn_single_taps(const tn_conv2d_params *p)
{
    return p->kernel_h * p->kernel_w * p->stride_h * p->stride_w == 1 && p->pad_top + p->pad_left == 0 &&
           p->in_w == p->out_w && p->in_h >= p->out_h && p->out_h * p->out_w <= UINT16_MAX;
}

/* The same convolution with all pixels in one row, in `flat`, where tn_single_taps allows it; else `p`. */
static inline const tn_conv2d_params *tn_flattened(const tn_conv2d_params *p, tn_conv2d_params *flat)
{
    if (!tn_single_taps(p)) {
        return p;
    }
    *flat = *p;
    flat->in_w = flat->out_w = (uint16_t)(p->out_h * p->out_w);
    flat->in_h = flat->out_h = 1;
    return flat;
}

#endif
