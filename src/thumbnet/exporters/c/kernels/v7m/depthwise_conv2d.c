#include "tn_kernels_v7m.h"

#define LANE ((int32_t)1 << 23)

/* A row of the input: nothing lies outside of the image but the zero point, again and again. */
typedef struct {
    const int8_t *values;
    int32_t step;
} source;

static source row_of(const tn_conv2d_params *p, const int8_t *in, int32_t row, int32_t end)
{
    const int inside = row >= 0 && row < end;
    const source found = {inside ? in + row * p->in_w * p->in_c : &p->in_zero_point, inside ? p->in_c : 0};
    return found;
}

static void fill(int32_t *words, int32_t value, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        words[i] = value;
    }
}

/* The lower of a line's two rows becomes the upper one of another line; `q` joins it. */
static void carry(const int32_t *from, source q, int32_t *line, int32_t count)
{
    for (int32_t i = 0; i < count; i++, q.values += q.step) {
        line[i] = ((from[i] + LANE / 2) >> 23) + *q.values * LANE;
    }
}

/* Weights [out_c][kernel_h][kernel_w], shifts are right shifts - 1, biases the offsets of quads.S; output channel c reads
 * input channel c / (out_c / in_c). No dilation.
 * Scratch: see thumbnet.cost.kernels_v7m. Each line holds an input row of the upper half of a strip and one of the lower
 * half.
 * Order: channel by channel; within one, a strip's input rows are read before its output rows are written, and those
 * that the next strip needs again are kept: in and out may be the same when in_c == out_c and no dimension grows. */
void tn_depthwise_v7m(const tn_conv2d_params *p, const int8_t *in, int8_t *out, void *scratch, tn_rows_function *rows)
{
    const tn_conv2d_constants *const k = (const tn_conv2d_constants *)p->constants;
    const int32_t taps = p->kernel_h * p->kernel_w;
    const int32_t pitch = (((p->out_w + 1) & ~1) - 1) * p->stride_w + p->kernel_w;
    const int32_t room = pitch - p->pad_left;
    const int32_t columns = p->in_w < room ? p->in_w : room;
    const int32_t most = (((p->strip + 1) >> 1) - 1) * p->stride_h + p->kernel_h;
    const int32_t copies = p->out_c / p->in_c;
    int32_t *const weights = (int32_t *)scratch;
    int32_t *const lines = weights + taps;
    tn_rows_v7m r;
    fill(lines, p->in_zero_point * (1 + LANE), most * pitch);
    r.rounding = 1 + 2 * p->out_zero_point;
    r.x_step = 4 * p->stride_w;
    r.weights = weights;
    r.pitch = 4 * pitch;
    r.back = 2 * r.x_step - p->kernel_h * r.pitch;
    r.row_step = p->stride_h * r.pitch;
    r.columns = p->out_w - 1;
    r.out_step = p->out_c;
    r.row_bytes = p->out_w * p->out_c;
    r.kernel_h = p->kernel_h;
    r.kernel_w = p->kernel_w;
    for (int32_t c = 0; c < p->out_c; c++) {
        const int8_t *const from = in + c / copies;
        int32_t kept = 0, at = 0; /* lines whose lower rows are needed again, and where they begin */
        for (int32_t i = 0; i < taps; i++) {
            weights[i] = k->weight[c * taps + i];
        }
        r.offset = k->bias[c];
        r.multiplier = k->multiplier[c];
        r.shift = k->shift[c];
        r.row_out = out + c;
        for (int32_t first = 0; first < p->out_h; first += p->strip) {
            const int32_t count = first + p->strip < p->out_h ? p->strip : p->out_h - first;
            const int32_t half = (count + 1) >> 1;
            const int32_t held = (half - 1) * p->stride_h + p->kernel_h;
            const int32_t upper = first * p->stride_h - p->pad_top;
            const int32_t lower = upper + half * p->stride_h;
            const int32_t needed = upper + (count - 1) * p->stride_h + p->kernel_h;
            const int32_t end = needed < p->in_h ? needed : p->in_h;
            int32_t *line = lines + p->pad_left;
            for (int32_t i = 0; i < held && columns > 0; i++, line += pitch) {
                const source q = row_of(p, from, lower + i, end);
                if (i < kept) {
                    carry(line + at * pitch, q, line, columns);
                } else {
                    const source o = row_of(p, from, upper + i, end);
                    tn_pair_rows_v7m(o.values, q.values, line, columns, o.step, q.step);
                }
            }
            kept = p->kernel_h - p->stride_h;
            at = half * p->stride_h;
            r.line = lines;
            r.rows = half;
            r.odd = count & 1;
            r.half = half * r.row_bytes;
            rows(&r);
            r.row_out += count * r.row_bytes;
        }
    }
}
