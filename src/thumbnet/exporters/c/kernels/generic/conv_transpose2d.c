#include "tn_kernels.h"

/* Row by row; output row y is row y / count of phase y % count, a convolution (see tn_phase). A phase may write more
 * columns than a row has: what spills belongs to the next rows, which come later; only where there are none a row goes
 * by way of the scratch memory. Scratch: what the phases need, and behind `spill` bytes a row as a phase writes it.
 * Order: rows of the output in raster order; all inputs of a row lie behind it. */
void tn_conv_transpose2d(const tn_conv_transpose2d_params *p, const int8_t *in, int8_t *out, void *scratch)
{
    for (int32_t y = 0; y < p->out_h; y++, out += p->row) {
        const tn_phase *const s = &p->phases[y % p->count];
        const int32_t top = s->first + y / p->count;
        tn_conv2d_params row = *s->params;
        const uint32_t bytes = (uint32_t)row.out_w * row.out_c;
        const int32_t start = top > 0 && top < row.in_h ? top : 0;
        int8_t *to = out;
        row.pad_top = top < row.in_h ? (uint8_t)(start - top) : row.kernel_h; /* beyond the input: padding alone */
        row.in_h = (uint16_t)(row.in_h - start);
        row.out_h = 1;
        if (bytes > p->row * (uint32_t)(p->out_h - y)) {
            to = (int8_t *)scratch + p->spill;
        }
        s->run(&row, in + start * row.in_w * row.in_c, to, scratch);
        if (s->clamp != NULL) {
            s->clamp(to, bytes, row.low, row.high);
        }
        if (to != out) {
            memcpy(out, to, p->row);
        }
    }
}
