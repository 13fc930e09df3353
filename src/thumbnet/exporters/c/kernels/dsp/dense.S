/* Dense layers with one multiplier for all outputs, for cores with the DSP extension (Armv7E-M, Armv8-M).
 *
 * Two channels share each 16-bit lane of the weights, as in pairs.S. `packed` holds, for each group of four channels:
 *   initial accumulators    a, a + 256 b, c, c + 256 d
 *   for each eight inputs   ab and cd of inputs 0 2, of 1 3, of 4 6, of 5 7
 */
#include "tn_dense.h"

    .set UNROLL, 4
    .set STEP_BYTES, 124
    .set ROOM, 0

    .macro prepare
    .endm

    .macro four_values x, y
    ldm r1!, {r10, r11, r12, lr}
    smlad r3, \x, r10, r3
    smlad r5, \x, r11, r5
    smlad r3, \y, r12, r3
    smlad r5, \y, lr, r5
    sxtb16 r10, r10
    sxtb16 r11, r11
    sxtb16 r12, r12
    sxtb16 lr, lr
    smlad r2, \x, r10, r2
    smlad r4, \x, r11, r4
    smlad r2, \y, r12, r2
    smlad r4, \y, lr, r4
    .endm

    .macro step
    ldrd r6, r7, [r0], #8
    sxtb16 r8, r6
    sxtb16 r6, r6, ror #8
    sxtb16 r9, r7
    sxtb16 r7, r7, ror #8
    four_values r8, r6
    four_values r9, r7
    .endm

    .macro separate
    sub r3, r3, r2
    sub r5, r5, r4
    asrs r3, r3, #7
    asrs r5, r5, #7
    lsls r2, r2, #1
    lsls r4, r4, #1
    .endm

    .section .text.tn_dense_dsp, "ax", %progbits
    .balign 4
    .global tn_dense_dsp
    .type tn_dense_dsp, %function
    .thumb_func
tn_dense_dsp:
    dense
    .size tn_dense_dsp, . - tn_dense_dsp
