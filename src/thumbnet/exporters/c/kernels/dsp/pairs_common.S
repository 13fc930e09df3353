/* What pairs.S and pairs_int4.S share: columns from runs of two pixels, and requantization of groups of channels. */
#include "tn_pairs.h"

    .section .text.tn_widen2_dsp, "ax", %progbits
    .balign 4

/* r0 p, r1 q, r2 columns, r3 bytes: widens a run of both pixels. Advances r0 to r2; r4 to r10 are lost. */
    .global tn_widen
    .type tn_widen, %function
    .thumb_func
tn_widen:
    lsrs r10, r3, #2
    beq 2f
1:  ldr r4, [r0], #4
    ldr r5, [r1], #4
    subs r10, r10, #1
    sxtb16 r6, r4
    sxtb16 r7, r5
    sxtb16 r8, r4, ror #8
    sxtb16 r9, r5, ror #8
    stm r2!, {r6, r7, r8, r9}
    bne 1b
2:  ands r10, r3, #3
    beq 5f
    ldrsb r6, [r0], #1
    ldrsb r7, [r1], #1
    cmp r10, #2
    blo 4f
    ldrsb r8, [r0], #1
    ldrsb r9, [r1], #1
    beq 3f
    ldrsb r4, [r0], #1
    ldrsb r5, [r1], #1
    pkhbt r6, r6, r4, lsl #16
    pkhbt r7, r7, r5, lsl #16
    stm r2!, {r6, r7, r8, r9}
    bx lr
3:  pkhbt r6, r6, r8, lsl #16
    pkhbt r7, r7, r9, lsl #16
4:  stm r2!, {r6, r7}
5:  bx lr
    .size tn_widen, . - tn_widen

/* uint32_t *tn_widen2_dsp(const int8_t *p, const int8_t *q, uint32_t *columns, int32_t bytes)
 * Writes a run of both pixels into `columns`; returns its end. */
    .global tn_widen2_dsp
    .type tn_widen2_dsp, %function
    .thumb_func
tn_widen2_dsp:
    push {r4, r5, r6, r7, r8, r9, r10, lr}
    bl tn_widen
    mov r0, r2
    pop {r4, r5, r6, r7, r8, r9, r10, pc}
    .size tn_widen2_dsp, . - tn_widen2_dsp

/* Requantization. r2 and r6 hold D_a of p and q, r3 and r7 256 D_b, r4 and r8 D_c, r5 and r9 256 D_d; all become
 * outputs. r1 is at what the tail reads: a word with a shift of each channel, then more of each. */

/* Any output: ssat8((((round(2 D multiplier / 2^32) adjusted for its sign) >> (shift - 1)) + 1 + 2 zero_point) >> 1),
 * which equals both roundings of TFLite Micro for right shifts >= 1 and |D| < 2^30. Reads right shifts - 1 and
 * multipliers (Q31), those of a and c doubled, less 2^32: with these, 2 D multiplier = 2^32 D + D m. */
    .macro any p, q
    add \p, \p, \p, asr #31
    add \q, \q, \q, asr #31
    asr \p, \p, r11
    asr \q, \q, r11
    add \p, \p, lr
    add \q, \q, lr
    ssat \p, #8, \p, asr #1
    ssat \q, #8, \q, asr #1
    .endm

    .macro any_two p, q, p_odd, q_odd
    ldm r1!, {r10, r12}
    asrs \p_odd, \p_odd, #7
    asr \q_odd, \q_odd, #7
    smmlar \p, \p, r10, \p
    smmlar \q, \q, r10, \q
    smmulr \p_odd, \p_odd, r12
    smmulr \q_odd, \q_odd, r12
    any \p, \q
    lsr r11, r11, #8
    any \p_odd, \q_odd
    .endm

    .section .text.tn_tail_dsp, "ax", %progbits
    .balign 4
    .global tn_tail_dsp
    .type tn_tail_dsp, %function
    .thumb_func
tn_tail_dsp:
    ldr r11, [r1], #4
    ldr lr, [sp, #ROUNDING]
    any_two r2, r6, r3, r7
    lsr r11, r11, #8
    any_two r4, r8, r5, r9
    ldr pc, [sp, #STORE]
    .size tn_tail_dsp, . - tn_tail_dsp

/* Outputs whose negative values all end at the lower clamp, so that the sign needs no adjustment. Then both roundings
 * are one: ssat8((2^s D multiplier + 2^32 rounding) >> (31 + s + shift)), where the rounding is 2^(s - 2) +
 * (1 + 2 zero_point) 2^(s + shift - 2). For a and c, s = 17 - shift; for b and d, s = 8. Reads s of a and c and shift + 7
 * of b and d, then multiplier and rounding of each channel. */
    .macro positive_two p, q, p_odd, q_odd
    ldm r1!, {r10, r11, r12, lr}
    lsls \p, \p, r0
    lsl \q, \q, r0
    smmla \p, \p, r10, r11
    smmla \q, \q, r10, r11
    lsrs r0, r0, #8
    smmla \p_odd, \p_odd, r12, lr
    smmla \q_odd, \q_odd, r12, lr
    ssat \p, #8, \p, asr #16
    ssat \q, #8, \q, asr #16
    asrs \p_odd, \p_odd, r0
    asr \q_odd, \q_odd, r0
    ssat \p_odd, #8, \p_odd
    ssat \q_odd, #8, \q_odd
    .endm

    .section .text.tn_tail_positive_dsp, "ax", %progbits
    .balign 4
    .global tn_tail_positive_dsp
    .type tn_tail_positive_dsp, %function
    .thumb_func
tn_tail_positive_dsp:
    ldr r0, [r1], #4
    positive_two r2, r6, r3, r7
    lsrs r0, r0, #8
    positive_two r4, r8, r5, r9
    ldr pc, [sp, #STORE]
    .size tn_tail_positive_dsp, . - tn_tail_positive_dsp
