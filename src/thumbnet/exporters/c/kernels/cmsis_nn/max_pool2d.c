#include "tn_cmsis_nn.h"

void tn_cmsis_max_pool2d(const tn_cmsis_pool_params *p, const int8_t *in, int8_t *out, int8_t *scratch)
{
    const cmsis_nn_context context = {scratch, p->scratch_bytes};
    tn_cmsis_require(arm_max_pool_s8(&context, &p->window, &p->input, in, &p->filter, &p->output, out) ==
                     ARM_CMSIS_NN_SUCCESS);
}
