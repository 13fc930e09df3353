#include "tn_kernels.h"

/* Order: pixels in raster order, or whole rows where no channels are added. */
void tn_pad(const tn_pad_params *p, const int8_t *in, int8_t *out)
{
    const size_t depth = (size_t)p->front + p->channels + p->back;
    const size_t left = p->left * depth, right = p->right * depth;
    const size_t width = left + p->in_w * depth + right;
    memset(out, p->value, p->top * width);
    out += p->top * width;
    for (int y = 0; y < p->in_h; y++) {
        memset(out, p->value, left);
        out += left;
        if (depth == p->channels) {
            memcpy(out, in, p->in_w * depth);
            in += p->in_w * depth;
            out += p->in_w * depth;
        } else {
            for (int x = 0; x < p->in_w; x++, in += p->channels, out += depth) {
                memset(out, p->value, p->front);
                memcpy(out + p->front, in, p->channels);
                memset(out + p->front + p->channels, p->value, p->back);
            }
        }
        memset(out, p->value, right);
        out += right;
    }
    memset(out, p->value, p->bottom * width);
}
