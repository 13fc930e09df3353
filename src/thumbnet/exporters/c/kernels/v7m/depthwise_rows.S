/* Rows of a depthwise convolution of one channel, for cores with SMLAL and without the DSP extension (Armv7-M).
 *
 * Two rows of outputs are computed at a time: a word of a line is p + 2^23 q, with p from the input of the upper row and
 * q from that of the lower one, and sums are as in quads.S. Two neighbouring columns share each loaded weight.
 * Where a row has no partner, or the last column no neighbour, what stands for it is written first and then overwritten.
 */
    .syntax unified
    .thumb

    .set LEFT, 0 /* tn_rows_v7m, copied to the stack; for the first 32 bytes the order counts */
    .set OUT, 4
    .set HALF, 8
    .set STEP, 12
    .set ROUNDING, 16
    .set X_STEP, 32
    .set WEIGHTS, 36
    .set PITCH, 40
    .set BACK, 44
    .set LINE, 48
    .set ROW_STEP, 52
    .set ROWS, 56
    .set ODD, 60
    .set COLUMNS, 64
    .set OUT_STEP, 68
    .set ROW_OUT, 72
    .set ROW_BYTES, 76
    .set KERNEL_H, 80
    .set KERNEL_W, 84
    .set FRAME, 88

    /* r2 to r5 sums of the first and of the second column; r0 at their input, r1 step to the second's, r12 weights,
     * lr step to the next row of the kernel */
    .macro kernel_k3
    .rept 3
    ldm r0, {r6, r7, r8}
    ldm r12!, {r9, r10, r11}
    smlal r2, r3, r6, r9
    smlal r2, r3, r7, r10
    smlal r2, r3, r8, r11
    add r6, r0, r1
    ldm r6, {r6, r7, r8}
    smlal r4, r5, r6, r9
    smlal r4, r5, r7, r10
    smlal r4, r5, r8, r11
    add r0, r0, lr
    .endr
    .endm

    .macro kernel_any
    ldrd r10, r11, [sp, #KERNEL_H]
1:  mov r9, r11
2:  ldr r7, [r0, r1]
    ldr r6, [r0], #4
    ldr r8, [r12], #4
    smlal r2, r3, r6, r8
    smlal r4, r5, r7, r8
    subs r9, r9, #1
    bne 2b
    sub r6, lr, r11, lsl #2
    add r0, r0, r6
    subs r10, r10, #1
    bne 1b
    .endm

    /* Both sums as 2 (D + bias); r11: the channel's offset. */
    .macro lanes low, high
    lsl \high, \high, #9
    orr \high, \high, \low, lsr #23
    ubfx \low, \low, #0, #23
    add \high, r11, \high, lsl #1
    add \low, r11, \low, lsl #1
    .endm

    /* As in quads.S. */
    .macro requantize value, positive
    smull r6, \value, \value, r12
    add \value, \value, r6, lsr #31
    .ifeq \positive
    add \value, \value, \value, asr #31
    .endif
    asr \value, \value, lr
    add \value, \value, r7
    ssat \value, #8, \value, asr #1
    .endm

    .macro rows name, kernel, positive
    .section .text.\name, "ax", %progbits
    .balign 4
    .global \name
    .type \name, %function
    .thumb_func
\name:
    push {r4, r5, r6, r7, r8, r9, r10, r11, lr}
    add r12, r0, #44
    ldm r12, {r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11}
    push {r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11}
    ldm r0, {r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11}
    push {r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11}
3:  ldrd r2, r3, [sp, #ROWS] /* the next two rows */
    subs r2, r2, #1
    blt 7f
    str r2, [sp, #ROWS]
    bne 4f
    cbz r3, 4f
    movs r3, #0
    str r3, [sp, #HALF]
4:  ldrd r0, r1, [sp, #LINE]
    add r1, r1, r0
    str r1, [sp, #LINE]
    ldrd r4, r5, [sp, #COLUMNS] /* and step between outputs */
    ldrd r6, r7, [sp, #ROW_OUT] /* and bytes in a row */
    add r7, r7, r6
    str r7, [sp, #ROW_OUT]
    strd r4, r6, [sp, #LEFT]
    cbnz r4, 5f
    movs r5, #0
5:  str r5, [sp, #STEP]
6:  add r1, sp, #X_STEP /* the next two columns */
    ldm r1, {r1, r12, lr}
    mov r2, #(1 << 22)
    mov r3, #(1 << 13)
    mov r4, r2
    mov r5, r3
    \kernel
    ldr r6, [sp, #BACK]
    add r7, sp, #ROUNDING
    ldm r7, {r7, r11, r12, lr}
    add r0, r0, r6
    lanes r2, r3
    lanes r4, r5
    requantize r2, \positive
    requantize r3, \positive
    requantize r4, \positive
    requantize r5, \positive
    ldm sp, {r6, r7, r8, r9} /* columns left less 1, out, step to the lower row, step to the next column */
    add r10, r7, r9
    strb r5, [r10, r8]
    strb r4, [r10]
    strb r3, [r7, r8]
    strb r2, [r7]
    add r7, r10, r9
    subs r6, r6, #2
    strd r6, r7, [sp, #LEFT]
    bgt 6b
    blt 3b
    movs r5, #0 /* one column is left */
    b 5b
7:  add sp, sp, #FRAME
    pop {r4, r5, r6, r7, r8, r9, r10, r11, pc}
    .size \name, . - \name
    .endm

    rows tn_rows_k3_v7m, kernel_k3, 0
    rows tn_rows_k3_positive_v7m, kernel_k3, 1
    rows tn_rows_any_v7m, kernel_any, 0
    rows tn_rows_any_positive_v7m, kernel_any, 1

/* void tn_pair_rows_v7m(const int8_t *p, const int8_t *q, int32_t *line, int32_t count, int32_t p_step, int32_t q_step)
 * Writes p + 2^23 q for `count` values of both, 1 or more, into `line`. */
    .section .text.tn_pair_rows_v7m, "ax", %progbits
    .balign 4
    .global tn_pair_rows_v7m
    .type tn_pair_rows_v7m, %function
    .thumb_func
tn_pair_rows_v7m:
    push {r4, r5, r6, r7}
    ldrd r4, r5, [sp, #16]
    lsrs r3, r3, #1
    bcc 1f
    ldrsb r6, [r0]
    ldrsb r7, [r1]
    add r0, r0, r4
    add r1, r1, r5
    add r6, r6, r7, lsl #23
    str r6, [r2], #4
    cbz r3, 2f
1:  ldrsb r6, [r0]
    ldrsb r7, [r1]
    ldrsb r12, [r1, r5]
    add r6, r6, r7, lsl #23
    ldrsb r7, [r0, r4]
    add r0, r0, r4, lsl #1
    add r1, r1, r5, lsl #1
    add r7, r7, r12, lsl #23
    strd r6, r7, [r2], #8
    subs r3, r3, #1
    bne 1b
2:  pop {r4, r5, r6, r7}
    bx lr
    .size tn_pair_rows_v7m, . - tn_pair_rows_v7m
