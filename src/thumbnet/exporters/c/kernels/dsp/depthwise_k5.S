/* Rows of 5x5 depthwise convolutions: see tn_depthwise.h. Row functions of `ceiling` 1. */
    .syntax unified
    .thumb
#include "tn_depthwise_rows.h"

    .macro both even, odd, even_sum, odd_sum, input, weight, even_from, odd_from
    .ifnb \even
    \even \even_sum, \input, \weight, \even_from
    .endif
    .ifnb \odd
    \odd \odd_sum, \input, \weight, \odd_from
    .endif
    .endm

    /* One word of taps of each row of the kernel, from r3, with one column of words of six input rows: for outputs at even
     * columns (r8 above r10), at odd ones (r9 above r11), or both. */
    .macro taps at, even, odd, r8_from=r8, r9_from=r9, r10_from=r10
    ldrd r12, lr, [r0\at
    ldm r3!, {r4, r5, r6, r7}
    both \even, \odd, r8, r9, r12, r4, \r8_from, \r9_from
    both \even, \odd, r10, r11, lr, r4, \r10_from, r11
    both \even, \odd, r8, r9, lr, r5, r8, r9
    ldrd r12, lr, [r1\at
    ldr r4, [r3], #4
    both \even, \odd, r8, r9, r12, r6, r8, r9
    both \even, \odd, r10, r11, r12, r5, r10, r11
    both \even, \odd, r8, r9, lr, r7, r8, r9
    both \even, \odd, r10, r11, lr, r6, r10, r11
    ldrd r12, lr, [r2\at
    both \even, \odd, r8, r9, r12, r4, r8, r9
    both \even, \odd, r10, r11, r12, r7, r10, r11
    both \even, \odd, r10, r11, lr, r4, r10, r11
    .endm

    /* Outputs of two rows and two columns. Weights: five words (w0 w1), then (w2 w3), (w1 w2) and (w3 w4). */
    .macro k5s1 name, requantize
    enter \name
1:  channel
    mov r3, r12
2:  ldr r11, [sp, #BIAS]
    taps "], #32", smlad, smlatb, r11, r11, r11
    taps "]", smlad
    taps "]", , smlad
    taps ", #32]", smlabt, smlad
    \requantize r8, r9, r10, r11
    ldrd r4, r5, [sp, #STEP] /* and below */
    ldrd r6, r7, [sp, #OUT] /* and end */
    sub r3, r3, #80
    cmp r0, r7
    it eq
    ldreq r4, [sp, #LAST_STEP]
    add r12, r5, r4
    strb r11, [r6, r12] /* with no row below, or a single last column, the others overwrite it */
    strb r10, [r6, r5]
    strb r9, [r6, r4]
    strb r8, [r6]
    add r6, r6, r4, lsl #1
    str r6, [sp, #OUT]
    bne 2b
    add r12, r3, #80
    next 1b, r0, r1, r2
    .size \name, . - \name
    .endm

    k5s1 tn_depthwise_k5s1_rows_dsp, requantize_any
    k5s1 tn_depthwise_k5s1_positive_rows_dsp, requantize_positive

    /* Two input rows with the weights (w0 w1), (w2 w3), (w3 w4), each of both rows, for outputs r8 and r9. */
    .macro two_rows line, r8_from=r8
    ldm r3!, {r4, r5, r6, r7, r10, r11}
    ldrd r12, lr, [\line], #32
    smlad r8, r12, r4, \r8_from
    smlad r8, lr, r5, r8
    ldrd r12, lr, [\line], #32
    smlad r8, r12, r6, r8
    smlad r9, r12, r4, r9
    smlad r8, lr, r7, r8
    smlad r9, lr, r5, r9
    ldrd r12, lr, [\line]
    smlabt r8, r12, r10, r8
    smlad r9, r12, r6, r9
    smlabt r8, lr, r11, r8
    smlad r9, lr, r7, r9
    ldrd r12, lr, [\line, #32]
    smlabt r9, r12, r10, r9
    smlabt r9, lr, r11, r9
    .endm

    /* Outputs of one row and two columns. Weights as `two_rows` reads them, then the last row's. */
    .macro k5s2 name, requantize
    enter \name
1:  channel
    mov r3, r12
2:  ldr r9, [sp, #BIAS]
    two_rows r0, r9
    two_rows r1
    ldm r3!, {r4, r6, r10}
    ldr r12, [r2], #32
    ldr lr, [r2], #32
    smlad r8, r12, r4, r8
    ldr r12, [r2]
    smlad r8, lr, r6, r8
    smlad r9, lr, r4, r9
    ldr lr, [r2, #32]
    smlabt r8, r12, r10, r8
    smlad r9, r12, r6, r9
    smlabt r9, lr, r10, r9
    \requantize r8, r9
    ldr r4, [sp, #STEP]
    ldrd r6, r7, [sp, #OUT] /* and end */
    sub r3, r3, #60
    cmp r0, r7
    it eq
    ldreq r4, [sp, #LAST_STEP]
    strb r9, [r6, r4] /* a single last column is overwritten */
    strb r8, [r6]
    add r6, r6, r4, lsl #1
    str r6, [sp, #OUT]
    bne 2b
    add r12, r3, #60
    next 1b, r0, r1, r2
    .size \name, . - \name
    .endm

    k5s2 tn_depthwise_k5s2_rows_dsp, requantize_any
    k5s2 tn_depthwise_k5s2_positive_rows_dsp, requantize_positive
