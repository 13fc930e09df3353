/* The driver of the convolutions in triples.S, shared so that a firmware holds only the loops it uses. */
#ifndef TN_CONVOLVE_MVE_H
#define TN_CONVOLVE_MVE_H

#include "tn_mve.h"

/* Any window, stride, dilation and padding; one group. `constants`: `packed` of triples.S, with one run or as many as
 * the window has rows. Scratch: three windows, each run rounded up to 16 bytes; none where windows are single rows inside of
 * the image, of a multiple of 16 bytes.
 * Order: three pixels at a time in raster order. Windows of several rows in one run are copied, so all their inputs are
 * read before their outputs are written; others may be read again between writes. */
static inline void tn_convolve_mve(const tn_conv2d_params *p, const int8_t *in, int8_t *out, int8_t *columns,
                                   void (*triples)(tn_triples *))
{
    tn_conv2d_params flat;
    if (tn_single_taps_mve(p)) {
        tn_flatten_mve(&flat, p);
        p = &flat;
    }
    const int32_t runs = *(const int32_t *)p->constants;
    const int32_t row = p->kernel_w * p->in_c; /* bytes of a row of the window */
    const int32_t run = runs == 1 ? p->kernel_h * row : row;
    const int32_t block = (run + 15) & ~15;
    const int32_t pitch = p->in_w * p->in_c;
    const int32_t lower = p->in_h - 1 - (p->kernel_h - 1) * p->dilation_h;
    const int32_t x_step = p->stride_w * p->in_c;
    const int8_t *const last = tn_image_end_mve(p, in) - (p->kernel_h - 1) * p->dilation_h * pitch - block;
    int32_t first = p->out_w, end = 0; /* columns of pixels whose windows can be read where they lie */
    int32_t x = 0, y = 0, top = -p->pad_top, left = -p->pad_left;
    tn_triples job;
    job.packed = (const int32_t *)p->constants + 1;
    job.blocks = (block >> 4) - 1;
    job.runs = runs - 1;
    job.channels = p->out_c;
    job.out_zero_point = p->out_zero_point;
    job.x_step = 3 * x_step;
    if (runs == p->kernel_h && p->dilation_w == 1) {
        const int32_t inner = p->in_w + p->pad_left - p->kernel_w;
        first = (p->pad_left + p->stride_w - 1) / p->stride_w;
        if (inner >= 0) {
            end = inner / p->stride_w + 1;
            end = end < p->out_w ? end : p->out_w;
        }
    }
    while (y < p->out_h) {
        const int8_t *const pixel = in + top * pitch + left * p->in_c;
        int32_t count = 0;
        if (x >= first && top >= 0 && top <= lower) {
            count = (end - x) / 3;
            while (count > 0 && pixel + (3 * count - 1) * x_step > last) {
                count--;
            }
        }
        job.out = out;
        if (count > 0) {
            job.a = pixel;
            job.b = pixel + x_step;
            job.c = pixel + 2 * x_step;
            job.step_b = job.step_c = p->out_c;
            job.triples = count;
            job.run_step = p->dilation_h * pitch - block;
            count *= 3;
            x += count;
            left += count * p->stride_w;
        } else {
            const int8_t *values[3];
            int8_t *column = columns;
            do {
                const int8_t *const here = in + top * pitch + left * p->in_c;
                if (runs == 1 && x >= first && x < end && top >= 0 && top <= lower && here <= last) {
                    values[count++] = here;
                } else {
                    tn_window_mve(p, in, top, left, column, runs == 1 ? row : block);
                    values[count++] = column;
                    column += runs * block;
                }
                left += p->stride_w;
                if (++x == p->out_w) {
                    x = 0;
                    left = -p->pad_left;
                    y++;
                    top += p->stride_h;
                }
            } while (count < 3 && y < p->out_h && (x != first || end - x < 3));
            /* pixels that are missing are computed as copies of others, to the same place */
            job.a = values[0];
            job.b = values[count > 1];
            job.c = values[count - 1];
            job.step_b = count > 1 ? p->out_c : 0;
            job.step_c = count > 2 ? p->out_c : 0;
            job.triples = 1;
            job.run_step = 0;
        }
        triples(&job);
        out += count * p->out_c;
        if (x == p->out_w) {
            x = 0;
            left = -p->pad_left;
            y++;
            top += p->stride_h;
        }
    }
}

#endif
