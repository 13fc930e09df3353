#include "tn_kernels.h"

/* Order: element by element, read before write; input 2 may only be overwritten when it does not repeat. */
void tn_maximum(const tn_spread *p, const int8_t *in1, const int8_t *in2, int8_t *out)
{
    for (uint32_t i = 0, j = 0; i < p->size; j = j + 1 == p->period ? 0 : j + 1) {
        const int8_t b = in2[j];
        for (const uint32_t stop = i + p->repeat; i < stop; i++) {
            out[i] = in1[i] > b ? in1[i] : b;
        }
    }
}

void tn_minimum(const tn_spread *p, const int8_t *in1, const int8_t *in2, int8_t *out)
{
    for (uint32_t i = 0, j = 0; i < p->size; j = j + 1 == p->period ? 0 : j + 1) {
        const int8_t b = in2[j];
        for (const uint32_t stop = i + p->repeat; i < stop; i++) {
            out[i] = in1[i] < b ? in1[i] : b;
        }
    }
}
