#include "tn_kernels.h"

/* Output pixel (y, x) is input pixel (rows[y], columns[x]). Order: pixel by pixel in raster order. */
void tn_take(const tn_take_params *p, const int8_t *in, int8_t *out)
{
    for (int32_t y = 0; y < p->out_h; y++) {
        const int8_t *const row = in + p->rows[y] * p->in_w * p->channels;
        for (int32_t x = 0; x < p->out_w; x++, out += p->channels) {
            memcpy(out, row + p->columns[x] * p->channels, p->channels);
        }
    }
}
