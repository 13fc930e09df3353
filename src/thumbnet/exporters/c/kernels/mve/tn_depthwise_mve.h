/* The driver of the depthwise convolutions in planes.S, shared so that a firmware holds only the loops it uses. */
#ifndef TN_DEPTHWISE_MVE_H
#define TN_DEPTHWISE_MVE_H

#include "tn_columns_mve.h"

typedef void tn_planes_row(const tn_planes *job, const int8_t *weights, int8_t *out);

/* Weights of 4 or 8 channels in these orders. */
static inline void tn_turn_weights_mve(int32_t orders, uint32_t taps, const int8_t *order, const int8_t *weights,
                                       int32_t count, int8_t *to)
{
    for (; orders > 0; orders--, to += 16 * TN_PLANES, order += 16) {
        const int8_t *from = weights;
        for (int32_t k = 0; k < count; k++, from += taps) {
            vstrbq_s8(to + 16 * k, tn_turned_mve(from, order, vdupq_n_u8((uint8_t)taps)));
        }
    }
}

typedef struct {
    tn_planes planes;
    const int8_t *weights; /* for each place that a window's first row can be in */
    int8_t *room;          /* for outputs of channels that are no multiple of 4; those there are are copied */
    int32_t channels, step;
    tn_planes_row *compute;
} tn_depthwise_job;

static inline void tn_depthwise_row_mve(void *context, int32_t first, int8_t *out)
{
    const tn_depthwise_job *const job = (const tn_depthwise_job *)context;
    const int8_t *const weights = job->weights + 16 * TN_PLANES * first;
    if (job->channels & 3) {
        const int8_t *from = job->room;
        job->compute(&job->planes, weights, job->room);
        for (int32_t i = job->planes.pixels; i > 0; i--, out += job->step, from += TN_PLANES) {
            tn_copy_mve(out, from, job->channels);
        }
    } else {
        job->compute(&job->planes, weights, out);
    }
}

/* Windows that span at most 16 pixels, gaps included; any stride and padding, one output channel per input channel.
 * `constants`: weights [channels][taps], channels filled up to a multiple of 4, then for each four channels bias,
 * multiplier and shift as in triples.S.
 * Scratch: for each row that a window spans 16 bytes, and weights of 8 channels of 16 bytes each; 8 planes and 16 bytes
 * behind them; 8 bytes for each pixel of a row where the channels are no multiple of 4.
 * Order: 8 channels at a time; within them each input row is read once, before the first output row that it is needed
 * for is written: in and out may be the same when no dimension grows. */
static inline void tn_depthwise_mve(const tn_conv2d_params *params, const int8_t *in, int8_t *out, int8_t *orders,
                                    tn_planes_row *compute)
{
    const tn_conv2d_params turned = tn_turned_params_mve(params), *const p = &turned;
    const int32_t span = tn_span_mve(p), taps = p->kernel_h * p->kernel_w;
    const int32_t channels = p->out_c;
    int8_t *const weights = orders + 16 * span;
    const int8_t *constants = (const int8_t *)p->constants;
    const tn_columns t = tn_columns_of_mve(p, weights + 16 * TN_PLANES * span);
    tn_depthwise_job job;
    job.planes.planes = t.planes;
    job.planes.plane_bytes = t.plane_bytes;
    job.planes.parameters = constants + ((channels + 3) & ~3) * taps;
    job.planes.pixels = p->out_w;
    job.planes.step = span * p->stride_w;
    job.planes.out_zero_point = p->out_zero_point;
    job.weights = weights;
    job.room = t.planes + TN_PLANES * t.plane_bytes + 16;
    job.step = channels;
    job.compute = compute;
    tn_orders_mve(p, orders, 16);
    for (int32_t rest = channels; rest > 0; rest -= TN_PLANES, in += TN_PLANES, out += TN_PLANES) {
        job.channels = rest < TN_PLANES ? rest : TN_PLANES;
        job.planes.groups = (job.channels + 3) >> 2;
        job.planes.out_step = job.channels & 3 ? TN_PLANES : channels;
        tn_turn_weights_mve(span, (uint32_t)taps, orders, constants, 4 * job.planes.groups, weights);
        tn_compute_rows_mve(&t, in, out, job.channels, tn_depthwise_row_mve, &job);
        constants += TN_PLANES * taps;
        job.planes.parameters += TN_PLANES * 9;
    }
}

#endif
