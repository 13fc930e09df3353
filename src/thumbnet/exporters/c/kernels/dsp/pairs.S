/* Convolutions of two pixels with groups of four channels, for cores with the DSP extension (Armv7E-M, Armv8-M).
 *
 * Weights of two channels A and B share 16-bit lanes: lane = A + 256 B. SMLAD of the raw word accumulates
 * F = D_A + 256 D_B, SXTB16 recovers A and with it D_A, and D_B = (F - D_A) / 256 at the end. Exact as long as every
 * lane fits 16 bits and |D_B|, bias included, stays below 2^23; the code generator checks both.
 *
 * A window is `rows` runs of `run` bytes. `columns` holds two words, of pixel p and of pixel q, for each two values of
 * a run: of four values 0 2 and 1 3, of the last one to three values 0 and none, 0 1, or 0 2 and 1 and none.
 * `packed` holds, for each group of four channels a b c d (int32 words):
 *   initial accumulators   a, a + 256 b, c, c + 256 d
 *   for each two values    ab, cd
 *   what the tail reads    see there
 */
    .syntax unified
    .thumb

    .set COLUMNS, 0 /* tn_pairs, copied to the stack */
    .set COLUMNS_END, 4
    .set ENTRY, 8
    .set TAIL, 12
    .set PACKED, 16
    .set OUT_P, 20
    .set OUT_Q, 24
    .set END_P, 28
    .set ROUNDING, 32
    .set CHANNELS, 36
    .set IN, 40
    .set IN_STEP, 44
    .set ROWS, 48
    .set ROW_STEP, 52
    .set RUN, 56
    .set PAIRS, 60
    .set STORE, 64 /* where the tail goes on: full or partial */
    .set FRAME, 68
    .set UNROLL, 8

    .section .text.tn_pairs_dsp, "ax", %progbits
    .balign 4

/* r0 p, r1 q, r2 columns, r3 bytes: widens a run of both pixels. Advances r0 to r2; r4 to r10 are lost. */
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

/* Two values of a window; r6 to r9 of pixel q start from these registers, r2 to r5 of pixel p from themselves. */
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

/* Copies the job onto the stack and finds where the unrolled loop is entered. */
    .macro enter
    push {r4, r5, r6, r7, r8, r9, r10, r11, lr}
    add r12, r0, #32
    ldm r12, {r4, r5, r6, r7, r8, r9, r10, r11}
    ldr r12, =full + 1
    push {r12}
    push {r4, r5, r6, r7, r8, r9, r10, r11}
    ldm r0, {r4, r5, r6, r7, r8, r9, r10, r11}
    add r5, r4, r6, lsl #3
    ldr r12, =loop + 1
    rsbs r6, r6, #1
    and r6, r6, #(UNROLL - 1)
    add r6, r6, r6, lsl #1
    add r6, r12, r6, lsl #4 /* a step takes 48 bytes, and one is done before */
    it eq
    ldreq r6, =summed + 1
    push {r4, r5, r6, r7, r8, r9, r10, r11}
    .endm

/* void tn_pair_dsp(const tn_pairs *job): one pair whose columns are there already. */
    .global tn_pair_dsp
    .type tn_pair_dsp, %function
    .thumb_func
tn_pair_dsp:
    enter
    movs r2, #1
    str r2, [sp, #PAIRS]
    b gathered
    .size tn_pair_dsp, . - tn_pair_dsp

/* void tn_pairs_dsp(const tn_pairs *job): `pairs` pairs in a row, their windows inside the image. */
    .global tn_pairs_dsp
    .type tn_pairs_dsp, %function
    .thumb_func
tn_pairs_dsp:
    enter
pair:
    ldrd r0, r1, [sp, #IN]
    ldr r2, [sp, #COLUMNS]
    ldrd r11, r12, [sp, #ROWS]
    ldr r3, [sp, #RUN]
    add r4, r0, r1, lsl #1
    str r4, [sp, #IN]
    add r1, r1, r0
1:  bl tn_widen
    add r0, r0, r12
    add r1, r1, r12
    subs r11, r11, #1
    bne 1b
gathered:
    ldr r1, [sp, #PACKED]
    ldr r2, [sp, #OUT_P]
    ldr r3, [sp, #CHANNELS]
    bics r4, r3, #3
    add r2, r2, r4
    str r2, [sp, #END_P]
    beq rest
group:
    ldm r1!, {r2, r3, r4, r5}
    ldr r0, [sp, #COLUMNS]
    step r2, r3, r4, r5
    ldr pc, [sp, #ENTRY]
    .balign 4
loop:
    .rept UNROLL
    step r6, r7, r8, r9
    .endr
    ldr r12, [sp, #COLUMNS_END]
    cmp r0, r12
    bne loop
summed:
    sub r3, r3, r2
    sub r7, r7, r6
    sub r5, r5, r4
    sub r9, r9, r8
    ldr pc, [sp, #TAIL]
full:
    ldrd r10, r11, [sp, #OUT_P]
    strb r2, [r10], #1
    strb r3, [r10], #1
    strb r4, [r10], #1
    strb r5, [r10], #1
    strb r6, [r11], #1
    strb r7, [r11], #1
    strb r8, [r11], #1
    strb r9, [r11], #1
    ldr r12, [sp, #END_P]
    strd r10, r11, [sp, #OUT_P]
    cmp r10, r12
    bne group
rest: /* one to three channels */
    ldr r12, [sp, #CHANNELS]
    ands r12, r12, #3
    beq next
    ldr r2, =partial + 1
    str r2, [sp, #STORE]
    b group
partial:
    ldr r0, =full + 1
    str r0, [sp, #STORE]
    ldrd r10, r11, [sp, #OUT_P]
    ldr r12, [sp, #CHANNELS]
    lsls r12, r12, #31 /* carry: two or three; negative: one or three */
    bcc 1f
    strb r2, [r10], #1
    strb r6, [r11], #1
    strb r3, [r10], #1
    strb r7, [r11], #1
    bpl 2f
    mov r2, r4
    mov r6, r8
1:  strb r2, [r10], #1
    strb r6, [r11], #1
2:  strd r10, r11, [sp, #OUT_P]
next:
    ldr r4, [sp, #PAIRS]
    ldr r11, [sp, #OUT_Q]
    ldr r12, [sp, #CHANNELS]
    add r12, r12, r11
    subs r4, r4, #1
    str r4, [sp, #PAIRS]
    strd r11, r12, [sp, #OUT_P]
    bne pair
    add sp, sp, #FRAME
    pop {r4, r5, r6, r7, r8, r9, r10, r11, pc}
    .ltorg
    .size tn_pairs_dsp, . - tn_pairs_dsp

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
