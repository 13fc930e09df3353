#include "tn_depthwise_mve.h"

/* As tn_depthwise_conv2d_mve, where nothing below the output's zero point survives the clamp. */
void tn_depthwise_conv2d_positive_mve(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch)
{
    tn_depthwise_mve(p, in, out, (int8_t *)scratch, tn_planes_row_positive_mve);
}
