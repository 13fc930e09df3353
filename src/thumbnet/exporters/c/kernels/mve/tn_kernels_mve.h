/* Kernels for cores with Helium, the M-profile vector extension: Cortex-M55, M85. */
#ifndef TN_KERNELS_MVE_H
#define TN_KERNELS_MVE_H

#include "tn_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Convolutions of three pixels at a time: see triples.S, which knows these offsets. */
typedef struct {
    const int8_t *a, *b, *c; /* values of the three pixels' windows */
    int32_t x_step;          /* bytes to the next three pixels' */
    int8_t *out;             /* of pixel a */
    int32_t step_b, step_c;  /* bytes from a's outputs to b's, from b's to c's */
    const int32_t *packed;
    int32_t blocks; /* of 16 values in a run, minus 1 */
    int32_t triples;
    int32_t channels;
    int32_t rest; /* found by the kernel, as is `to` */
    int32_t out_zero_point;
    int8_t *to;
    int32_t runs;     /* minus 1; this and the next for `_rows` only, then 1 or more */
    int32_t run_step; /* bytes from the end of a run's last block to the next run */
} tn_triples;

/* Convolutions with at most 16 values in a window: see narrow.S, which knows these offsets. */
typedef struct {
    const int8_t *x;
    int32_t x_step; /* bytes from a pixel's values to the next one's */
    int8_t *out;
    int32_t out_step;
    const int32_t *packed;
    int32_t pixels;
    int32_t groups; /* of four channels */
    int32_t out_zero_point;
} tn_narrow;

/* A row of a depthwise convolution: see planes.S, which knows these offsets. */
typedef struct {
    const int8_t *planes;
    const int8_t *parameters;
    int32_t groups; /* of four channels */
    int32_t plane_bytes;
    int32_t pixels;
    int32_t step; /* bytes from a pixel's window to the next one's */
    int32_t out_step;
    int32_t out_zero_point;
} tn_planes;

/* Rows to copy, 1 or more: see copy_rows.S, which knows these offsets. */
typedef struct {
    int32_t rows, bytes;
    int32_t from_step, to_step; /* bytes from a row to the next */
} tn_rows;

/* Dense layers: see dense.S, which knows these offsets. */
typedef struct {
    const int32_t *packed;
    int32_t in_c, out_c;
    int32_t multiplier;
    int32_t shift; /* negative = right */
    int32_t out_zero_point;
} tn_dense_mve_params;

/* Sums. */
typedef struct {
    int32_t multiplier; /* of the other input */
    int32_t shift;      /* negative = right */
    int32_t lift;       /* 1 << 20; where both inputs have the same scale, 1 << 21 */
    int32_t constant_x, constant_y;
    int32_t out_multiplier, out_shift, out_zero_point;
    uint32_t size;
} tn_add_mve_params;

/* `constants`: see triples.S, narrow.S, tn_depthwise_mve.h. */
tn_conv2d_function tn_conv2d_mve, tn_conv2d_positive_mve, tn_conv2d_rows_mve, tn_conv2d_rows_positive_mve;
tn_conv2d_function tn_conv2d_narrow_mve, tn_conv2d_narrow_positive_mve;
tn_conv2d_function tn_depthwise_conv2d_mve, tn_depthwise_conv2d_positive_mve;
tn_conv2d_function tn_depthwise_conv2d_wide2_mve, tn_depthwise_conv2d_wide4_mve;
void tn_dense_mve(const tn_dense_mve_params *p, const int8_t *in, int8_t *out);
void tn_add_mve(const tn_add_mve_params *p, const int8_t *exact, const int8_t *other, int8_t *out);
void tn_add_positive_mve(const tn_add_mve_params *p, const int8_t *exact, const int8_t *other, int8_t *out);
void tn_mul_mve(const tn_mul_params *p, const int8_t *in1, const int8_t *in2, int8_t *out);
void tn_lut_mve(const int8_t *table, uint32_t size, const int8_t *in, int8_t *out);
void tn_max_pool2d_mve(const tn_pool_params *p, const int8_t *in, int8_t *out);
void tn_avg_pool2d_mve(const tn_pool_params *p, const int8_t *in, int8_t *out);
void tn_global_avg_pool_mve(const tn_global_avg_pool_params *p, const int8_t *in, int8_t *out);
void tn_clamp_mve(int8_t *values, uint32_t size, int32_t low, int32_t high);

void tn_copy_rows_mve(const tn_rows *r, const int8_t *from, int8_t *to);
void tn_triples_mve(tn_triples *job);
void tn_triples_positive_mve(tn_triples *job);
void tn_triples_rows_mve(tn_triples *job);
void tn_triples_rows_positive_mve(tn_triples *job);
void tn_narrow_row_mve(tn_narrow *job);
void tn_narrow_row_positive_mve(tn_narrow *job);
void tn_planes_row_mve(const tn_planes *job, const int8_t *weights, int8_t *out);
void tn_planes_row_positive_mve(const tn_planes *job, const int8_t *weights, int8_t *out);

#ifdef __cplusplus
}
#endif

#endif
