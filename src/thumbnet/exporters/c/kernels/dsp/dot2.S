/* Dot products of two columns with groups of four channels, for cores with the DSP extension (Armv7E-M, Armv8-M).
 *
 * Weights of two channels A and B share 16-bit lanes: lane = A + 256 B. SMLAD of the raw word accumulates
 * F = D_A + 256 D_B, SXTB16 recovers A and with it D_A, and D_B = (F - D_A) / 256 at the end. Exact as long as no B is
 * -128 and |D_B|, bias included, stays below 2^23; the code generator checks both.
 *
 * `columns` holds, for each four values k of the two columns p and q:   p0 p2 | q0 q2 | p1 p3 | q1 q3   (int16)
 * `packed` holds, for each group of four channels a b c d (int32 words):
 *   initial accumulators   a, a + 256 b, c, c + 256 d
 *   for each four values k   ab of k0 k2 | cd of k0 k2 | ab of k1 k3 | cd of k1 k3
 *   right shifts - 1         one byte per channel
 *   multipliers              a, b, c, d (Q31)
 *
 * Requantization: y = ssat8((((round31(2 acc * multiplier) adjusted for sign) >> (shift - 1)) + 1 + 2 zero_point) >> 1),
 * which equals both roundings of TFLite Micro for shifts >= 1 and |acc| < 2^30.
 */
    .syntax unified
    .thumb

    .macro two_values
    ldrd r10, r11, [r0], #8
    ldr r12, [r1], #4
    sxtb16 lr, r12
    smlad r3, r10, r12, r3
    smlad r7, r11, r12, r7
    smlad r2, r10, lr, r2
    smlad r6, r11, lr, r6
    ldr r12, [r1], #4
    sxtb16 lr, r12
    smlad r5, r10, r12, r5
    smlad r9, r11, r12, r9
    smlad r4, r10, lr, r4
    smlad r8, r11, lr, r8
    .endm

    .macro requantize_pair p, q, rotation
    ldr r10, [r1], #4
    .if \rotation
    uxtb r11, r12, ror #\rotation
    .else
    uxtb r11, r12
    .endif
    smmulr \p, \p, r10
    smmulr \q, \q, r10
    add \p, \p, \p, asr #31
    add \q, \q, \q, asr #31
    asr \p, \p, r11
    asr \q, \q, r11
    add \p, \p, lr
    add \q, \q, lr
    ssat \p, #8, \p, asr #1
    ssat \q, #8, \q, asr #1
    .endm

/* const int32_t *tn_dot2_dsp(const uint32_t *columns, const int32_t *packed, int8_t *out_p, int8_t *out_q,
 *                            int32_t groups, const uint32_t *columns_end, int32_t rounding)
 * Returns the end of what it read of `packed`. groups >= 1; rounding = 1 + 2 zero_point. */
    .section .text.tn_dot2_dsp, "ax", %progbits
    .balign 4
    .global tn_dot2_dsp
    .type tn_dot2_dsp, %function
    .thumb_func
tn_dot2_dsp:
    push {r0, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11, lr}
1:  ldm r1!, {r2, r3, r4, r5}
    mov r6, r2
    mov r7, r3
    mov r8, r4
    mov r9, r5
    ldr r0, [sp, #0]
    ldr r12, [sp, #52]
    sub r10, r12, r0
    tst r10, #16
    beq 2f
    two_values
    two_values
    ldr r12, [sp, #52]
    cmp r0, r12
    beq 3f
2:  two_values
    two_values
    two_values
    two_values
    ldr r12, [sp, #52]
    cmp r0, r12
    bne 2b
3:  sub r3, r3, r2
    sub r7, r7, r6
    sub r5, r5, r4
    sub r9, r9, r8
    asr r3, r3, #7
    asr r7, r7, #7
    asr r5, r5, #7
    asr r9, r9, #7
    lsl r2, r2, #1
    lsl r6, r6, #1
    lsl r4, r4, #1
    lsl r8, r8, #1
    ldr r12, [r1], #4
    ldr lr, [sp, #56]
    requantize_pair r2, r6, 0
    requantize_pair r3, r7, 8
    requantize_pair r4, r8, 16
    requantize_pair r5, r9, 24
    ldrd r10, r11, [sp, #4]
    strb r2, [r10], #1
    strb r3, [r10], #1
    strb r4, [r10], #1
    strb r5, [r10], #1
    strb r6, [r11], #1
    strb r7, [r11], #1
    strb r8, [r11], #1
    strb r9, [r11], #1
    strd r10, r11, [sp, #4]
    ldr r12, [sp, #48]
    subs r12, r12, #1
    str r12, [sp, #48]
    bne 1b
    mov r0, r1
    pop {r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11, pc}
    .size tn_dot2_dsp, . - tn_dot2_dsp

/* uint32_t *tn_widen2_dsp(const int8_t *p, const int8_t *q, uint32_t *columns, int32_t blocks)
 * Writes `blocks` times four values of both into `columns`; returns its end. blocks >= 1. */
    .section .text.tn_widen2_dsp, "ax", %progbits
    .balign 4
    .global tn_widen2_dsp
    .type tn_widen2_dsp, %function
    .thumb_func
tn_widen2_dsp:
    push {r4, r5, r6, r7, r8, r9}
1:  ldr r4, [r0], #4
    ldr r5, [r1], #4
    subs r3, r3, #1
    sxtb16 r6, r4
    sxtb16 r7, r5
    sxtb16 r8, r4, ror #8
    sxtb16 r9, r5, ror #8
    stm r2!, {r6, r7, r8, r9}
    bne 1b
    mov r0, r2
    pop {r4, r5, r6, r7, r8, r9}
    bx lr
    .size tn_widen2_dsp, . - tn_widen2_dsp
