#include "tn_depthwise.h"

static void pack_s1(const int8_t *w, uint32_t *words)
{
    for (int i = 0; i < 5; i++, w += 5, words += 6) {
        words[0] = tn_tap_pair(w[0], w[1]);
        words[1] = tn_tap_pair(w[2], w[3]);
        words[2] = tn_tap_pair(w[4], 0);
        words[3] = tn_tap_pair(0, w[0]);
        words[4] = tn_tap_pair(w[1], w[2]);
        words[5] = tn_tap_pair(w[3], w[4]);
    }
}

static void pack_s2(const int8_t *w, uint32_t *words)
{
    for (int i = 0; i < 5; i++, w += 5, words += 3) {
        words[0] = tn_tap_pair(w[0], w[1]);
        words[1] = tn_tap_pair(w[2], w[3]);
        words[2] = tn_tap_pair(w[4], 0);
    }
}

/* 5x5, one output channel per input channel, horizontal stride 1 or 2. `shift` is the right shift - 1.
 * Scratch: see thumbnet.cost.kernels, int16 lines of one channel. */
void tn_depthwise_conv2d_k5_dsp(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch)
{
    const int one = p->stride_w == 1;
    tn_depthwise(p, in, out, (int16_t *)scratch, one ? pack_s1 : pack_s2,
                 one ? tn_depthwise_rows_k5s1_dsp : tn_depthwise_rows_k5s2_dsp);
}
