#include "tn_kernels.h"

/* Copies `blocks` runs of `bytes`, the next ones `in_step` and `out_step` further on: concat and slice. */
void tn_copy_blocks(const int8_t *in, int8_t *out, uint32_t blocks, uint32_t bytes, uint32_t in_step, uint32_t out_step)
{
    for (uint32_t i = 0; i < blocks; i++, in += in_step, out += out_step) {
        memcpy(out, in, bytes);
    }
}
