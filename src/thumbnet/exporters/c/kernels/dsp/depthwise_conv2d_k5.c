#include "tn_depthwise.h"

static uint32_t *pack_s1(const int8_t *weight, uint32_t shift, uint32_t *words)
{
    static const uint8_t first[20] = {0, 5, 10, 15, 20, 2, 7, 12, 17, 22, 1, 6, 11, 16, 21, 3, 8, 13, 18, 23};
    for (int i = 0; i < 20; i++) {
        const int8_t *const w = weight + first[i];
        *words++ = tn_taps((uint32_t)w[0] << shift, (uint32_t)w[1] << shift);
    }
    return words;
}

static uint32_t *pack_s2(const int8_t *weight, uint32_t shift, uint32_t *words)
{
    static const uint8_t first[15] = {0, 5, 2, 7, 3, 8, 10, 15, 12, 17, 13, 18, 20, 22, 23};
    for (int i = 0; i < 15; i++) {
        const int8_t *const w = weight + first[i];
        *words++ = tn_taps((uint32_t)w[0] << shift, (uint32_t)w[1] << shift);
    }
    return words;
}

void tn_depthwise_conv2d_k5s1_dsp(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch)
{
    static const tn_depthwise_kind kind = {tn_depthwise_k5s1_rows_dsp, pack_s1, 20, 1, 0};
    tn_depthwise_dsp(p, in, out, scratch, &kind);
}

void tn_depthwise_conv2d_k5s1_positive_dsp(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch)
{
    static const tn_depthwise_kind kind = {tn_depthwise_k5s1_positive_rows_dsp, pack_s1, 20, 1, 1};
    tn_depthwise_dsp(p, in, out, scratch, &kind);
}

void tn_depthwise_conv2d_k5s2_dsp(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch)
{
    static const tn_depthwise_kind kind = {tn_depthwise_k5s2_rows_dsp, pack_s2, 15, 1, 0};
    tn_depthwise_dsp(p, in, out, scratch, &kind);
}

void tn_depthwise_conv2d_k5s2_positive_dsp(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch)
{
    static const tn_depthwise_kind kind = {tn_depthwise_k5s2_positive_rows_dsp, pack_s2, 15, 1, 1};
    tn_depthwise_dsp(p, in, out, scratch, &kind);
}
