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
 * `lead` is 21, in tn_add_even_dsp 22: there `other` has the same scale and is halved exactly too.
 * Order: four elements at a time, read before they are written. Up to three beyond `size` are computed and not stored.
 */
    .syntax unified
    .thumb

    .set MULTIPLIER, 0   /* and shift - 1, constant_x, constant_y, out_multiplier */
    .set OUT_SHIFT, 20   /* right shift - 1 */
    .set ROUNDING, 24    /* 1 + 2 zero_point */
    .set SIZE, 28

    /* r6 exact, r7 other (int8 in bits 0-7 after rotation), r8 multiplier, r9 shift, r10 constant_x, r11 constant_y */
    .macro element result, rotation, lead
    .if \rotation
    sxtb r4, r6, ror #\rotation
    sxtb r5, r7, ror #\rotation
    .else
    sxtb r4, r6
    sxtb r5, r7
    .endif
    add r5, r11, r5, lsl #\lead
    smmulr r5, r5, r8
    add r4, r10, r4, lsl #19
    add r5, r5, r5, asr #31
    asr r5, r5, r9
    add r5, r5, #1
    add r4, r4, r5, asr #1
    ldrd r5, lr, [r0, #16] /* out_multiplier, out_shift */
    lsl r4, r4, #1
    smmulr r4, r4, r5
    ldr r5, [r0, #ROUNDING]
    add r4, r4, r4, asr #31
    asr r4, r4, lr
    add r4, r4, r5
    ssat \result, #8, r4, asr #1
    .endm

    .macro add_tensors name, lead
    .section .text.\name, "ax", %progbits
    .balign 4
    .global \name
    .type \name, %function
    .thumb_func
\name:
    push {r4, r5, r6, r7, r8, r9, r10, r11, lr}
    ldr r8, [r0, #SIZE]
    push {r8}
    ldm r0, {r8, r9, r10, r11}
1:  ldr r6, [r1], #4
    ldr r7, [r2], #4
    element r12, 0, \lead
    push {r12}
    element r12, 8, \lead
    push {r12}
    element r12, 16, \lead
    push {r12}
    element r12, 24, \lead
    pop {r4, r5, r6} /* third, second, first */
    ldr r7, [sp]
    subs r7, r7, #4
    str r7, [sp]
    blt 2f
    strb r6, [r3], #1
    strb r5, [r3], #1
    strb r4, [r3], #1
    strb r12, [r3], #1
    bgt 1b
    b 3f
2:  strb r6, [r3], #1 /* r7 is -3 to -1: one to three are left */
    cmn r7, #3
    itt gt
    strbgt r5, [r3], #1
    cmngt r7, #2
    it gt
    strbgt r4, [r3]
3:  pop {r4}
    pop {r4, r5, r6, r7, r8, r9, r10, r11, pc}
    .size \name, . - \name
    .endm

    add_tensors tn_add_dsp, 21
    add_tensors tn_add_even_dsp, 22
