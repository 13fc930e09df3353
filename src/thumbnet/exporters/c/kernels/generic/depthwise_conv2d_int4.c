#include "tn_kernels.h"

/* Unpacks the weights into the first bytes of `scratch`, a multiple of 4, and lets another kernel compute with them and
 * the rest of `scratch`. Order: that kernel's. */
void tn_depthwise_conv2d_int4(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch)
{
    const tn_depthwise_int4_constants *const k = (const tn_depthwise_int4_constants *)p->constants;
    int8_t *const weight = (int8_t *)scratch;
    const uint32_t bytes = (k->count + 1) >> 1;
    tn_conv2d_constants constants = k->constants;
    tn_conv2d_params unpacked = *p;
    for (uint32_t i = 0; i < bytes; i++) {
        weight[2 * i] = (int8_t)((int32_t)((uint32_t)k->packed[i] << 28) >> 28);
        weight[2 * i + 1] = (int8_t)(k->packed[i] >> 4);
    }
    constants.weight = weight;
    unpacked.constants = &constants;
    k->run(&unpacked, in, out, weight + ((k->count + 3) & ~3u));
}
