#include "tn_kernels.h"

void tn_pad(const tn_pad_params *p, const int8_t *in, int8_t *out)
{
    const size_t row = (size_t)p->in_w * p->channels;
    const size_t left = (size_t)p->left * p->channels;
    const size_t right = (size_t)p->right * p->channels;
    const size_t top = (row + left + right) * p->top;
    const size_t bottom = (row + left + right) * p->bottom;
    memset(out, p->value, top);
    out += top;
    for (int y = 0; y < p->in_h; y++, in += row, out += left + row + right) {
        memset(out, p->value, left);
        memcpy(out + left, in, row);
        memset(out + left + row, p->value, right);
    }
    memset(out, p->value, bottom);
}
