#include "tn_kernels.h"

/* Copies runs of bytes that lie at regular steps in the input: transposed, strided and blocked images. */
void tn_move(const tn_move_params *p, const int8_t *in, int8_t *out)
{
    in += p->start;
    for (int32_t a = 0; a < p->size[0]; a++) {
        for (int32_t b = 0; b < p->size[1]; b++) {
            for (int32_t c = 0; c < p->size[2]; c++) {
                const int8_t *from = in + a * p->step[0] + b * p->step[1] + c * p->step[2];
                for (int32_t d = 0; d < p->size[3]; d++, from += p->step[3]) {
                    if (p->run == 1) {
                        *out++ = *from;
                    } else {
                        memcpy(out, from, p->run);
                        out += p->run;
                    }
                }
            }
        }
    }
}
