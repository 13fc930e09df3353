/* Dense layers with one multiplier for all outputs, for cores with the DSP extension (Armv7E-M, Armv8-M).
 *
 * Two channels share each 16-bit lane of the weights, as in pairs.S. `packed` holds, for each group of four channels:
 *   initial accumulators    a, a + 256 b, c, c + 256 d
 *   for each eight inputs   ab and cd of inputs 0 2, of 1 3, of 4 6, of 5 7
 */
    .syntax unified
    .thumb

    .set IN, 0 /* on the stack */
    .set OUT, 4
    .set ENTRY, 8
    .set IN_END, 12
    .set OUT_END, 16
    .set REST, 20
    .set MULTIPLIER, 24
    .set SHIFT, 28
    .set ROUNDING, 32
    .set FRAME, 36
    .set UNROLL, 4

    .macro four_values x, y
    ldm r1!, {r10, r11, r12, lr}
    smlad r3, \x, r10, r3
    smlad r5, \x, r11, r5
    smlad r3, \y, r12, r3
    smlad r5, \y, lr, r5
    sxtb16 r10, r10
    sxtb16 r11, r11
    sxtb16 r12, r12
    sxtb16 lr, lr
    smlad r2, \x, r10, r2
    smlad r4, \x, r11, r4
    smlad r2, \y, r12, r2
    smlad r4, \y, lr, r4
    .endm

    .macro requantize a
    add r9, r8, \a, asr #31
    smmlar \a, \a, r6, r9
    asr \a, \a, r7
    ssat \a, #8, \a, asr #1
    .endm

/* void tn_dense_dsp(const tn_dense_dsp_params *p, const int8_t *in, int8_t *out)
 * Inputs are read in blocks of 8 bytes from a multiple of 4: `in` must be readable up to the next multiple of 8.
 * Requantization as in pairs.S, for a right shift of at most 23: the sum of both roundings' halves and of the zero point,
 * (1 + 2 zero_point) << (shift - 1), joins the high product. */
    .section .text.tn_dense_dsp, "ax", %progbits
    .balign 4
    .global tn_dense_dsp
    .type tn_dense_dsp, %function
    .thumb_func
tn_dense_dsp:
    push {r4, r5, r6, r7, r8, r9, r10, r11, lr}
    sub sp, sp, #FRAME
    ldm r0, {r3, r4, r5, r6, r7, r8} /* packed, in_c, out_c, multiplier, shift - 1, 1 + 2 zero_point */
    strd r1, r2, [sp, #IN]
    adds r4, r4, #7
    bic r10, r4, #7
    add r10, r10, r1
    lsrs r4, r4, #3
    rsb r4, r4, #0
    and r4, r4, #(UNROLL - 1)
    rsb r4, r4, r4, lsl #5
    ldr r9, =loop + 1
    add r9, r9, r4, lsl #2 /* a step takes 124 bytes */
    strd r9, r10, [sp, #ENTRY]
    and r11, r5, #3
    bics r5, r5, #3
    add r5, r5, r2
    strd r5, r11, [sp, #OUT_END]
    lsl r8, r8, r7
    strd r6, r7, [sp, #MULTIPLIER]
    str r8, [sp, #ROUNDING]
    mov r1, r3
    beq rest
group:
    ldm r1!, {r2, r3, r4, r5}
    ldr r0, [sp, #IN]
    ldr pc, [sp, #ENTRY]
    .balign 4
loop:
    .rept UNROLL
    ldrd r6, r7, [r0], #8
    sxtb16 r8, r6
    sxtb16 r6, r6, ror #8
    sxtb16 r9, r7
    sxtb16 r7, r7, ror #8
    four_values r8, r6
    four_values r9, r7
    .endr
    ldr r12, [sp, #IN_END]
    cmp r0, r12
    bne loop
    sub r3, r3, r2
    sub r5, r5, r4
    asrs r3, r3, #7
    asrs r5, r5, #7
    lsls r2, r2, #1
    lsls r4, r4, #1
    add r8, sp, #MULTIPLIER
    ldm r8, {r6, r7, r8}
    requantize r2
    requantize r3
    requantize r4
    requantize r5
    ldr r6, [sp, #OUT]
    ldr r7, [sp, #OUT_END]
    cmp r6, r7
    beq partial
    strb r2, [r6], #1
    strb r3, [r6], #1
    strb r4, [r6], #1
    strb r5, [r6], #1
    str r6, [sp, #OUT]
    cmp r6, r7
    bne group
rest: /* one to three channels */
    ldr r2, [sp, #REST]
    cmp r2, #0
    bne group
    b end
partial:
    ldr r12, [sp, #REST]
    strb r2, [r6], #1
    cmp r12, #2
    blo end
    strb r3, [r6], #1
    beq end
    strb r4, [r6]
end:
    add sp, sp, #FRAME
    pop {r4, r5, r6, r7, r8, r9, r10, r11, pc}
    .ltorg
    .size tn_dense_dsp, . - tn_dense_dsp
