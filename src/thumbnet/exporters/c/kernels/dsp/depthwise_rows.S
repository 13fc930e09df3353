/* Rows of a depthwise convolution of one channel, four outputs at a time, for cores with the DSP extension.
 *
 * Input rows are int16, so that SMLAD multiplies two neighbouring taps. With stride 1, outputs at even columns use the
 * weights in pairs (w0 w1)(w2 0) and those at odd columns (0 w0)(w1 w2), on the same input words; kernels of width 5
 * likewise. With stride 2 every output is at an even column. Weights and bias are doubled, which makes SMMULR of the sum
 * the rounding high product of TFLite Micro; see dot2.S for the rest of the requantization.
 *
 * Weight words for each row of the kernel: k3s1 even, even, odd, odd; k5s1 even x 3, odd x 3; k3s2 even x 2;
 * k5s2 even x 3. Up to three outputs beyond a row's end are computed and not stored, so rows must be readable that far.
 */
    .syntax unified
    .thumb

    .set LINE, 0
    .set OUT, 4
    .set PITCH, 8
    .set BACK, 12
    .set ROW_STEP, 16
    .set ROWS, 20
    .set WIDTH, 24
    .set LEFT, 28
    .set BIAS, 32
    .set MULTIPLIER, 36
    .set SHIFT, 40
    .set ROUNDING, 44
    .set OUT_STEP, 48
    .set WEIGHTS, 52

    /* r0 input words of this row, r1 parameters, r2 pitch, r3 to r6 accumulators; r7 to r12, lr free */
    .macro row_k3s1 at
    ldrd r7, r8, [r1, #(WEIGHTS + \at)]
    ldrd r9, r10, [r1, #(WEIGHTS + \at + 8)]
    ldm r0, {r11, r12, lr}
    add r0, r0, r2
    smlad r3, r11, r7, r3
    smlad r4, r11, r9, r4
    smlad r5, r12, r7, r5
    smlad r6, r12, r9, r6
    smlad r3, r12, r8, r3
    smlad r4, r12, r10, r4
    smlad r5, lr, r8, r5
    smlad r6, lr, r10, r6
    .endm

    .macro row_k3s2 at
    ldrd r7, r8, [r1, #(WEIGHTS + \at)]
    ldm r0, {r9, r10, r11, r12, lr}
    add r0, r0, r2
    smlad r3, r9, r7, r3
    smlad r4, r10, r7, r4
    smlad r5, r11, r7, r5
    smlad r6, r12, r7, r6
    smlad r3, r10, r8, r3
    smlad r4, r11, r8, r4
    smlad r5, r12, r8, r5
    smlad r6, lr, r8, r6
    .endm

    .macro row_k5s1 at
    ldrd r7, r8, [r1, #(WEIGHTS + \at)]
    ldr lr, [r1, #(WEIGHTS + \at + 8)]
    ldm r0, {r9, r10, r11, r12}
    add r0, r0, r2
    smlad r3, r9, r7, r3
    smlad r5, r10, r7, r5
    smlad r3, r10, r8, r3
    smlad r5, r11, r8, r5
    smlad r3, r11, lr, r3
    smlad r5, r12, lr, r5
    ldrd r7, r8, [r1, #(WEIGHTS + \at + 12)]
    ldr lr, [r1, #(WEIGHTS + \at + 20)]
    smlad r4, r9, r7, r4
    smlad r6, r10, r7, r6
    smlad r4, r10, r8, r4
    smlad r6, r11, r8, r6
    smlad r4, r11, lr, r4
    smlad r6, r12, lr, r6
    .endm

    .macro row_k5s2 at
    ldrd r7, r8, [r1, #(WEIGHTS + \at)]
    ldr r9, [r1, #(WEIGHTS + \at + 8)]
    ldm r0, {r10, r11, r12, lr}
    smlad r3, r10, r7, r3
    smlad r4, r11, r7, r4
    smlad r5, r12, r7, r5
    smlad r6, lr, r7, r6
    smlad r3, r11, r8, r3
    smlad r4, r12, r8, r4
    smlad r5, lr, r8, r5
    ldrd r10, r11, [r0, #16]
    add r0, r0, r2
    smlad r3, r12, r9, r3
    smlad r4, lr, r9, r4
    smlad r6, r10, r8, r6
    smlad r5, r10, r9, r5
    smlad r6, r11, r9, r6
    .endm

    .macro requantize a
    smmulr \a, \a, r7
    add \a, \a, \a, asr #31
    asr \a, \a, r8
    add \a, \a, r9
    ssat \a, #8, \a, asr #1
    .endm

    .macro rows name, row, size, count
    .section .text.\name, "ax", %progbits
    .balign 4
    .global \name
    .type \name, %function
    .thumb_func
\name:
    push {r4, r5, r6, r7, r8, r9, r10, r11, lr}
    mov r1, r0
    ldr r2, [r1, #PITCH]
1:  ldrd r3, r4, [r1, #ROWS] /* rows and width: next output row */
    subs r3, r3, #1
    blt 4f
    sub r4, r4, #4
    str r3, [r1, #ROWS]
    str r4, [r1, #LEFT]
    ldr r0, [r1, #LINE]
    ldr r7, [r1, #ROW_STEP]
    add r7, r7, r0
    str r7, [r1, #LINE]
2:  ldr r3, [r1, #BIAS]
    mov r4, r3
    mov r5, r3
    mov r6, r3
    .set index, 0
    .rept \count
    \row index
    .set index, index + \size
    .endr
    ldrd r7, r8, [r1, #MULTIPLIER]
    ldrd r9, r10, [r1, #ROUNDING] /* and step between outputs */
    ldr r11, [r1, #OUT]
    requantize r3
    requantize r4
    requantize r5
    requantize r6
    ldr r12, [r1, #LEFT]
    cmp r12, #0
    blt 3f
    strb r3, [r11]
    strb r4, [r11, r10]
    add r11, r11, r10, lsl #1
    strb r5, [r11]
    strb r6, [r11, r10]
    add r11, r11, r10, lsl #1
    str r11, [r1, #OUT]
    sub r12, r12, #4
    str r12, [r1, #LEFT]
    ldr r3, [r1, #BACK]
    add r0, r0, r3
    cmn r12, #4
    bne 2b
    b 1b
3:  strb r3, [r11] /* one to three outputs are left: r12 is -3 to -1 */
    add r11, r11, r10
    cmn r12, #3
    beq 5f
    strb r4, [r11]
    add r11, r11, r10
    cmn r12, #2
    beq 5f
    strb r5, [r11]
    add r11, r11, r10
5:  str r11, [r1, #OUT]
    b 1b
4:  pop {r4, r5, r6, r7, r8, r9, r10, r11, pc}
    .size \name, . - \name
    .endm

    rows tn_depthwise_rows_k3s1_dsp, row_k3s1, 16, 3
    rows tn_depthwise_rows_k3s2_dsp, row_k3s2, 8, 3
    rows tn_depthwise_rows_k5s1_dsp, row_k5s1, 24, 5
    rows tn_depthwise_rows_k5s2_dsp, row_k5s2, 12, 5

/* int16_t *tn_load_line_dsp(const int8_t *in, int16_t *line, int32_t fours, int32_t step)
 * Loads 4 * fours values, `step` bytes apart, into `line` (a multiple of 4); returns its end. fours >= 1. */
    .section .text.tn_load_line_dsp, "ax", %progbits
    .balign 4
    .global tn_load_line_dsp
    .type tn_load_line_dsp, %function
    .thumb_func
tn_load_line_dsp:
    push {r4, r5, r6, r7}
1:  ldrsb r4, [r0]
    ldrsb r5, [r0, r3]
    add r0, r0, r3, lsl #1
    ldrsb r6, [r0]
    ldrsb r7, [r0, r3]
    add r0, r0, r3, lsl #1
    pkhbt r4, r4, r5, lsl #16
    pkhbt r6, r6, r7, lsl #16
    strd r4, r6, [r1], #8
    subs r2, r2, #1
    bne 1b
    mov r0, r1
    pop {r4, r5, r6, r7}
    bx lr
    .size tn_load_line_dsp, . - tn_load_line_dsp
