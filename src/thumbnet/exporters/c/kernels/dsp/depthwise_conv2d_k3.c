#include "tn_depthwise.h"

static uint32_t *pack(const int8_t *weight, uint32_t shift, uint32_t *words)
{
    for (int i = 0; i < 3; i++, weight += 3) {
        const uint32_t first = (uint32_t)weight[0] << shift;
        const uint32_t middle = (uint32_t)weight[1] << shift;
        const uint32_t last = (uint32_t)weight[2] << shift;
        *words++ = tn_taps(first, middle);
        *words++ = tn_taps(middle, last);
    }
    return words;
}

void tn_depthwise_conv2d_k3s1_dsp(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch)
{
    static const tn_depthwise_kind kind = {tn_depthwise_k3s1_rows_dsp, pack, 6, 0, 0};
    tn_depthwise_dsp(p, in, out, scratch, &kind);
}

void tn_depthwise_conv2d_k3s1_positive_dsp(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch)
{
    static const tn_depthwise_kind kind = {tn_depthwise_k3s1_positive_rows_dsp, pack, 6, 0, 1};
    tn_depthwise_dsp(p, in, out, scratch, &kind);
}

void tn_depthwise_conv2d_k3s2_dsp(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch)
{
    static const tn_depthwise_kind kind = {tn_depthwise_k3s2_rows_dsp, pack, 6, 0, 0};
    tn_depthwise_dsp(p, in, out, scratch, &kind);
}

void tn_depthwise_conv2d_k3s2_positive_dsp(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch)
{
    static const tn_depthwise_kind kind = {tn_depthwise_k3s2_positive_rows_dsp, pack, 6, 0, 1};
    tn_depthwise_dsp(p, in, out, scratch, &kind);
}
