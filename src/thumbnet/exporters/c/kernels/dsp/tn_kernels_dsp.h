/* Kernels for cores with the DSP extension: Cortex-M4, M7, M33, M55. */
#ifndef TN_KERNELS_DSP_H
#define TN_KERNELS_DSP_H

#include "tn_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Convolutions of pairs of pixels: see tn_pairs.h, which knows these offsets. */
typedef void tn_tail(void); /* requantization of a group of channels; no C function */

typedef struct {
    uint32_t *columns;
    uint32_t *columns_end; /* found by the kernel, as is `entry` */
    int32_t twos;          /* words of `columns` for each pixel */
    tn_tail *tail;
    const int32_t *packed;
    int8_t *out_p, *out_q;
    int8_t *end_p;    /* unused */
    int32_t rounding; /* 1 + 2 zero_point */
    int32_t channels;
    const int8_t *in; /* first run of pixel p; NULL: `columns` are there already, of one pair */
    int32_t in_step;  /* bytes to pixel q */
    int32_t rows;     /* runs in a window */
    int32_t row_step; /* bytes from the end of a run to the next */
    int32_t run;      /* bytes */
    int32_t pairs;
} tn_pairs;

typedef void tn_pairs_function(const tn_pairs *job);

/* Dense layers: see tn_dense.h, which knows these offsets. */
typedef struct {
    const int32_t *packed;
    uint32_t in_c, out_c;
    int32_t multiplier;
    int32_t shift;    /* right shift - 1 */
    int32_t rounding; /* 1 + 2 zero_point */
} tn_dense_dsp_params;

/* Sums: see add.S, which knows these offsets. */
typedef struct {
    int32_t out_multiplier;
    int32_t out_shift;    /* right shift - 1 */
    int32_t out_rounding; /* (1 + 2 zero_point) << out_shift */
    int32_t multiplier;   /* of the other input */
    int32_t shift;        /* right shift - 1 */
    int32_t rounding;     /* 1 << shift */
    int32_t constant_x, constant_y;
    uint32_t size;
} tn_add_dsp_params;

tn_conv2d_function tn_conv2d_dsp, tn_conv2d_positive_dsp;
tn_conv2d_function tn_conv2d_int4_dsp, tn_conv2d_int4_positive_dsp;
tn_conv2d_function tn_depthwise_conv2d_k3s1_dsp, tn_depthwise_conv2d_k3s1_positive_dsp;
tn_conv2d_function tn_depthwise_conv2d_k3s2_dsp, tn_depthwise_conv2d_k3s2_positive_dsp;
tn_conv2d_function tn_depthwise_conv2d_k5s1_dsp, tn_depthwise_conv2d_k5s1_positive_dsp;
tn_conv2d_function tn_depthwise_conv2d_k5s2_dsp, tn_depthwise_conv2d_k5s2_positive_dsp;
void tn_dense_dsp(const tn_dense_dsp_params *p, const int8_t *in, int8_t *out);
void tn_dense_int4_dsp(const tn_dense_dsp_params *p, const int8_t *in, int8_t *out);
void tn_add_dsp(const tn_add_dsp_params *p, const int8_t *exact, const int8_t *other, int8_t *out);
void tn_add_even_dsp(const tn_add_dsp_params *p, const int8_t *exact, const int8_t *other, int8_t *out);
void tn_avg_pool2d_dsp(const tn_pool_params *p, const int8_t *in, int8_t *out);
void tn_max_pool2d_dsp(const tn_pool_params *p, const int8_t *in, int8_t *out);
void tn_global_avg_pool_dsp(const tn_global_avg_pool_params *p, const int8_t *in, int8_t *out);
void tn_clamp_dsp(int8_t *values, uint32_t size, int32_t low, int32_t high);

void tn_convolve_dsp(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch,
                     tn_pairs_function *pairs, tn_tail *tail);
tn_pairs_function tn_pairs_dsp, tn_pairs_int4_dsp;
tn_tail tn_tail_dsp, tn_tail_positive_dsp;
uint32_t *tn_widen2_dsp(const int8_t *p, const int8_t *q, uint32_t *columns, int32_t bytes);

#ifdef __cplusplus
}
#endif

#endif
