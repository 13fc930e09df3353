#include "tn_kernels.h"

/* The first input row, padding included (so it may be negative), that a stage reads for output row `row`. */
static int32_t first_row(const tn_conv2d_params *p, int32_t row)
{
    return row * p->stride_h - p->pad_top;
}

/* How many input rows must be there so that the stage can compute its first `rows` output rows. */
static int32_t rows_needed(const tn_conv2d_params *p, int32_t rows)
{
    const int32_t end = first_row(p, rows - 1) + (p->kernel_h - 1) * p->dilation_h + 1;
    return end < p->in_h ? (end > 0 ? end : 0) : p->in_h;
}

/* Computes output rows [first, stop) to `out`; `in` holds the input from row `base` on. */
static void compute(const tn_stage *s, int32_t first, int32_t stop, const int8_t *in, int32_t base, int8_t *out,
                    void *scratch)
{
    tn_conv2d_params p = *s->params;
    const int32_t top = first_row(&p, first);
    const int32_t row = top > 0 ? top : 0;
    p.pad_top = (uint8_t)(row - top);
    p.in_h = (uint16_t)(p.in_h - row);
    p.out_h = (uint16_t)(stop - first);
    p.strip = p.strip < p.out_h ? p.strip : p.out_h;
    s->run(&p, in + (row - base) * p.in_w * p.in_c, out, scratch);
    if (s->clamp != NULL) {
        s->clamp(out, (uint32_t)p.out_h * p.out_w * p.out_c, p.low, p.high);
    }
}

/* A chain of convolutions, computed a few rows at a time, so that no tensor between them exists as a whole: `rows`
 * rows of the last one, and before that whatever rows of the others these need and that are not there yet. Each stage
 * but the last keeps its rows at `buffers + offset` until the next stage has read them for the last time.
 * Order: the first stage reads the input's rows in order, the last one writes the output's rows in order; the memory
 * planner replays this schedule to see how far the output may overlap the input. */
void tn_cascade(const tn_stage *stages, int32_t count, int32_t rows, const int8_t *in, int8_t *out, int8_t *buffers,
                void *scratch)
{
    int32_t done[TN_MAX_STAGES], base[TN_MAX_STAGES], need[TN_MAX_STAGES];
    const tn_conv2d_params *const last = stages[count - 1].params;
    for (int32_t j = 0; j < TN_MAX_STAGES; j++) {
        done[j] = 0;
        base[j] = 0;
    }
    while (done[count - 1] < last->out_h) {
        need[count - 1] = done[count - 1] + rows < last->out_h ? done[count - 1] + rows : last->out_h;
        for (int32_t j = count - 1; j > 0; j--) {
            need[j - 1] = rows_needed(stages[j].params, need[j]);
        }
        for (int32_t j = 0; j < count; j++) {
            const tn_conv2d_params *const p = stages[j].params;
            const int32_t bytes = p->out_w * p->out_c;
            const int8_t *const from = j > 0 ? buffers + stages[j - 1].offset : in;
            int8_t *to;
            if (need[j] <= done[j]) {
                continue;
            }
            if (j == count - 1) {
                to = out + done[j] * bytes;
            } else {
                int8_t *const buffer = buffers + stages[j].offset;
                const int32_t next = first_row(stages[j + 1].params, done[j + 1]);
                const int32_t keep = next < base[j] ? base[j] : next < done[j] ? next : done[j];
                memmove(buffer, buffer + (keep - base[j]) * bytes, (size_t)((done[j] - keep) * bytes));
                base[j] = keep;
                to = buffer + (done[j] - keep) * bytes;
            }
            compute(&stages[j], done[j], need[j], from, j > 0 ? base[j - 1] : 0, to, scratch);
            done[j] = need[j];
        }
    }
}
