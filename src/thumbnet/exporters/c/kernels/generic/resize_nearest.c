#include "tn_kernels.h"

void tn_resize_nearest(const tn_resize_params *p, const int8_t *in, int8_t *out)
{
    for (int y = 0; y < p->out_h; y++) {
        const int8_t *const row = in + (size_t)(y * p->in_h / p->out_h * p->in_w) * p->channels;
        for (int x = 0; x < p->out_w; x++, out += p->channels) {
            memcpy(out, row + (size_t)(x * p->in_w / p->out_w) * p->channels, p->channels);
        }
    }
}
