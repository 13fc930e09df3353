/* Sum of two tensors, for cores with SMULL and SSAT (Armv7-M).
 *
 * TFLite Micro brings both inputs to a common scale, 20 bits up, where the one with the larger scale is halved exactly:
 * its factor is 2^30 / 2^31. The other one is multiplied and shifted right with rounding, and so is the sum.
 *
 * void tn_add_v7m(const tn_add_v7m_params *p, const int8_t *exact, const int8_t *other, int8_t *out)
 * void tn_add_even_v7m(...): the same for inputs of one scale, where both are halved exactly
 *
 * Per element, with x of `exact` and y of `other`, zero points folded into the constants, twice what TFLite Micro has:
 *   other = high(constant_y + (y << 21), multiplier) adjusted for its sign >> shift, plus 1, last bit cleared
 *   sum   = constant + (x << 20) + other; or constant + (x << 20) + (y << 20)
 *   out   = ssat8((high(sum, out_multiplier) adjusted for its sign >> out_shift) + 1 + 2 zero_point, halved)
 * Order: element by element, read before it is written.
 */
    .syntax unified
    .thumb

    /* The rounded high product of value, factor; adjusted for its sign and shifted. */
    .macro scale value, factor, shift
    smull lr, \value, \value, \factor
    add \value, \value, lr, lsr #31
    add \value, \value, \value, asr #31
    asr \value, \value, \shift
    .endm

    .macro finish
    scale r6, r10, r11
    add r6, r6, r12
    ssat r6, #8, r6, asr #1
    subs r0, r0, #1
    strb r6, [r3], #1
    .endm

    .section .text.tn_add_v7m, "ax", %progbits
    .balign 4
    .global tn_add_v7m
    .type tn_add_v7m, %function
    .thumb_func
tn_add_v7m:
    push {r4, r5, r6, r7, r8, r9, r10, r11, lr}
    ldm r0, {r0, r4, r5, r8, r9, r10, r11, r12}
1:  ldrsb r7, [r2], #1
    ldrsb r6, [r1], #1
    add r7, r5, r7, lsl #21
    scale r7, r8, r9
    add r6, r4, r6, lsl #20
    adds r7, r7, #1
    bic r7, r7, #1
    add r6, r6, r7
    finish
    bne 1b
    pop {r4, r5, r6, r7, r8, r9, r10, r11, pc}
    .size tn_add_v7m, . - tn_add_v7m

    .section .text.tn_add_even_v7m, "ax", %progbits
    .balign 4
    .global tn_add_even_v7m
    .type tn_add_even_v7m, %function
    .thumb_func
tn_add_even_v7m:
    push {r4, r5, r6, r7, r8, r9, r10, r11, lr}
    ldm r0, {r0, r4, r5, r8, r9, r10, r11, r12}
1:  ldrsb r7, [r2], #1
    ldrsb r6, [r1], #1
    add r7, r4, r7, lsl #20
    add r6, r7, r6, lsl #20
    finish
    bne 1b
    pop {r4, r5, r6, r7, r8, r9, r10, r11, pc}
    .size tn_add_even_v7m, . - tn_add_even_v7m
