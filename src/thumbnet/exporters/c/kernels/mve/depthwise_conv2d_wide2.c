#include "tn_wide_mve.h"

static void row(void *job, int32_t first, int8_t *out)
{
    tn_wide_row_mve((const tn_wide_job *)job, first, out, 2);
}

/* Windows that span at most 32 pixels. */
void tn_depthwise_conv2d_wide2_mve(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch)
{
    tn_depthwise_wide_mve(p, in, out, (int8_t *)scratch, 2, row);
}
