#include "tn_kernels_dsp.h"

/* `constants`: `packed` of pairs.S. */
void tn_conv2d_dsp(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch)
{
    tn_convolve_dsp(p, in, out, scratch, tn_pairs_dsp, tn_tail_dsp);
}
