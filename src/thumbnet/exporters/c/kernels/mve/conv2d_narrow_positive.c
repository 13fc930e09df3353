#include "tn_narrow_mve.h"

/* As tn_conv2d_narrow_mve, where nothing below the output's zero point survives the clamp. */
void tn_conv2d_narrow_positive_mve(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch)
{
    tn_narrow_mve(p, in, out, (int8_t *)scratch, tn_narrow_row_positive_mve);
}
