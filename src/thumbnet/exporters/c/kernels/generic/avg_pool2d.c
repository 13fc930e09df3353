#include "tn_kernels.h"

/* Mean of the taps inside the image, rounded half away from zero. */
static int8_t mean(const tn_pool_params *p, const int8_t *in, int top, int left)
{
    int32_t sum = 0;
    int32_t taps = 0;
    for (int i = top < 0 ? 0 : top; i < top + p->kernel_h && i < p->in_h; i++) {
        for (int j = left < 0 ? 0 : left; j < left + p->kernel_w && j < p->in_w; j++) {
            sum += in[(size_t)(i * p->in_w + j) * p->channels];
            taps++;
        }
    }
    return tn_clamp((sum > 0 ? sum + taps / 2 : sum - taps / 2) / taps, p->low, p->high);
}

/* Order: channel by channel, pixel by pixel in raster order. */
void tn_avg_pool2d(const tn_pool_params *p, const int8_t *in, int8_t *out)
{
    for (int c = 0; c < p->channels; c++) {
        int8_t *o = out + c;
        for (int y = 0; y < p->out_h; y++) {
            for (int x = 0; x < p->out_w; x++, o += p->channels) {
                *o = mean(p, in + c, y * p->stride_h - p->pad_top, x * p->stride_w - p->pad_left);
            }
        }
    }
}
