#include "tn_convolve_mve.h"

void tn_conv2d_mve(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch)
{
    tn_convolve_mve(p, in, out, (int8_t *)scratch, tn_triples_mve);
}
