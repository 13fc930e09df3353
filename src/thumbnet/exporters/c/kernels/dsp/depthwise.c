#include "tn_depthwise.h"

/* Constants of channels [first, end), as the row functions read them; returns their end. */
static uint32_t *prepare(const tn_conv2d_params *p, const tn_depthwise_kind *kind, int32_t first, int32_t end,
                         uint32_t *to)
{
    const tn_conv2d_constants *const k = (const tn_conv2d_constants *)p->constants;
    const int32_t taps = p->kernel_h * p->kernel_w;
    const int8_t *weight = k->weight + first * taps;
    const uint32_t rounding = (uint32_t)(1 + 2 * p->out_zero_point) << 11;
    for (int32_t c = first; c < end; c++, weight += taps) {
        const uint32_t shift = (uint8_t)k->shift[c];
        *to++ = (uint32_t)k->bias[c];
        *to++ = (uint32_t)k->multiplier[c];
        *to++ = kind->positive ? (1u << shift >> 2) + rounding : shift;
        to = kind->pack(weight, kind->positive ? shift : 1, to);
    }
    return to;
}

/* `constants`: tn_conv2d_constants, bias and shift as requantize_any or requantize_positive in tn_depthwise_rows.h want
 * them. At least four channels, as many as of the output; columns at a stride of 1 or 2, less padding at the left than
 * the kernel is wide.
 * Scratch: the constants of four channels, then (kernel_h + 1) / 2 lines.
 * Order: four channels at a time, the first few if their number is no multiple of four; for these the input rows that an
 * output row needs (two output rows where both strides are 1) are read before it is written, from the first of them that
 * is not in a line yet: see thumbnet.cost.lines for where in and out may be the same. */
void tn_depthwise_dsp(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch,
                      const tn_depthwise_kind *kind)
{
    const int32_t one = p->stride_w == 1;
    const int32_t words = (one ? (p->out_w + 1) >> 1 : (p->out_w + 1) & ~1) + (p->kernel_w >> 1); /* of a channel's row */
    const int32_t room = words - ((p->pad_left + 1) >> 1);
    const int32_t even = p->out_w & ~1;
    const int32_t rows = (p->out_h - 1) * p->stride_h + p->kernel_h - p->pad_top; /* of the input that are needed */
    uint32_t *const constants = (uint32_t *)scratch;
    uint32_t *const lines = constants + 4 * (3 + kind->words);
    tn_depthwise_job job;
    job.rounding = 1 + 2 * p->out_zero_point;
    job.step = p->out_c;
    job.span = (one ? 16 : 32) * (kind->ceiling ? (p->out_w + 1) & ~1 : even);
    job.back = 8 - job.span;
    job.out_back = 1 - even * p->out_c;
    job.constants = constants;
    job.last_step = even < p->out_w ? 0 : p->out_c;
    job.rows = kind->rows;
    job.out_rows = one && p->stride_h == 1 ? 2 : 1;
    job.out_step = job.out_rows * p->out_w * p->out_c;
    job.held = (p->kernel_h + 1) >> 1;
    job.kept = job.out_rows * p->stride_h == 2 ? job.held - 1 : 0;
    job.in_row = p->in_w * p->in_c;
    job.in_h = rows < p->in_h ? rows : p->in_h;
    job.in_back = 2 * (job.held - job.kept) - job.out_rows * p->stride_h;
    job.in_step = p->in_c;
    job.head = p->pad_left & 1;
    job.pairs = (p->in_w - job.head) >> 1;
    job.tail = (p->in_w - job.head) & 1;
    if (job.pairs >= room) {
        job.pairs = room;
        job.tail = 0;
    }
    job.begin = 32 * (p->pad_left >> 1);
    job.zero = (uint8_t)p->in_zero_point * 0x01010101u;
    for (int32_t i = 0; i < 8 * words * job.held; i++) {
        lines[i] = tn_taps((uint32_t)p->in_zero_point, (uint32_t)p->in_zero_point);
    }
    for (int32_t c = 0, end; c < p->out_c; c = end) {
        end = c == 0 && (p->out_c & 3) ? p->out_c & 3 : c + 4;
        job.constants_end = prepare(p, kind, c, end, constants);
        for (int32_t i = 0; i < 3; i++) {
            job.lines[i] = lines + 8 * words * i;
        }
        job.below = job.out_rows == 2 && p->out_h > 1 ? p->out_w * p->out_c : 0;
        job.out = out + c;
        job.left = p->out_h;
        job.row = -p->pad_top;
        job.in = in + c;
        tn_depthwise_channels_dsp(&job);
    }
}
