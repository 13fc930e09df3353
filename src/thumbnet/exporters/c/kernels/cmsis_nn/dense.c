#include "tn_cmsis_nn.h"

void tn_cmsis_dense(const tn_cmsis_dense_params *p, const int8_t *in, int8_t *out, int8_t *scratch)
{
    const cmsis_nn_context context = {scratch, p->scratch_bytes};
    const cmsis_nn_quant_params scales = {(int32_t *)p->scales.multiplier, (int32_t *)p->scales.shift, p->per_channel};
    const cmsis_nn_dims bias = {1, 1, 1, p->output.c};
    const int32_t needed = arm_fully_connected_s8_get_buffer_size(&p->filter);
    tn_cmsis_require(needed <= p->scratch_bytes);
    if (needed > 0) { /* sums of the weights, which the kernel for Helium takes instead of the bias */
        tn_cmsis_require(arm_vector_sum_s8((int32_t *)(void *)scratch, p->filter.n, p->output.c, p->weight,
                                           p->layer.input_offset, 0, p->bias) == ARM_CMSIS_NN_SUCCESS);
    }
    tn_cmsis_require(arm_fully_connected_wrapper_s8(&context, &p->layer, &scales, &p->input, in, &p->filter, p->weight,
                                                    &bias, p->bias, &p->output, out) == ARM_CMSIS_NN_SUCCESS);
}
