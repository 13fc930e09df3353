/* Rows of 3x3 depthwise convolutions: see tn_depthwise.h.
 *
 * A channel's weights are six words, (w0 w1)(w1 w2) for each row of the kernel. SMLAD multiplies a word of input with two
 * neighbouring taps; SMLATB the second column alone with w0, SMLABT the first one with w2.
 */
    .syntax unified
    .thumb
#include "tn_depthwise_rows.h"

    /* Outputs of two rows and two columns, r8 r9 above r10 r11. Row functions of `ceiling` 0. */
    .macro k3s1 name, requantize
    enter \name
1:  channel
    ldm r12!, {r2, r3, r4, r5, r6, r7}
    str r12, [sp, #CONSTANTS]
    ldr r12, [sp, #END]
    b 3f
2:  ldrd r12, lr, [r0], #32
    ldr r11, [sp, #BIAS]
    smlad r8, r12, r2, r11
    smlatb r9, r12, r2, r11
    smlad r10, lr, r2, r11
    smlatb r11, lr, r2, r11
    smlad r8, lr, r4, r8
    smlatb r9, lr, r4, r9
    ldrd r12, lr, [r1], #32
    smlad r8, r12, r6, r8
    smlatb r9, r12, r6, r9
    smlad r10, r12, r4, r10
    smlatb r11, r12, r4, r11
    smlad r10, lr, r6, r10
    smlatb r11, lr, r6, r11
    ldrd r12, lr, [r0]
    smlabt r8, r12, r3, r8
    smlad r9, r12, r3, r9
    smlabt r8, lr, r5, r8
    smlad r9, lr, r5, r9
    smlabt r10, lr, r3, r10
    smlad r11, lr, r3, r11
    ldrd r12, lr, [r1]
    smlabt r8, r12, r7, r8
    smlad r9, r12, r7, r9
    smlabt r10, r12, r5, r10
    smlad r11, r12, r5, r11
    smlabt r10, lr, r7, r10
    smlad r11, lr, r7, r11
    \requantize r8, r9, r10, r11
    ldrd r12, lr, [sp, #BELOW] /* and out */
    strb r10, [lr, r12]
    ldr r10, [sp, #STEP]
    add r12, r12, r10
    strb r11, [lr, r12] /* without a row below, the one above overwrites it */
    strb r8, [lr]
    strb r9, [lr, r10]
    add lr, lr, r10, lsl #1
    ldr r12, [sp, #END]
    str lr, [sp, #OUT]
3:  cmp r0, r12
    bne 2b
    ldr r12, [sp, #LAST_STEP]
    cmp r12, #0
    bne 4f
    ldr r10, [sp, #BIAS]
    ldrd r12, lr, [r0]
    smlad r8, r12, r2, r10
    smlad r10, lr, r2, r10
    smlad r8, lr, r4, r8
    ldrd r12, lr, [r1]
    smlad r8, r12, r6, r8
    smlad r10, r12, r4, r10
    smlad r10, lr, r6, r10
    ldrd r12, lr, [r0, #32]
    smlabt r8, r12, r3, r8
    smlabt r8, lr, r5, r8
    smlabt r10, lr, r3, r10
    ldrd r12, lr, [r1, #32]
    smlabt r8, r12, r7, r8
    smlabt r10, r12, r5, r10
    smlabt r10, lr, r7, r10
    \requantize r8, r10
    ldrd r12, lr, [sp, #BELOW] /* and out */
    strb r10, [lr, r12]
    strb r8, [lr]
4:  ldr r12, [sp, #CONSTANTS]
    next 1b, r0, r1
    .size \name, . - \name
    .endm

    k3s1 tn_depthwise_k3s1_rows_dsp, requantize_any
    k3s1 tn_depthwise_k3s1_positive_rows_dsp, requantize_positive

    /* Outputs of one row and two columns, r8 and r9. Row functions of `ceiling` 0. */
    .macro k3s2 name, requantize
    enter \name
1:  channel
    ldm r12!, {r2, r3, r4, r5, r6, r7}
    str r12, [sp, #CONSTANTS]
    ldr r12, [sp, #END]
    b 3f
2:  ldrd r12, lr, [r0], #32
    ldr r10, [r1], #32
    ldr r9, [sp, #BIAS]
    smlad r8, r12, r2, r9
    smlad r8, lr, r4, r8
    smlad r8, r10, r6, r8
    ldrd r12, lr, [r0], #32
    ldr r10, [r1], #32
    smlad r9, r12, r2, r9
    smlabt r8, r12, r3, r8
    smlad r9, lr, r4, r9
    smlabt r8, lr, r5, r8
    smlad r9, r10, r6, r9
    smlabt r8, r10, r7, r8
    ldrd r12, lr, [r0]
    ldr r10, [r1]
    smlabt r9, r12, r3, r9
    smlabt r9, lr, r5, r9
    smlabt r9, r10, r7, r9
    \requantize r8, r9
    ldr r10, [sp, #STEP]
    ldrd lr, r12, [sp, #OUT] /* and end */
    strb r8, [lr]
    strb r9, [lr, r10]
    add lr, lr, r10, lsl #1
    str lr, [sp, #OUT]
3:  cmp r0, r12
    bne 2b
    ldr r12, [sp, #LAST_STEP]
    cmp r12, #0
    bne 4f
    ldr r8, [sp, #BIAS]
    ldrd r12, lr, [r0]
    ldr r10, [r1]
    smlad r8, r12, r2, r8
    smlad r8, lr, r4, r8
    smlad r8, r10, r6, r8
    ldrd r12, lr, [r0, #32]
    ldr r10, [r1, #32]
    smlabt r8, r12, r3, r8
    smlabt r8, lr, r5, r8
    smlabt r8, r10, r7, r8
    \requantize r8
    ldr lr, [sp, #OUT]
    strb r8, [lr]
4:  ldr r12, [sp, #CONSTANTS]
    next 1b, r0, r1
    .size \name, . - \name
    .endm

    k3s2 tn_depthwise_k3s2_rows_dsp, requantize_any
    k3s2 tn_depthwise_k3s2_positive_rows_dsp, requantize_positive
