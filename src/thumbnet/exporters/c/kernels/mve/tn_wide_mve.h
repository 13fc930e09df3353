/* Depthwise convolutions of large windows, shared so that a firmware holds only the loops it uses. */
#ifndef TN_WIDE_MVE_H
#define TN_WIDE_MVE_H

#include "tn_columns_mve.h"
#include "tn_scale_mve.h"

typedef struct {
    const int8_t *planes, *weights, *orders;
    const int8_t *parameters; /* of the first group of four channels */
    int32_t plane_bytes, taps;
    int32_t channel, count; /* first one and number of those in planes */
    int32_t pixels, step;   /* of a row of outputs, bytes from a pixel's window to the next one's */
    int32_t zero_point, channels;
} tn_wide_job;

/* Sums of the window at `x`. */
static inline int32_t tn_wide_sum_mve(const int8_t *x, const int8x16_t *weights, int blocks)
{
    int32_t sum = vmladavq_s8(weights[0], vldrbq_s8(x));
    for (int i = 1; i < blocks; i++) {
        sum = vmladavaq_s8(sum, weights[i], vldrbq_s8(x + 16 * i));
    }
    return sum;
}

/* A row of outputs of each channel, four pixels at a time. */
static inline void tn_wide_row_mve(const tn_wide_job *job, int32_t first, int8_t *out, int blocks)
{
    const uint8x16_t taps = vdupq_n_u8((uint8_t)job->taps);
    const uint32x4_t places = vmulq_n_u32(vidupq_n_u32(0, 1), (uint32_t)job->channels);
    const int8_t *const order = job->orders + 16 * blocks * first;
    const int8_t *plane = job->planes, *weights = job->weights;
    const int32_t step = job->step;
    for (int32_t c = job->channel; c < job->channel + job->count; c++, out++) {
        const int8_t *const group = job->parameters + (c >> 2) * 36;
        const int32_t *const words = (const int32_t *)(const void *)group + (c & 3);
        const int32_t bias = words[0], multiplier = words[4], shift = group[32 + (c & 3)];
        const int8_t *x = plane;
        int8_t *to = out;
        int8x16_t w[4];
        for (int i = 0; i < blocks; i++) {
            w[i] = tn_turned_mve(weights, order + 16 * i, taps);
        }
        for (int32_t rest = job->pixels; rest > 0; rest -= 4, x += 4 * step, to += 4 * job->channels) {
            int32x4_t sums = vdupq_n_s32(tn_wide_sum_mve(x, w, blocks));
            sums = vsetq_lane_s32(tn_wide_sum_mve(x + step, w, blocks), sums, 1);
            sums = vsetq_lane_s32(tn_wide_sum_mve(x + 2 * step, w, blocks), sums, 2);
            sums = vsetq_lane_s32(tn_wide_sum_mve(x + 3 * step, w, blocks), sums, 3);
            sums = tn_narrow_to_bytes_mve(tn_scale_mve(vaddq_n_s32(sums, bias), multiplier, shift), job->zero_point);
            vstrbq_scatter_offset_p_s32(to, places, sums, vctp32q((uint32_t)rest));
        }
        plane += job->plane_bytes;
        weights += job->taps;
    }
}

/* Windows that span at most 16 * `blocks` pixels, 2 or 4 blocks, gaps included; any stride and padding, one output
 * channel per input channel. `constants`: those of tn_depthwise_mve.h. All right shifts are at least 1.
 * Scratch: for each row that a window spans 16 * `blocks` bytes; 8 planes, and behind them 16 * `blocks` bytes and three
 * times those from a pixel to the next.
 * Order: that of tn_depthwise_mve.h. */
static inline void tn_depthwise_wide_mve(const tn_conv2d_params *params, const int8_t *in, int8_t *out, int8_t *orders,
                                         int blocks, tn_columns_row *compute)
{
    const tn_conv2d_params turned = tn_turned_params_mve(params), *const p = &turned;
    const int32_t span = tn_span_mve(p), channels = p->out_c;
    const tn_columns t = tn_columns_of_mve(p, orders + 16 * blocks * span);
    tn_wide_job job;
    job.planes = t.planes;
    job.plane_bytes = t.plane_bytes;
    job.orders = orders;
    job.taps = p->kernel_h * p->kernel_w;
    job.weights = (const int8_t *)p->constants;
    job.parameters = job.weights + ((channels + 3) & ~3) * job.taps;
    job.pixels = p->out_w;
    job.step = span * p->stride_w;
    job.zero_point = p->out_zero_point;
    job.channels = channels;
    tn_orders_mve(p, orders, 16 * blocks);
    for (job.channel = 0; job.channel < channels; job.channel += TN_PLANES, job.weights += TN_PLANES * job.taps) {
        job.count = channels - job.channel < TN_PLANES ? channels - job.channel : TN_PLANES;
        tn_compute_rows_mve(&t, in + job.channel, out + job.channel, job.count, compute, &job);
    }
}

#endif
