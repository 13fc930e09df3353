/* Integer kernels: int8 activations in NHWC, int32 accumulators, TFLite Micro's rounding.
 *
 * Every kernel is a pure function of its arguments: no allocation, no globals. `scratch` is working memory that the
 * memory planner reserved; its content means nothing before or after a call. Where the planner lets a kernel's output
 * overlap its input, it relies on the order of reads and writes that the kernel's comment promises.
 *
 * Right shifts of negative numbers are arithmetic on every compiler for Arm (C leaves it to the implementation).
 */
#ifndef TN_KERNELS_H
#define TN_KERNELS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Constants of a convolution, in the order of the output channels. The input's zero point is folded into `bias`.
 * `shift`: positive = left, negative = right, as TFLite spells it. */
typedef struct {
    const int8_t *weight;
    const int32_t *bias;
    const int32_t *multiplier;
    const int8_t *shift;
} tn_conv2d_constants;

/* A convolution. Padded taps read as `in_zero_point`. */
typedef struct {
    const void *constants; /* tn_conv2d_constants, or what the kernel's comment says */
    uint16_t in_h, in_w, in_c;
    uint16_t out_h, out_w, out_c;
    uint16_t groups;
    uint16_t strip; /* output rows that a depthwise convolution computes between two loads of input rows */
    uint8_t kernel_h, kernel_w;
    uint8_t stride_h, stride_w;
    uint8_t dilation_h, dilation_w;
    uint8_t pad_top, pad_left;
    int8_t in_zero_point, out_zero_point;
    int8_t low, high; /* clamp of the output */
} tn_conv2d_params;

typedef void tn_conv2d_function(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch);

/* The constants for weights of 4 bits, as in tn_int4.h. */
typedef struct {
    const int32_t *weight;
    const int32_t *bias;
    const int32_t *multiplier;
    const int8_t *shift;
} tn_conv2d_int4_constants;

/* A depthwise convolution with weights of 4 bits. */
typedef struct {
    tn_conv2d_function *run;       /* computes with unpacked weights */
    const int8_t *packed;          /* two weights in a byte, the first in the lower half, in the order of `run` */
    uint32_t count;                /* weights */
    tn_conv2d_constants constants; /* of `run`, but for the weights */
} tn_depthwise_int4_constants;

/* One convolution of a cascade. */
typedef struct {
    tn_conv2d_function *run;
    void (*clamp)(int8_t *values, uint32_t size, int32_t low, int32_t high); /* after it; NULL: nothing to clamp */
    const tn_conv2d_params *params;
    uint32_t offset; /* of the rows it keeps, from `buffers`; unused in the last one */
} tn_stage;

#define TN_MAX_STAGES 12

/* Every `count`-th output row of a transposed convolution, as a convolution of stride 1: its output channels are the
 * columns that share a window, one after the other. */
typedef struct {
    tn_conv2d_function *run;
    void (*clamp)(int8_t *values, uint32_t size, int32_t low, int32_t high); /* after it; NULL: nothing to clamp */
    const tn_conv2d_params *params; /* pad_top and out_h are set row by row */
    int32_t first; /* the input row at which the window of the phase's first row starts; negative: padding */
} tn_phase;

typedef struct {
    const tn_phase *phases;
    uint32_t row; /* bytes of an output row */
    uint32_t spill; /* where in the scratch memory the last rows may spill */
    uint16_t count, out_h;
} tn_conv_transpose2d_params;

typedef struct {
    const int8_t *weight; /* [out_c][in_c] */
    const int32_t *bias;  /* input zero point folded in */
    int32_t multiplier;
    uint32_t in_c;
    uint16_t out_c;
    int8_t shift;
    int8_t out_zero_point;
    int8_t low, high;
} tn_dense_params;

typedef struct {
    const int32_t *weight; /* see tn_int4.h */
    const int32_t *bias;
    int32_t multiplier;
    uint32_t in_c;
    uint16_t out_c;
    int8_t shift;
    int8_t out_zero_point;
    int8_t low, high;
} tn_dense_int4_params;

/* How input 2 spreads over the `size` elements of input 1 and of the output: each of its values comes `repeat` times in
 * a row, and after `period` of them it starts again; period 0: never. `size` is a multiple of `repeat`. */
typedef struct {
    uint32_t size, repeat, period;
} tn_spread;

/* add, sub: both inputs are brought to a common scale, `left_shift` bits up; what is subtracted has a negative
 * multiplier. */
typedef struct {
    tn_spread spread;
    int32_t multiplier1, multiplier2, out_multiplier;
    int8_t shift1, shift2, out_shift;
    int8_t left_shift;
    int8_t zero_point1, zero_point2, out_zero_point;
    int8_t low, high;
} tn_add_params;

typedef struct {
    tn_spread spread;
    int32_t multiplier;
    int8_t shift;
    int8_t zero_point1, zero_point2, out_zero_point;
    int8_t low, high;
} tn_mul_params;

typedef struct {
    tn_spread spread;
    int32_t multiplier1, multiplier2; /* of what is not negative, and of the products */
    int8_t shift1, shift2;
    int8_t zero_point1, zero_point2, out_zero_point;
    int8_t low, high;
} tn_prelu_params;

typedef struct {
    uint16_t in_h, in_w, channels, out_h, out_w;
    uint8_t kernel_h, kernel_w;
    uint8_t stride_h, stride_w;
    uint8_t pad_top, pad_left;
    int8_t low, high;
} tn_pool_params;

typedef struct {
    int32_t multiplier; /* of the sum: the division by the number of pixels is part of it */
    int32_t offset;     /* minus the number of pixels times the input's zero point */
    uint32_t pixels;
    uint16_t channels;
    int8_t shift;
    int8_t out_zero_point;
    int8_t low, high;
} tn_global_avg_pool_params;

/* One output is made of `count` inputs, each `inner` bytes after the last one; `inner` such outputs stand side by side,
 * `outer` times. */
typedef struct {
    uint32_t outer, count, inner;
} tn_blocks;

typedef struct {
    tn_blocks blocks;
    int32_t multiplier; /* of the sum: a mean's division is part of it */
    int32_t offset;     /* minus `count` times the input's zero point */
    int8_t shift;
    int8_t out_zero_point;
    int8_t low, high;
} tn_reduce_sum_params;

typedef struct {
    int32_t multiplier;
    uint32_t size;
    int8_t shift;
    int8_t in_zero_point, out_zero_point;
    int8_t low, high;
} tn_requantize_params;

typedef struct {
    uint16_t in_h, in_w, channels;
    uint16_t front, back; /* channels before and after the input's */
    uint8_t top, left, bottom, right;
    int8_t value;
} tn_pad_params;

/* Loops, the last one innermost, over runs that lie `step` bytes apart in the input, the first one at `start`. */
typedef struct {
    int32_t start;
    int32_t step[4];
    uint32_t run;
    uint16_t size[4];
} tn_move_params;

typedef struct {
    uint16_t in_h, in_w, channels, out_h, out_w;
} tn_resize_params;

/* Where output row 0 and column 0 lie in the input, and how far the next ones are, with 10 fractional bits. */
typedef struct {
    int32_t start_h, start_w, step_h, step_w;
    uint16_t in_h, in_w, channels, out_h, out_w;
} tn_resize_bilinear_params;

typedef struct {
    const uint16_t *rows, *columns;
    uint16_t in_w, channels, out_h, out_w;
} tn_take_params;

typedef struct {
    int32_t multiplier;
    int32_t diff_min;
    uint16_t rows, depth;
    int8_t shift;
} tn_softmax_params;

tn_conv2d_function tn_conv2d, tn_depthwise_conv2d;
tn_conv2d_function tn_conv2d_int4, tn_depthwise_conv2d_int4;
void tn_cascade(const tn_stage *stages, int32_t count, int32_t rows, const int8_t *in, int8_t *out, int8_t *buffers,
                void *scratch);
void tn_conv_transpose2d(const tn_conv_transpose2d_params *p, const int8_t *in, int8_t *out, void *scratch);
void tn_dense(const tn_dense_params *p, const int8_t *in, int8_t *out);
void tn_dense_int4(const tn_dense_int4_params *p, const int8_t *in, int8_t *out);
void tn_add(const tn_add_params *p, const int8_t *in1, const int8_t *in2, int8_t *out);
void tn_mul(const tn_mul_params *p, const int8_t *in1, const int8_t *in2, int8_t *out);
void tn_maximum(const tn_spread *p, const int8_t *in1, const int8_t *in2, int8_t *out);
void tn_minimum(const tn_spread *p, const int8_t *in1, const int8_t *in2, int8_t *out);
void tn_prelu(const tn_prelu_params *p, const int8_t *in1, const int8_t *in2, int8_t *out);
void tn_max_pool2d(const tn_pool_params *p, const int8_t *in, int8_t *out);
void tn_avg_pool2d(const tn_pool_params *p, const int8_t *in, int8_t *out);
void tn_global_avg_pool(const tn_global_avg_pool_params *p, const int8_t *in, int8_t *out);
void tn_reduce_sum(const tn_reduce_sum_params *p, const int8_t *in, int8_t *out);
void tn_reduce_max(const tn_blocks *p, const int8_t *in, int8_t *out);
void tn_reduce_min(const tn_blocks *p, const int8_t *in, int8_t *out);
void tn_lut(const int8_t *table, uint32_t size, const int8_t *in, int8_t *out);
void tn_copy_blocks(const int8_t *in, int8_t *out, uint32_t blocks, uint32_t bytes, uint32_t in_step, uint32_t out_step);
void tn_pad(const tn_pad_params *p, const int8_t *in, int8_t *out);
void tn_move(const tn_move_params *p, const int8_t *in, int8_t *out);
void tn_requantize(const tn_requantize_params *p, const int8_t *in, int8_t *out);
void tn_resize_nearest(const tn_resize_params *p, const int8_t *in, int8_t *out);
void tn_resize_bilinear(const tn_resize_bilinear_params *p, const int8_t *in, int8_t *out);
void tn_take(const tn_take_params *p, const int8_t *in, int8_t *out);
void tn_softmax(const tn_softmax_params *p, const int8_t *in, int8_t *out);

/* round(x * multiplier / 2^31), halves up: gemmlowp's SaturatingRoundingDoublingHighMul for multiplier >= 0. */
static inline int32_t tn_high_mul(int32_t x, int32_t multiplier)
{
    return (int32_t)(((int64_t)x * multiplier + (1 << 30)) >> 31);
}

/* round(x / 2^shift), halves away from zero. Needs shift >= 1 and x > INT32_MIN. */
static inline int32_t tn_round_shift(int32_t x, int shift)
{
    return (((x - (x < 0)) >> (shift - 1)) + 1) >> 1;
}

/* x * multiplier * 2^(shift - 31) with both roundings of TFLite Micro. */
static inline int32_t tn_scale(int32_t x, int32_t multiplier, int shift)
{
    if (shift >= 0) {
        return tn_high_mul((int32_t)((uint32_t)x << shift), multiplier);
    }
    return tn_round_shift(tn_high_mul(x, multiplier), -shift);
}

static inline int8_t tn_clamp(int32_t x, int32_t low, int32_t high)
{
    return (int8_t)(x < low ? low : x > high ? high : x);
}

#ifdef __cplusplus
}
#endif

#endif
