#include "tn_kernels_dsp.h"

/* As tn_conv2d_dsp, where nothing below the output's zero point survives the clamp. */
void tn_conv2d_positive_dsp(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch)
{
    tn_convolve_dsp(p, in, out, scratch, tn_pairs_dsp, tn_tail_positive_dsp);
}
