/* As pairs.S, with weights of 4 bits, for cores with the DSP extension (Armv7E-M, Armv8-M).
 *
 * Weights of four channels a b c d share 16-bit lanes: lane = (a + 8) + 16 (b + 8) + 256 (c + 8) + 4096 d, d signed.
 * SMLAD of the raw word accumulates F_d; of its lanes cut to 12, 8 and 4 bits F_c, F_b and F_a. With X the sum of the
 * window's values, the same for all channels and computed once for each pair of pixels:
 *   D_a = F_a - 8 X, D_b = (F_b - F_a) / 16 - 8 X, D_c = (F_c - F_b) / 256 - 8 X, D_d = (F_d - F_c) / 4096
 * Sums may leave 32 bits on the way; exact as long as |D_b| and |D_c|, bias included, stay below 2^23 and |D_d| below
 * 2^19, which the code generator checks.
 *
 * `packed` holds, for each group of four channels (int32 words):
 *   initial accumulators   a, a + 16 b, a + 16 b + 256 c, a + 16 b + 256 c + 4096 d
 *   for each two values    abcd; an odd last one is followed by weights of 0, for a word behind the columns
 *   what the tail reads    see pairs_common.S
 */
#include "tn_pairs.h"

    .set UNROLL, 4
    .set ROOM, 8 /* SHARED: 8 X of p and q */

    .macro find_entry
    adds r6, r6, #1
    lsrs r6, r6, #1
    add r5, r4, r6, lsl #4
    rsb r6, r6, #1
    and r12, r6, #(UNROLL - 1)
    mov lr, #100 /* bytes of a step; one is done before */
    mul r12, r12, lr
    cmp r6, #0
    ldr r6, =loop + 1
    add r6, r6, r12
    it eq
    ldreq r6, =summed + 1
    .endm

    .macro prepare
    ldrd r0, r12, [sp, #COLUMNS]
    mov lr, #0x00010001
    movs r2, #0
    movs r3, #0
1:  ldm r0!, {r4, r5, r6, r7}
    smlad r2, r4, lr, r2
    smlad r3, r5, lr, r3
    smlad r2, r6, lr, r2
    smlad r3, r7, lr, r3
    cmp r0, r12
    bne 1b
    lsls r2, r2, #3
    lsls r3, r3, #3
    strd r2, r3, [sp, #SHARED]
    .endm

    .macro two_values weights, a, b, c, d
    ldrd r10, r11, [r0], #8
    smlad r9, r11, \weights, \d
    smlad r5, r10, \weights, r5
    bic \weights, \weights, #0xf000f000
    smlad r8, r11, \weights, \c
    smlad r4, r10, \weights, r4
    uxtb16 \weights, \weights
    smlad r7, r11, \weights, \b
    smlad r3, r10, \weights, r3
    and \weights, \weights, #0x000f000f
    smlad r6, r11, \weights, \a
    smlad r2, r10, \weights, r2
    .endm

    .macro first_step
    ldrd r12, lr, [r1], #8
    two_values r12, r2, r3, r4, r5
    two_values lr, r6, r7, r8, r9
    .endm

    .macro next_step
    ldrd r12, lr, [r1], #8
    two_values r12, r6, r7, r8, r9
    two_values lr, r6, r7, r8, r9
    .endm

    .macro separate
    subs r5, r5, r4
    sub r9, r9, r8
    subs r4, r4, r3
    sub r8, r8, r7
    subs r3, r3, r2
    subs r7, r7, r6
    ldrd r10, r11, [sp, #SHARED]
    sub r2, r2, r10
    sub r6, r6, r11
    lsl r10, r10, #8
    lsl r11, r11, #8
    rsb r3, r10, r3, lsl #4
    rsb r7, r11, r7, lsl #4
    sub r4, r4, r10
    sub r8, r8, r11
    asrs r4, r4, #8
    asr r8, r8, #8
    asrs r5, r5, #4
    asr r9, r9, #4
    .endm

    .section .text.tn_pairs_int4_dsp, "ax", %progbits
    .balign 4
    .global tn_pairs_int4_dsp
    .type tn_pairs_int4_dsp, %function
    .thumb_func
tn_pairs_int4_dsp:
    pairs
    .size tn_pairs_int4_dsp, . - tn_pairs_int4_dsp
