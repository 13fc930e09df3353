/* Layers computed by CMSIS-NN: what a call needs, in flash. Needs the library's include folder. */
#ifndef TN_CMSIS_NN_H
#define TN_CMSIS_NN_H

#include "arm_nnfunctions.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The library declares these pointers without const; it does not write through them. */
typedef struct {
    const int32_t *multiplier;
    const int32_t *shift;
} tn_cmsis_scales;

typedef struct {
    const int8_t *weight; /* [output channels][kernel height][kernel width][input channels of the group] */
    const int32_t *bias;
    tn_cmsis_scales scales;
    cmsis_nn_conv_params window;
    cmsis_nn_dims input, filter, output;
    int32_t scratch_bytes;
} tn_cmsis_conv2d_params;

typedef struct {
    const int8_t *weight; /* [kernel height][kernel width][output channels] */
    const int32_t *bias;
    tn_cmsis_scales scales;
    cmsis_nn_dw_conv_params window;
    cmsis_nn_dims input, filter, output;
    int32_t scratch_bytes;
} tn_cmsis_depthwise_params;

typedef struct {
    const int8_t *weight; /* [output features][input features] */
    const int32_t *bias;
    tn_cmsis_scales scales;
    int32_t per_channel;
    cmsis_nn_fc_params layer;
    cmsis_nn_dims input, filter, output;
    int32_t scratch_bytes;
} tn_cmsis_dense_params;

typedef struct {
    cmsis_nn_pool_params window;
    cmsis_nn_dims input, filter, output;
    int32_t scratch_bytes;
} tn_cmsis_pool_params;

/* Input, output and scratch must not overlap. Scratch may be NULL where scratch_bytes is 0. */
void tn_cmsis_conv2d(const tn_cmsis_conv2d_params *p, const int8_t *in, int8_t *out, int8_t *scratch);
void tn_cmsis_depthwise_conv2d(const tn_cmsis_depthwise_params *p, const int8_t *in, int8_t *out, int8_t *scratch);
void tn_cmsis_dense(const tn_cmsis_dense_params *p, const int8_t *in, int8_t *out, int8_t *scratch);
void tn_cmsis_max_pool2d(const tn_cmsis_pool_params *p, const int8_t *in, int8_t *out, int8_t *scratch);
void tn_cmsis_avg_pool2d(const tn_cmsis_pool_params *p, const int8_t *in, int8_t *out, int8_t *scratch);

/* Stops where the library asks for more scratch memory than was planned, or refuses the layer: going on would overwrite
 * other tensors. Both can only happen with another version of the library than the firmware was verified with. */
static inline void tn_cmsis_require(int held)
{
    while (!held) {
    }
}

#ifdef __cplusplus
}
#endif

#endif
