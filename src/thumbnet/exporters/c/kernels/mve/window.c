#include "tn_mve.h"

/* Tap by tap, for windows with gaps. */
static void with_gaps(const tn_conv2d_params *p, const int8_t *in, int32_t top, int32_t left, int8_t *column,
                      int32_t step)
{
    for (int32_t i = 0, row = top; i < p->kernel_h; i++, row += p->dilation_h, column += step) {
        int8_t *to = column;
        for (int32_t j = 0, at = left; j < p->kernel_w; j++, at += p->dilation_w, to += p->in_c) {
            if (row >= 0 && row < p->in_h && at >= 0 && at < p->in_w) {
                tn_copy_mve(to, in + (row * p->in_w + at) * p->in_c, p->in_c);
            } else {
                tn_fill_mve(to, p->in_zero_point, p->in_c);
            }
        }
    }
}

void tn_window_mve(const tn_conv2d_params *p, const int8_t *in, int32_t top, int32_t left, int8_t *column, int32_t step)
{
    const int32_t depth = p->in_c;
    const int32_t below = p->in_h - top, right = p->in_w - left;
    const int32_t first_row = top < 0 ? -top : 0, end_row = below < p->kernel_h ? below : p->kernel_h;
    const int32_t first = left < 0 ? -left : 0, end = right < p->kernel_w ? right : p->kernel_w;
    tn_rows r;
    if (p->dilation_h * p->dilation_w != 1) {
        with_gaps(p, in, top, left, column, step);
        return;
    }
    r.rows = end_row - first_row;
    r.bytes = (end - first) * depth;
    r.from_step = p->in_w * depth;
    r.to_step = step;
    if (r.rows != p->kernel_h || end - first != p->kernel_w) {
        tn_fill_mve(column, p->in_zero_point, p->kernel_h * step);
        if (r.rows <= 0 || r.bytes <= 0) {
            return;
        }
    }
    in += (top + first_row) * r.from_step + (left + first) * depth;
    tn_copy_rows_mve(&r, in, column + first_row * step + first * depth);
}
