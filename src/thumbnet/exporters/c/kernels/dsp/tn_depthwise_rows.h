/* What depthwise_conv2d.c hands to the row loops in depthwise_rows.S, which knows these offsets. All steps in bytes. */
#ifndef TN_DEPTHWISE_ROWS_H
#define TN_DEPTHWISE_ROWS_H

#include <stdint.h>

typedef struct {
    const int16_t *line; /*  0: first input row of the first output row; a multiple of 4 */
    int8_t *out;         /*  4 */
    int32_t pitch;       /*  8: between rows of the kernel */
    int32_t back;        /* 12: from below the last row of the kernel to the next four outputs in the first row */
    int32_t row_step;    /* 16: between first rows of output rows */
    int32_t rows;        /* 20: output rows */
    int32_t width;       /* 24: output columns */
    int32_t left;        /* 28: columns left in this row, less 4 */
    int32_t bias;        /* 32: twice the bias, zero point folded in */
    int32_t multiplier;  /* 36 */
    int32_t shift;       /* 40: right shift - 1 */
    int32_t rounding;    /* 44: 1 + 2 zero_point */
    int32_t out_step;    /* 48: between outputs */
    uint32_t weights[30]; /* 52: for each row of the kernel, pairs of twice the weights, see depthwise_rows.S */
} tn_depthwise_rows;

void tn_depthwise_rows_k3s1_dsp(tn_depthwise_rows *r);
void tn_depthwise_rows_k3s2_dsp(tn_depthwise_rows *r);
void tn_depthwise_rows_k5s1_dsp(tn_depthwise_rows *r);
void tn_depthwise_rows_k5s2_dsp(tn_depthwise_rows *r);
int16_t *tn_load_line_dsp(const int8_t *in, int16_t *line, int32_t fours, int32_t step);

#endif
