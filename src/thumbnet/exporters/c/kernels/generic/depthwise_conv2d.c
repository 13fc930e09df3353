#include "tn_kernels.h"

/* Loads one channel of an input row, padding included, into `line` of `pitch` values. */
static void load_row(const tn_conv2d_params *p, const int8_t *in, int row, int8_t *line, int pitch)
{
    const int stop = p->pad_left + p->in_w < pitch ? p->pad_left + p->in_w : pitch;
    if (row < 0 || row >= p->in_h) {
        memset(line, p->in_zero_point, (size_t)pitch);
        return;
    }
    in += (size_t)(row * p->in_w) * p->in_c;
    memset(line, p->in_zero_point, p->pad_left);
    for (int i = p->pad_left; i < stop; i++, in += p->in_c) {
        line[i] = *in;
    }
    if (stop < pitch) {
        memset(line + stop, p->in_zero_point, (size_t)(pitch - stop));
    }
}

static int32_t window(const tn_conv2d_params *p, const int8_t *line, int pitch, const int8_t *w)
{
    int32_t acc = 0;
    for (int i = 0; i < p->kernel_h; i++, line += p->dilation_h * pitch) {
        const int8_t *v = line;
        for (int j = 0; j < p->kernel_w; j++, v += p->dilation_w) {
            acc += *v * *w++;
        }
    }
    return acc;
}

/* Weights [out_c][kernel_h][kernel_w]; output channel c reads input channel c / (out_c / in_c).
 * Scratch: `strip` output rows' worth of input rows of one channel, each as wide as the kernel's last position needs.
 * Order: channel by channel; within one, a strip's input rows are read before its output rows are written, and each
 * input row is read once: in and out may be the same when in_c == out_c and no dimension grows. */
void tn_depthwise_conv2d(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch)
{
    const tn_conv2d_constants *const k = (const tn_conv2d_constants *)p->constants;
    int8_t *const lines = (int8_t *)scratch;
    const int pitch = (p->out_w - 1) * p->stride_w + (p->kernel_w - 1) * p->dilation_w + 1;
    const int span = (p->kernel_h - 1) * p->dilation_h + 1;
    const int copies = p->out_c / p->in_c;
    for (int c = 0; c < p->out_c; c++) {
        const int8_t *const w = k->weight + c * p->kernel_h * p->kernel_w;
        int loaded = 0; /* rows of the padded input that have been read */
        for (int first = 0; first < p->out_h; first += p->strip) {
            const int stop = first + p->strip < p->out_h ? first + p->strip : p->out_h;
            const int base = first * p->stride_h;
            const int end = (stop - 1) * p->stride_h + span;
            if (loaded > base) {
                memmove(lines, lines + p->strip * p->stride_h * pitch, (size_t)((loaded - base) * pitch));
            } else {
                loaded = base;
            }
            for (; loaded < end; loaded++) {
                load_row(p, in + c / copies, loaded - p->pad_top, lines + (loaded - base) * pitch, pitch);
            }
            for (int y = first; y < stop; y++) {
                const int8_t *line = lines + (y * p->stride_h - base) * pitch;
                int8_t *o = out + (size_t)(y * p->out_w) * p->out_c + c;
                for (int x = 0; x < p->out_w; x++, line += p->stride_w, o += p->out_c) {
                    const int32_t acc = k->bias[c] + window(p, line, pitch, w);
                    const int32_t v = tn_scale(acc, k->multiplier[c], k->shift[c]) + p->out_zero_point;
                    *o = tn_clamp(v, p->low, p->high);
                }
            }
        }
    }
}
