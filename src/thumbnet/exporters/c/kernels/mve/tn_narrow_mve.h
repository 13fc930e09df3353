/* The driver of the convolutions in narrow.S, shared so that a firmware holds only the loops it uses. */
#ifndef TN_NARROW_MVE_H
#define TN_NARROW_MVE_H

#include "tn_mve.h"

enum { TN_TILE = 16 }; /* pixels, and the most values in a window */

/* Outputs of `groups` groups of four channels and of `odd` more channels. */
static inline void tn_narrow_tile_mve(tn_narrow *job, const int32_t *packed, int32_t groups, int32_t odd, int8_t *room,
                                      void (*row)(tn_narrow *))
{
    job->packed = packed;
    job->groups = groups;
    if (groups > 0) {
        row(job);
    }
    if (odd > 0) {
        int8_t *to = job->out + 4 * groups;
        const int32_t step = job->out_step;
        job->packed = packed + groups * (16 + 9);
        job->groups = 1;
        job->out = room;
        job->out_step = 4;
        row(job);
        for (int32_t i = job->pixels; i > 0; i--, to += step, room += 4) {
            tn_copy_mve(to, room, odd);
        }
    }
}

/* Any window of at most 16 values, stride, dilation and padding; one group. `constants`: `packed` of narrow.S.
 * Scratch: 16 windows of 16 bytes, and 4 bytes for each of 16 pixels where the channels are no multiple of 4.
 * Order: 16 pixels at a time in raster order. Windows of more than one pixel are copied, so all their inputs are read
 * before their outputs are written; others may be read again between writes. */
static inline void tn_narrow_mve(const tn_conv2d_params *p, const int8_t *in, int8_t *out, int8_t *columns,
                                 void (*row)(tn_narrow *))
{
    tn_conv2d_params flat;
    if (tn_single_taps_mve(p)) {
        tn_flatten_mve(&flat, p);
        p = &flat;
    }
    const int32_t single = p->kernel_h * p->kernel_w == 1 && p->pad_top + p->pad_left == 0;
    const int32_t x_step = p->stride_w * p->in_c;
    const int32_t within = (p->in_w - 1) / p->stride_w + 1; /* columns of pixels that lie inside of the image */
    const int8_t *const last = tn_image_end_mve(p, in) - TN_TILE;
    int32_t x = 0, y = 0, top = -p->pad_top, left = -p->pad_left;
    tn_narrow job;
    job.out_zero_point = p->out_zero_point;
    while (y < p->out_h) {
        const int8_t *const pixel = in + (top * p->in_w + left) * p->in_c;
        job.x = pixel;
        job.x_step = x_step;
        job.pixels = p->out_w - x < TN_TILE ? p->out_w - x : TN_TILE;
        if (single && top < p->in_h && x + job.pixels <= within && pixel + (job.pixels - 1) * x_step <= last) {
            x += job.pixels;
            left += job.pixels * p->stride_w;
        } else {
            int8_t *column = columns;
            job.x = columns;
            job.x_step = TN_TILE;
            job.pixels = 0;
            do {
                tn_window_mve(p, in, top, left, column, p->kernel_w * p->in_c);
                column += TN_TILE;
                left += p->stride_w;
                if (++x == p->out_w) {
                    x = 0;
                    left = -p->pad_left;
                    y++;
                    top += p->stride_h;
                }
            } while (++job.pixels < TN_TILE && y < p->out_h && (x > 0 || !single));
        }
        job.out = out;
        job.out_step = p->out_c;
        out += job.pixels * p->out_c;
        tn_narrow_tile_mve(&job, (const int32_t *)p->constants, p->out_c >> 2, p->out_c & 3,
                           columns + TN_TILE * TN_TILE, row);
        if (x == p->out_w) {
            x = 0;
            left = -p->pad_left;
            y++;
            top += p->stride_h;
        }
    }
}

#endif
