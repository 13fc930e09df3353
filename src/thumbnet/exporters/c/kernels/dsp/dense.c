#include "tn_kernels_dsp.h"

/* Scratch: 4 bytes for each input, rounded up to a multiple of 4, and as many bytes as inputs where that is none. */
void tn_dense_dsp(const tn_dense_dsp_params *p, const int8_t *in, int8_t *out, void *scratch)
{
    const int32_t values = (int32_t)((p->in_c + 3) & ~3u);
    uint32_t *const columns = (uint32_t *)scratch;
    if (p->in_c & 3) {
        int8_t *const bytes = (int8_t *)(columns + values);
        memset(bytes + values - 4, 0, 4);
        memcpy(bytes, in, p->in_c);
        in = bytes;
    }
    const uint32_t *const end = tn_widen2_dsp(in, in, columns, values >> 2);
    tn_columns_dsp(columns, end, p->packed, p->out_c, p->out_zero_point, out, out);
}
