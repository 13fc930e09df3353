#include "tn_kernels_v7m.h"

void tn_depthwise_conv2d_any_v7m(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch)
{
    tn_depthwise_v7m(p, in, out, scratch, tn_rows_any_v7m);
}
