#include "tn_depthwise_mve.h"

void tn_depthwise_conv2d_mve(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch)
{
    tn_depthwise_mve(p, in, out, (int8_t *)scratch, tn_planes_row_mve);
}
