#include "tn_kernels.h"

static int8_t maximum(const tn_pool_params *p, const int8_t *in, int top, int left)
{
    int32_t best = INT8_MIN;
    for (int i = top < 0 ? 0 : top; i < top + p->kernel_h && i < p->in_h; i++) {
        for (int j = left < 0 ? 0 : left; j < left + p->kernel_w && j < p->in_w; j++) {
            const int32_t v = in[(size_t)(i * p->in_w + j) * p->channels];
            best = v > best ? v : best;
        }
    }
    return tn_clamp(best, p->low, p->high);
}

/* Order: channel by channel, pixel by pixel in raster order. */
void tn_max_pool2d(const tn_pool_params *p, const int8_t *in, int8_t *out)
{
    for (int c = 0; c < p->channels; c++) {
        int8_t *o = out + c;
        for (int y = 0; y < p->out_h; y++) {
            for (int x = 0; x < p->out_w; x++, o += p->channels) {
                *o = maximum(p, in + c, y * p->stride_h - p->pad_top, x * p->stride_w - p->pad_left);
            }
        }
    }
}
