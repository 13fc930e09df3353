/* Convolutions of four pixels with two channels at a time, for cores with SMLAL and without the DSP extension (Armv7-M).
 *
 * Two pixels p and q share the words of `columns`: p + 2^23 q. SMLAL of such a word and a weight adds to the sums of
 * both: S = D_p + 2^23 D_q in 64 bits. Exact as long as each |D|, bias left out, is below 2^22; the code generator checks
 * it. Sums start at 2^22 + 2^45, so that neither half is negative.
 *
 * A window is `rows` runs of `run` bytes. `columns` holds, for each of its values, two words: of the first two pixels and
 * of the other two. `packed` holds, for each two channels a and b (int32 words):
 *   weights                a, b of each value in turn, as bytes, filled up with zeros to a multiple of 4
 *   offset, multiplier     of a, then of b: twice the bias less 2^23, and Q31
 *   right shifts - 1       a byte each, and two zeros
 */
    .syntax unified
    .thumb

    .set COLUMNS, 0 /* tn_quads, copied to the stack */
    .set COLUMNS_END, 4
    .set ENTRY, 8
    .set TAIL, 12
    .set PACKED, 16
    .set OUT, 20
    .set END, 36
    .set ROUNDING, 40
    .set CHANNELS, 44
    .set IN, 48
    .set IN_STEP, 52
    .set ROWS, 56
    .set ROW_STEP, 60
    .set RUN, 64
    .set QUADS, 68
    .set FRAME, 72
    .set UNROLL, 8

    .section .text.tn_quads_v7m, "ax", %progbits
    .balign 4

/* Writes a run of four pixels, at r0 to r3, into the columns at r12; r9 bytes. Advances r0 to r3 and r12; r4 to r8 are
 * lost. */
    .type spread, %function
    .thumb_func
spread:
    lsrs r8, r9, #1
    beq 2f
1:  .rept 2
    ldrsb r4, [r0], #1
    ldrsb r5, [r1], #1
    ldrsb r6, [r2], #1
    ldrsb r7, [r3], #1
    add r4, r4, r5, lsl #23
    add r6, r6, r7, lsl #23
    strd r4, r6, [r12], #8
    .endr
    subs r8, r8, #1
    bne 1b
2:  lsls r8, r9, #31
    beq 3f
    ldrsb r4, [r0], #1
    ldrsb r5, [r1], #1
    ldrsb r6, [r2], #1
    ldrsb r7, [r3], #1
    add r4, r4, r5, lsl #23
    add r6, r6, r7, lsl #23
    strd r4, r6, [r12], #8
3:  bx lr
    .size spread, . - spread

/* int32_t *tn_spread_v7m(const int8_t *const *runs, int32_t *columns, int32_t bytes)
 * Writes a run of each of four pixels into `columns`; returns its end. */
    .global tn_spread_v7m
    .type tn_spread_v7m, %function
    .thumb_func
tn_spread_v7m:
    push {r4, r5, r6, r7, r8, r9, r10, lr}
    mov r12, r1
    mov r9, r2
    ldm r0, {r0, r1, r2, r3}
    bl spread
    mov r0, r12
    pop {r4, r5, r6, r7, r8, r9, r10, pc}
    .size tn_spread_v7m, . - tn_spread_v7m

/* Copies the job onto the stack and finds where the unrolled loop is entered. */
    .macro enter
    push {r4, r5, r6, r7, r8, r9, r10, r11, lr}
    add r12, r0, #36
    ldm r12, {r1, r2, r3, r4, r5, r6, r7, r8, r9}
    push {r1, r2, r3, r4, r5, r6, r7, r8, r9}
    ldm r0, {r1, r2, r3, r4, r5, r6, r7, r8, r9}
    sub r3, r1, r2
    lsrs r3, r3, #3
    and r3, r3, #(UNROLL - 1)
    rsb r3, r3, r3, lsl #3
    ldr r10, =loop + 1
    add r3, r10, r3, lsl #2 /* a step takes 28 bytes */
    push {r1, r2, r3, r4, r5, r6, r7, r8, r9}
    .endm

/* void tn_quad_v7m(const tn_quads *job): four pixels whose columns are there already. */
    .global tn_quad_v7m
    .type tn_quad_v7m, %function
    .thumb_func
tn_quad_v7m:
    enter
    movs r2, #1
    str r2, [sp, #QUADS]
    b gathered
    .size tn_quad_v7m, . - tn_quad_v7m

/* void tn_quads_v7m(const tn_quads *job): `quads` times four pixels in a row, their windows inside the image. */
    .global tn_quads_v7m
    .type tn_quads_v7m, %function
    .thumb_func
tn_quads_v7m:
    enter
quad:
    add r4, sp, #IN
    ldm r4, {r0, r3, r11} /* first pixel, step to the next, rows */
    ldrd r10, r9, [sp, #ROW_STEP]
    ldr r12, [sp, #COLUMNS]
    add r1, r0, r3
    add r2, r1, r3
    add r3, r3, r2
    sub r4, r3, r2
    add r4, r4, r3
    str r4, [sp, #IN]
1:  bl spread
    add r0, r0, r10
    add r1, r1, r10
    add r2, r2, r10
    add r3, r3, r10
    subs r11, r11, #1
    bne 1b
gathered:
    ldr r1, [sp, #PACKED]
    ldr r2, [sp, #OUT]
    ldr r3, [sp, #CHANNELS]
    add r2, r2, r3
    str r2, [sp, #END]
group:
    ldr r0, [sp, #COLUMNS]
    mov r2, #(1 << 22)
    mov r3, #(1 << 13)
    mov r4, r2
    mov r5, r3
    mov r6, r2
    mov r7, r3
    mov r8, r2
    mov r9, r3
    ldr pc, [sp, #ENTRY]
    .balign 4
loop:
    .rept UNROLL
    ldrd r10, r11, [r0], #8
    ldrsb r12, [r1], #1
    ldrsb lr, [r1], #1
    smlal r2, r3, r10, r12
    smlal r4, r5, r11, r12
    smlal r6, r7, r10, lr
    smlal r8, r9, r11, lr
    .endr
    ldr r12, [sp, #COLUMNS_END]
    cmp r0, r12
    bne loop
    adds r1, r1, #3
    bic r1, r1, #3
    ldr pc, [sp, #TAIL]
store:
    add r0, sp, #OUT
    ldm r0, {r10, r11, r12, lr}
    strb r2, [r10], #1
    strb r3, [r11], #1
    strb r4, [r12], #1
    strb r5, [lr], #1
    ldr r2, [sp, #END]
    cmp r10, r2
    beq 1f /* the last of an odd number of channels */
    strb r6, [r10], #1
    strb r7, [r11], #1
    strb r8, [r12], #1
    strb r9, [lr], #1
    stm r0, {r10, r11, r12, lr}
    cmp r10, r2
    bne group
1:  ldr r2, [sp, #QUADS]
    ldr r3, [sp, #CHANNELS]
    subs r2, r2, #1
    str r2, [sp, #QUADS]
    add r3, r3, r3, lsl #1 /* from the end of a pixel to the fourth after it */
    add r10, r10, r3
    add r11, r11, r3
    add r12, r12, r3
    add lr, lr, r3
    stm r0, {r10, r11, r12, lr}
    bne quad
    add sp, sp, #FRAME
    pop {r4, r5, r6, r7, r8, r9, r10, r11, pc}
    .ltorg
    .size tn_quads_v7m, . - tn_quads_v7m

/* Requantization. (r2, r3), (r4, r5) hold the sums of channel a, (r6, r7), (r8, r9) those of b; r2 to r9 become
 * outputs. r1 is behind the group's weights. */

/* Both sums of a channel as 2 (D + bias); r11: the channel's offset. */
    .macro lanes low, high
    lsl \high, \high, #9
    orr \high, \high, \low, lsr #23
    ubfx \low, \low, #0, #23
    add \high, r11, \high, lsl #1
    add \low, r11, \low, lsl #1
    .endm

/* ssat8((((round(2 D multiplier / 2^32) adjusted for its sign) >> (shift - 1)) + 1 + 2 zero_point) >> 1), which equals
 * both roundings of TFLite Micro for right shifts >= 1 and |D| < 2^30. Where nothing below the zero point survives the
 * clamp, the sign needs no adjustment. */
    .macro requantize value, positive
    smull r10, \value, \value, r12
    add \value, \value, r10, lsr #31
    .ifeq \positive
    add \value, \value, \value, asr #31
    .endif
    asr \value, \value, lr
    add \value, \value, r0
    ssat \value, #8, \value, asr #1
    .endm

    .macro channel a, b, c, d, index, positive
    ldrd r11, r12, [r1, #(8 * \index)]
    ldrb lr, [r1, #(16 + \index)]
    lanes \a, \b
    lanes \c, \d
    requantize \a, \positive
    requantize \b, \positive
    requantize \c, \positive
    requantize \d, \positive
    .endm

    .macro tail name, positive
    .section .text.\name, "ax", %progbits
    .balign 4
    .global \name
    .type \name, %function
    .thumb_func
\name:
    ldr r0, [sp, #ROUNDING]
    channel r2, r3, r4, r5, 0, \positive
    channel r6, r7, r8, r9, 1, \positive
    adds r1, r1, #20
    b.w store
    .size \name, . - \name
    .endm

    tail tn_pass_v7m, 0
    tail tn_pass_positive_v7m, 1
