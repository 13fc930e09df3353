#include "tn_kernels_v7m.h"

/* As tn_conv2d_v7m, where nothing below the output's zero point survives the clamp. */
void tn_conv2d_positive_v7m(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch)
{
    tn_convolve_v7m(p, in, out, scratch, tn_pass_positive_v7m);
}
