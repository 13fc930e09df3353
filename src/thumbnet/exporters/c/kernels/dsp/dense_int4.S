/* As dense.S, with weights of 4 bits, four channels in each 16-bit lane, as in pairs_int4.S. `packed` holds, for each
 * group of four channels:
 *   initial accumulators    a, a + 16 b, a + 16 b + 256 c, a + 16 b + 256 c + 4096 d
 *   for each eight inputs   abcd of inputs 0 2, of 1 3, of 4 6, of 5 7
 * Exact as long as |D_b| stays below 2^27, |D_c| below 2^23 and |D_d| below 2^19.
 */
#include "tn_dense.h"

    .set UNROLL, 4
    .set STEP_BYTES, 136
    .set ROOM, 4 /* SHARED: 16 X */

    .macro prepare /* USADA8 adds up x + 128, unsigned, of four inputs */
    movs r0, #0
    mov lr, #0
    sub r9, r10, r1
1:  ldrd r3, r12, [r1], #8
    eor r3, r3, #0x80808080
    eor r12, r12, #0x80808080
    usada8 r0, r3, lr, r0
    usada8 r0, r12, lr, r0
    cmp r1, r10
    bne 1b
    sub r0, r0, r9, lsl #7
    lsls r0, r0, #4
    str r0, [sp, #SHARED]
    .endm

    .macro two_values x, weights
    smlad r5, \x, \weights, r5
    bic \weights, \weights, #0xf000f000
    smlad r4, \x, \weights, r4
    uxtb16 \weights, \weights
    smlad r3, \x, \weights, r3
    and \weights, \weights, #0x000f000f
    smlad r2, \x, \weights, r2
    .endm

    .macro step
    ldrd r6, r7, [r0], #8
    ldm r1!, {r10, r11, r12, lr}
    sxtb16 r8, r6
    sxtb16 r6, r6, ror #8
    sxtb16 r9, r7
    sxtb16 r7, r7, ror #8
    two_values r8, r10
    two_values r6, r11
    two_values r9, r12
    two_values r7, lr
    .endm

    .macro separate
    ldr r6, [sp, #SHARED]
    subs r5, r5, r4
    subs r4, r4, r3
    subs r3, r3, r2
    rsb r2, r6, r2, lsl #1
    sub r3, r3, r6, lsl #3
    sub r4, r4, r6, lsl #7
    asrs r3, r3, #3
    asrs r4, r4, #7
    asrs r5, r5, #11
    .endm

    .section .text.tn_dense_int4_dsp, "ax", %progbits
    .balign 4
    .global tn_dense_int4_dsp
    .type tn_dense_int4_dsp, %function
    .thumb_func
tn_dense_int4_dsp:
    dense
    .size tn_dense_int4_dsp, . - tn_dense_int4_dsp
