/* Sum of two tensors of different scales, for cores with the DSP extension.
 *
 * TFLite Micro brings both inputs to a common scale, 20 bits up, where the one with the larger scale is halved exactly:
 * its factor is 2^30 / 2^31. The other one is multiplied and shifted right with rounding, and so is the sum.
 *
 * void tn_add_dsp(const tn_add_dsp_params *p, const int8_t *exact, const int8_t *other, int8_t *out)
 *
 * Per element, with x of `exact` and y of `other`, zero points folded into constants:
 *   other = high(constant_y + (y << lead), multiplier) adjusted for its sign >> shift, plus 1, halved
 *   sum   = constant_x + (x << 19) + other
 *   out   = ssat8((high(2 sum, out_multiplier) adjusted for its sign >> out_shift) + 1 + 2 zero_point, halved)
 * `lead` is 21, in tn_add_even_dsp 22: there `other` has the same scale and is halved exactly too. What is added behind a
 * shift goes before it, as the addend of the high product, and with it the -1 of negative products: a product that rounds
 * to 0 gets it too where its factor is negative, which the halving swallows.
 * Order: four elements at a time, read before they are written. Up to three beyond `size` are computed and not stored.
 */
    .syntax unified
    .thumb

    .set FIRST, 12 /* multiplier, shift - 1, rounding, constant_x, constant_y; before it those of the sum */
    .set SIZE, 32

    /* Twice the sum of one element. r12 exact, lr other (int8 in bits 0-7 after rotation), r7 multiplier, r8 shift,
     * r9 rounding, r10 twice constant_x, r11 constant_y; r0 is lost. `sum` may be lr, for the last element. */
    .macro twice sum, rotation, lead
    .if \rotation
    sxtb r0, lr, ror #\rotation
    .else
    sxtb r0, lr
    .endif
    add r0, r11, r0, lsl #\lead
    add \sum, r9, r0, asr #31
    smmlar r0, r0, r7, \sum
    .if \rotation
    sxtb \sum, r12, ror #\rotation
    .else
    sxtb \sum, r12
    .endif
    add \sum, r10, \sum, lsl #20
    asr r0, r0, r8
    bic r0, r0, #1
    add \sum, \sum, r0
    .endm

    .macro requantize sum
    add r0, r9, \sum, asr #31
    smmlar \sum, \sum, r7, r0
    asr \sum, \sum, r8
    ssat \sum, #8, \sum, asr #1
    .endm

    .macro add_tensors name, lead
    .section .text.\name, "ax", %progbits
    .balign 4
    .global \name
    .type \name, %function
    .thumb_func
\name:
    ldr r12, [r0, #SIZE]
    add r12, r12, r3
    subs r12, r12, #4
    push {r0, r4, r5, r6, r7, r8, r9, r10, r11, r12, lr} /* parameters; where the last four outputs begin */
1:  ldr r0, [sp]
    ldr r12, [r1], #4
    ldr lr, [r2], #4
    adds r0, r0, #FIRST
    ldm r0, {r7, r8, r9, r10, r11}
    twice r4, 0, \lead
    twice r5, 8, \lead
    twice r6, 16, \lead
    twice lr, 24, \lead
    ldr r0, [sp]
    ldm r0, {r7, r8, r9}
    requantize r4
    requantize r5
    requantize r6
    requantize lr
    ldr r0, [sp, #36]
    cmp r3, r0
    bhi 2f
    strb r4, [r3], #1
    strb r5, [r3], #1
    strb r6, [r3], #1
    strb lr, [r3], #1
    bne 1b
    b 3f
2:  subs r0, r0, r3 /* -3 to -1: one to three are left */
    strb r4, [r3]
    adds r0, r0, #2
    it pl
    strbpl r5, [r3, #1]
    it gt
    strbgt r6, [r3, #2]
3:  pop {r0, r4, r5, r6, r7, r8, r9, r10, r11, r12, pc}
    .size \name, . - \name
    .endm

    add_tensors tn_add_dsp, 21
    add_tensors tn_add_even_dsp, 22
