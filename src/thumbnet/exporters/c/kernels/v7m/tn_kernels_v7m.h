/* Kernels for cores that multiply and add to 64 bits, without the DSP extension: Cortex-M3. */
#ifndef TN_KERNELS_V7M_H
#define TN_KERNELS_V7M_H

#include "tn_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Convolutions of four pixels at a time: see quads.S, which knows these offsets. */
typedef void tn_tail_v7m(void); /* requantization of two channels; no C function */

typedef struct {
    int32_t *columns;
    int32_t *columns_end;
    int32_t entry; /* found by the kernel, as is `end` */
    tn_tail_v7m *tail;
    const int32_t *packed;
    int8_t *out[4];
    int8_t *end;
    int32_t rounding; /* 1 + 2 zero_point */
    int32_t channels;
    const int8_t *in; /* first run of the first pixel */
    int32_t in_step;  /* bytes to the next pixel */
    int32_t rows;     /* runs in a window */
    int32_t row_step; /* bytes from the end of a run to the next */
    int32_t run;      /* bytes */
    int32_t quads;
} tn_quads;

/* Two rows at a time of a channel's output: see depthwise_rows.S, which knows these offsets. Steps in bytes. */
typedef struct {
    int32_t left; /* found by the kernel, as are `out` and `step` */
    int8_t *out;
    int32_t half; /* from a row to its partner */
    int32_t step;
    int32_t rounding; /* 1 + 2 zero_point */
    int32_t offset;   /* twice the bias, less 2^23 */
    int32_t multiplier;
    int32_t shift;  /* right shift - 1 */
    int32_t x_step; /* between the windows of neighbouring columns */
    const int32_t *weights;
    int32_t pitch; /* between rows of the kernel */
    int32_t back;  /* from below the last row of the kernel to the window of the next column but one */
    const int32_t *line;
    int32_t row_step; /* between windows of rows */
    int32_t rows;     /* pairs of rows */
    int32_t odd;      /* whether the last row has no partner */
    int32_t columns;  /* less 1 */
    int32_t out_step; /* between columns */
    int8_t *row_out;
    int32_t row_bytes;
    int32_t kernel_h, kernel_w;
} tn_rows_v7m;

typedef void tn_rows_function(const tn_rows_v7m *r);

/* Dense layers: see dense.S, which knows these offsets. */
typedef struct {
    const int32_t *packed;
    uint32_t in_c, out_c;
    int32_t rounding; /* 1 + 2 zero_point */
    int32_t multiplier;
    int32_t shift; /* right shift - 1 */
} tn_dense_v7m_params;

/* Sums: see add.S, which knows these offsets. */
typedef struct {
    uint32_t size;
    int32_t constant; /* of `exact`; of both where they have one scale */
    int32_t constant_y;
    int32_t multiplier; /* of the other input */
    int32_t shift;      /* right shift - 1 */
    int32_t out_multiplier;
    int32_t out_shift; /* right shift - 1 */
    int32_t rounding;  /* 1 + 2 zero_point */
} tn_add_v7m_params;

/* `constants`: `packed` of quads.S, or tn_conv2d_constants as depthwise_conv2d.c wants them. */
tn_conv2d_function tn_conv2d_v7m, tn_conv2d_positive_v7m;
tn_conv2d_function tn_depthwise_conv2d_k3_v7m, tn_depthwise_conv2d_k3_positive_v7m; /* for kernels of 3x3 */
tn_conv2d_function tn_depthwise_conv2d_any_v7m, tn_depthwise_conv2d_any_positive_v7m;
void tn_dense_v7m(const tn_dense_v7m_params *p, const int8_t *in, int8_t *out);
void tn_add_v7m(const tn_add_v7m_params *p, const int8_t *exact, const int8_t *other, int8_t *out);
void tn_add_even_v7m(const tn_add_v7m_params *p, const int8_t *exact, const int8_t *other, int8_t *out);
void tn_clamp_v7m(int8_t *values, uint32_t size, int32_t low, int32_t high);

void tn_convolve_v7m(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch, tn_tail_v7m *tail);
tn_tail_v7m tn_pass_v7m, tn_pass_positive_v7m;
int32_t *tn_spread_v7m(const int8_t *const *runs, int32_t *columns, int32_t bytes);
void tn_quad_v7m(const tn_quads *job);
void tn_quads_v7m(const tn_quads *job);
void tn_depthwise_v7m(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch, tn_rows_function *rows);
tn_rows_function tn_rows_k3_v7m, tn_rows_k3_positive_v7m, tn_rows_any_v7m, tn_rows_any_positive_v7m;
void tn_pair_rows_v7m(const int8_t *p, const int8_t *q, int32_t *line, int32_t count, int32_t p_step, int32_t q_step);

#ifdef __cplusplus
}
#endif

#endif
