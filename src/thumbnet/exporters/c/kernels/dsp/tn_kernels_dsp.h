/* Kernels for cores with the DSP extension: Cortex-M4, M7, M33, M55. */
#ifndef TN_KERNELS_DSP_H
#define TN_KERNELS_DSP_H

#include "tn_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Dense layers over `packed`: see dot2.S for its layout, made by the code generator. */
typedef struct {
    const int32_t *packed;
    uint32_t in_c;
    uint16_t out_c;
    int8_t out_zero_point;
} tn_dense_dsp_params;

/* Sums: see add.S, which knows these offsets. */
typedef struct {
    int32_t multiplier; /* of the other input */
    int32_t shift;      /* right shift - 1 */
    int32_t constant_x, constant_y;
    int32_t out_multiplier;
    int32_t out_shift; /* right shift - 1 */
    int32_t rounding;  /* 1 + 2 zero_point */
    uint32_t size;
} tn_add_dsp_params;

/* `constants` of the first two: `packed` of dot2.S. Of the others: tn_conv2d_constants with `shift` = right shift - 1. */
tn_conv2d_function tn_conv2d_dsp, tn_conv2d_1x1_dsp;
tn_conv2d_function tn_depthwise_conv2d_k3_dsp, tn_depthwise_conv2d_k5_dsp;
void tn_dense_dsp(const tn_dense_dsp_params *p, const int8_t *in, int8_t *out, void *scratch);
void tn_add_dsp(const tn_add_dsp_params *p, const int8_t *exact, const int8_t *other, int8_t *out);
void tn_add_even_dsp(const tn_add_dsp_params *p, const int8_t *exact, const int8_t *other, int8_t *out);
void tn_clamp_dsp(int8_t *values, uint32_t size, int32_t low, int32_t high);

const int32_t *tn_dot2_dsp(const uint32_t *columns, const int32_t *packed, int8_t *out_p, int8_t *out_q, int32_t groups,
                           const uint32_t *columns_end, int32_t rounding);
uint32_t *tn_widen2_dsp(const int8_t *p, const int8_t *q, uint32_t *columns, int32_t blocks);

/* All channels of two pixels from their columns. The last one to three channels, if any, pass through `rest`. */
static inline void tn_columns_dsp(const uint32_t *columns, const uint32_t *end, const int32_t *packed, int32_t channels,
                                  int32_t zero_point, int8_t *out_p, int8_t *out_q)
{
    const int32_t groups = channels >> 2;
    const int32_t rounding = 1 + 2 * zero_point;
    if (groups > 0) {
        packed = tn_dot2_dsp(columns, packed, out_p, out_q, groups, end, rounding);
    }
    if (channels & 3) {
        int8_t rest[2][4];
        (void)tn_dot2_dsp(columns, packed, rest[0], rest[1], 1, end, rounding);
        for (int32_t c = 4 * groups, i = 0; c < channels; c++, i++) {
            out_p[c] = rest[0][i];
            out_q[c] = rest[1][i];
        }
    }
}

#ifdef __cplusplus
}
#endif

#endif
