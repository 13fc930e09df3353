/* Convolutions of two pixels with groups of four channels, for cores with the DSP extension (Armv7E-M, Armv8-M).
 *
 * Weights of two channels A and B share 16-bit lanes: lane = A + 256 B. SMLAD of the raw word accumulates
 * F = D_A + 256 D_B, SXTB16 recovers A and with it D_A, and D_B = (F - D_A) / 256 at the end. Exact as long as every
 * lane fits 16 bits and |D_B|, bias included, stays below 2^23; the code generator checks both.
 *
 * `packed` holds, for each group of four channels a b c d (int32 words):
 *   initial accumulators   a, a + 256 b, c, c + 256 d
 *   for each two values    ab, cd
 *   what the tail reads    see pairs_common.S
 */
#include "tn_pairs.h"

    .set UNROLL, 8
    .set ROOM, 0

    .macro find_entry
    add r5, r4, r6, lsl #3
    ldr r12, =loop + 1
    rsbs r6, r6, #1
    and r6, r6, #(UNROLL - 1)
    add r6, r6, r6, lsl #1
    add r6, r12, r6, lsl #4 /* a step takes 48 bytes, and one is done before */
    it eq
    ldreq r6, =summed + 1
    .endm

    .macro prepare
    .endm

    .macro step a, ab, c, cd
    ldrd r10, r11, [r0], #8
    ldrd r12, lr, [r1], #8
    smlad r7, r11, r12, \ab
    smlad r3, r10, r12, r3
    smlad r9, r11, lr, \cd
    smlad r5, r10, lr, r5
    sxtb16 r12, r12
    sxtb16 lr, lr
    smlad r6, r11, r12, \a
    smlad r2, r10, r12, r2
    smlad r8, r11, lr, \c
    smlad r4, r10, lr, r4
    .endm

    .macro first_step
    step r2, r3, r4, r5
    .endm

    .macro next_step
    step r6, r7, r8, r9
    .endm

    .macro separate
    sub r3, r3, r2
    sub r7, r7, r6
    sub r5, r5, r4
    sub r9, r9, r8
    .endm

    .section .text.tn_pairs_dsp, "ax", %progbits
    .balign 4
    .global tn_pairs_dsp
    .type tn_pairs_dsp, %function
    .thumb_func
tn_pairs_dsp:
    pairs
    .size tn_pairs_dsp, . - tn_pairs_dsp
