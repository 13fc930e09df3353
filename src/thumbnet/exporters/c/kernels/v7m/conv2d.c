#include "tn_kernels_v7m.h"
#include "tn_windows.h"

/* The columns of four pixels, row by row. */
static void gather(const tn_conv2d_params *p, const int8_t *in, const tn_place *places, const tn_quads *job)
{
    int32_t *columns = job->columns;
    for (int32_t row = 0; row < job->rows; row++) {
        const int8_t *runs[4];
        int8_t *room = (int8_t *)job->columns_end;
        for (int32_t i = 0; i < 4; i++, room += job->run) {
            const int32_t at = places[i].top + row * p->dilation_h;
            const int8_t *const from = at >= 0 && at < p->in_h ? in + at * p->in_w * p->in_c : NULL;
            runs[i] = tn_window_row(p, from, &places[i], job->run, room);
        }
        columns = tn_spread_v7m(runs, columns, job->run);
    }
}

/* Any window, stride, dilation and padding; one group. `constants`: `packed` of quads.S.
 * Scratch: 8 bytes for each value of a window, and, where windows reach beyond the image or have gaps, four rows of a
 * window.
 * Order: four pixels at a time in raster order, all read before any is written. */
void tn_convolve_v7m(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch, tn_tail_v7m *tail)
{
    tn_conv2d_params flat;
    tn_quads job;
    int32_t first, end, y = 0, x = 0;
    p = tn_flattened(p, &flat);
    job.run = p->kernel_w * p->in_c;
    job.rows = p->kernel_h;
    job.row_step = p->dilation_h * p->in_w * p->in_c - job.run;
    job.columns = (int32_t *)scratch;
    job.columns_end = job.columns + 2 * p->kernel_h * job.run;
    job.tail = tail;
    job.packed = (const int32_t *)p->constants;
    job.rounding = 1 + 2 * p->out_zero_point;
    job.channels = p->out_c;
    job.in_step = p->stride_w * p->in_c;
    tn_inner_columns(p, &first, &end);
    while (y < p->out_h) {
        const int32_t top = y * p->stride_h - p->pad_top;
        if (x >= first && x + 4 <= end && top >= 0 && top + (p->kernel_h - 1) * p->dilation_h < p->in_h) {
            job.quads = (end - x) >> 2;
            job.in = in + (top * p->in_w + x * p->stride_w - p->pad_left) * p->in_c;
            for (int32_t i = 0; i < 4; i++) {
                job.out[i] = out + i * p->out_c;
            }
            out += 4 * job.quads * p->out_c;
            x += 4 * job.quads;
            if (x == p->out_w) {
                x = 0;
                y++;
            }
            tn_quads_v7m(&job);
        } else {
            tn_place places[4];
            for (int32_t i = 0; i < 4; i++) {
                if (y == p->out_h) { /* the last of less than four is computed again */
                    places[i] = places[i - 1];
                    job.out[i] = job.out[i - 1];
                    continue;
                }
                places[i] = tn_place_of(p, y, x);
                job.out[i] = out;
                out += p->out_c;
                if (++x == p->out_w) {
                    x = 0;
                    y++;
                }
            }
            gather(p, in, places, &job);
            tn_quad_v7m(&job);
        }
    }
}

void tn_conv2d_v7m(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch)
{
    tn_convolve_v7m(p, in, out, scratch, tn_pass_v7m);
}
