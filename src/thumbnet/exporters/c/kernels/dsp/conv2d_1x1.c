#include "tn_kernels_dsp.h"

/* One tap, no padding, in_c a multiple of 4, any stride. Scratch: 4 * in_c bytes.
 * Order: two pixels at a time in raster order, both read before either is written. */
void tn_conv2d_1x1_dsp(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch)
{
    uint32_t *const columns = (uint32_t *)scratch;
    const int32_t step = p->stride_w * p->in_c;
    const int32_t next_row = p->stride_h * p->in_w * p->in_c - p->out_w * step;
    const int32_t pixels = p->out_h * p->out_w;
    int32_t left = p->out_w; /* in this row */
    for (int32_t i = 0; i < pixels; i += 2) {
        const int8_t *q = in + step;
        int8_t *out_q = out + p->out_c;
        if (left == 1) {
            q += next_row;
        }
        if (i + 1 == pixels) { /* the last of an odd number is computed twice */
            q = in;
            out_q = out;
        }
        const uint32_t *const end = tn_widen2_dsp(in, q, columns, p->in_c >> 2);
        tn_columns_dsp(columns, end, (const int32_t *)p->constants, p->out_c, p->out_zero_point, out, out_q);
        in = q + step;
        out = out_q + p->out_c;
        left -= 2;
        if (left < 0) {
            left += p->out_w;
        }
        if (left == 0) {
            in += next_row;
            left = p->out_w;
        }
    }
}
