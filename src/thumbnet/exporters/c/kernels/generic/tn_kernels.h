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

/* One convolution of a cascade. */
typedef struct {
    tn_conv2d_function *run;
    void (*clamp)(int8_t *values, uint32_t size, int32_t low, int32_t high); /* after it; NULL: nothing to clamp */
    const tn_conv2d_params *params;
    uint32_t offset; /* of the rows it keeps, from `buffers`; unused in the last one */
} tn_stage;

#define TN_MAX_STAGES 12

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

/* add, sub: both inputs are brought to a common scale, `left_shift` bits up; sub has a negative multiplier 2. */
typedef struct {
    int32_t multiplier1, multiplier2, out_multiplier;
    uint32_t size;
    uint16_t period; /* input 2 repeats after so many elements; 0: it has as many as input 1 */
    int8_t shift1, shift2, out_shift;
    int8_t left_shift;
    int8_t zero_point1, zero_point2, out_zero_point;
    int8_t low, high;
} tn_add_params;

typedef struct {
    int32_t multiplier;
    uint32_t size;
    uint16_t period; /* input 2 repeats after so many elements; 0: it has as many as input 1 */
    int8_t shift;
    int8_t zero_point1, zero_point2, out_zero_point;
    int8_t low, high;
} tn_mul_params;

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

typedef struct {
    int32_t multiplier;
    uint32_t size;
    int8_t shift;
    int8_t in_zero_point, out_zero_point;
    int8_t low, high;
} tn_requantize_params;

typedef struct {
    uint16_t in_h, in_w, channels;
    uint8_t top, left, bottom, right;
    int8_t value;
} tn_pad_params;

typedef struct {
    uint16_t in_h, in_w, channels, out_h, out_w;
} tn_resize_params;

typedef struct {
    int32_t multiplier;
    int32_t diff_min;
    uint16_t rows, depth;
    int8_t shift;
} tn_softmax_params;

tn_conv2d_function tn_conv2d, tn_depthwise_conv2d;
void tn_cascade(const tn_stage *stages, int32_t count, int32_t rows, const int8_t *in, int8_t *out, int8_t *buffers,
                void *scratch);
void tn_dense(const tn_dense_params *p, const int8_t *in, int8_t *out);
void tn_add(const tn_add_params *p, const int8_t *in1, const int8_t *in2, int8_t *out);
void tn_mul(const tn_mul_params *p, const int8_t *in1, const int8_t *in2, int8_t *out);
void tn_max_pool2d(const tn_pool_params *p, const int8_t *in, int8_t *out);
void tn_avg_pool2d(const tn_pool_params *p, const int8_t *in, int8_t *out);
void tn_global_avg_pool(const tn_global_avg_pool_params *p, const int8_t *in, int8_t *out);
void tn_lut(const int8_t *table, uint32_t size, const int8_t *in, int8_t *out);
void tn_copy_blocks(const int8_t *in, int8_t *out, uint32_t blocks, uint32_t bytes, uint32_t in_step, uint32_t out_step);
void tn_pad(const tn_pad_params *p, const int8_t *in, int8_t *out);
void tn_requantize(const tn_requantize_params *p, const int8_t *in, int8_t *out);
void tn_resize_nearest(const tn_resize_params *p, const int8_t *in, int8_t *out);
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
