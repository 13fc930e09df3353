#include "tn_cmsis_nn.h"

void tn_cmsis_conv2d(const tn_cmsis_conv2d_params *p, const int8_t *in, int8_t *out, int8_t *scratch)
{
    const cmsis_nn_context context = {scratch, p->scratch_bytes};
    const cmsis_nn_per_channel_quant_params scales = {(int32_t *)p->scales.multiplier, (int32_t *)p->scales.shift};
    const cmsis_nn_dims bias = {1, 1, 1, p->output.c};
    tn_cmsis_require(arm_convolve_wrapper_s8_get_buffer_size(&p->window, &p->input, &p->filter, &p->output) <=
                     p->scratch_bytes);
    tn_cmsis_require(arm_convolve_wrapper_s8(&context, &p->window, &scales, &p->input, in, &p->filter, p->weight, &bias,
                                             p->bias, &p->output, out) == ARM_CMSIS_NN_SUCCESS);
}
