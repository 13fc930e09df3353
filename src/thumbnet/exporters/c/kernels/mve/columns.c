#include "tn_columns_mve.h"

tn_conv2d_params tn_turned_params_mve(const tn_conv2d_params *p)
{
    tn_conv2d_params turned = *p;
    if (p->in_w == 1 && p->kernel_w == 1 && p->out_w == 1 && p->pad_left == 0) {
        turned.in_w = p->in_h;
        turned.out_w = p->out_h;
        turned.kernel_w = p->kernel_h;
        turned.stride_w = p->stride_h;
        turned.dilation_w = p->dilation_h;
        turned.pad_left = p->pad_top;
        turned.in_h = turned.out_h = 1;
        turned.kernel_h = turned.stride_h = turned.dilation_h = 1;
        turned.pad_top = 0;
    }
    return turned;
}

void tn_orders_mve(const tn_conv2d_params *p, int8_t *orders, int32_t size)
{
    const int32_t span = tn_span_mve(p), taps = p->kernel_h * p->kernel_w;
    tn_fill_mve(orders, -1, span * size);
    for (int32_t first = 0; first < span; first++, orders += size) {
        int32_t place = first, column = 0, left = p->kernel_w;
        for (int32_t tap = 0; tap < taps; tap++) {
            orders[column + place] = (int8_t)tap;
            column += p->dilation_w * span;
            if (--left == 0) {
                left = p->kernel_w;
                column = 0;
                place += p->dilation_h;
                place -= place < span ? 0 : span;
            }
        }
    }
}

tn_columns tn_columns_of_mve(const tn_conv2d_params *p, int8_t *planes)
{
    const int32_t pitch = (p->out_w - 1) * p->stride_w + (p->kernel_w - 1) * p->dilation_w + 1;
    const int32_t room = pitch - p->pad_left;
    tn_columns t;
    t.span = tn_span_mve(p);
    t.planes = planes;
    t.plane_bytes = pitch * t.span;
    t.to = planes + p->pad_left * t.span;
    t.columns = p->in_w < room ? p->in_w : room;
    t.step = p->in_c;
    t.in_row = p->in_w * p->in_c;
    t.rows = p->in_h;
    t.stride = p->stride_h;
    t.pad_top = p->pad_top;
    t.out_row = p->out_w * p->in_c;
    t.out_h = p->out_h;
    t.zero_point = p->in_zero_point;
    return t;
}
