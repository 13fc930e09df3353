/* Dense layers with one multiplier for all outputs, for cores with SMLAL and without the DSP extension (Armv7-M).
 *
 * Two channels a and b share a word of weights: a + 128 + 2^24 b, cut out of four channels' bytes. SMLAL of such a word and
 * an input adds to the sums of both: S = D_a + 128 X + 2^24 D_b in 64 bits, X being the sum of all inputs. Sums start at
 * 2^23 + 2^47 - 128 X, so that neither half is negative in the end. Exact as long as each |D|, bias left out, is below
 * 2^23; the code generator checks it.
 *
 * `packed` holds, for each four channels a, b, c, d (int32 words):
 *   weights   b, a + 128, d, c + 128 of each input in turn, as bytes
 *   offsets   a, b, c, d: twice the bias less 2^24
 */
    .syntax unified
    .thumb

    .set IN, 0 /* on the stack */
    .set IN_END, 4
    .set OUT, 8
    .set OUT_END, 12
    .set START, 16
    .set ENTRY, 24
    .set ROUNDING, 28
    .set MULTIPLIER, 32
    .set SHIFT, 36
    .set FRAME, 40
    .set UNROLL, 8

    .macro lanes low, high, offset_low, offset_high
    lsl \high, \high, #8
    orr \high, \high, \low, lsr #24
    ubfx \low, \low, #0, #24
    add \high, \offset_high, \high, lsl #1
    add \low, \offset_low, \low, lsl #1
    .endm

    /* As in quads.S. */
    .macro requantize value
    smull r0, \value, \value, r12
    add \value, \value, r0, lsr #31
    add \value, \value, \value, asr #31
    asr \value, \value, lr
    add \value, \value, r6
    ssat \value, #8, \value, asr #1
    .endm

/* void tn_dense_v7m(const tn_dense_v7m_params *p, const int8_t *in, int8_t *out) */
    .section .text.tn_dense_v7m, "ax", %progbits
    .balign 4
    .global tn_dense_v7m
    .type tn_dense_v7m, %function
    .thumb_func
tn_dense_v7m:
    push {r4, r5, r6, r7, r8, r9, r10, r11, lr}
    ldm r0, {r3, r4, r5, r6, r7, r8} /* packed, in_c, out_c, rounding, multiplier, shift - 1 */
    add r9, r1, r4
    add r5, r5, r2
    rsb r4, r4, #0
    and r4, r4, #(UNROLL - 1)
    add r4, r4, r4, lsl #1
    ldr r0, =loop + 1
    add r4, r0, r4, lsl #3 /* a step takes 24 bytes */
    push {r4, r6, r7, r8}
    mov r10, #(1 << 23)
    mov r11, #(1 << 15)
    mvn r12, #127
    mov r0, r1
1:  ldrsb r4, [r0], #1
    cmp r0, r9
    smlal r10, r11, r4, r12
    bne 1b
    push {r10, r11}
    push {r2, r5} /* out, its end */
    push {r1, r9} /* in, its end */
    mov r1, r3
group:
    ldr r0, [sp, #IN]
    ldrd r2, r3, [sp, #START]
    mov lr, #0xff000000
    orr lr, lr, #0xff
    mov r4, r2
    mov r5, r3
    ldr pc, [sp, #ENTRY]
    .balign 4
loop:
    .rept UNROLL
    ldrsb r10, [r0], #1
    ldr r11, [r1], #4
    and r12, lr, r11, ror #8
    and r11, lr, r11, ror #24
    smlal r2, r3, r10, r12
    smlal r4, r5, r10, r11
    .endr
    ldr r12, [sp, #IN_END]
    cmp r0, r12
    bne loop
    ldm r1!, {r8, r9, r10, r11}
    lanes r2, r3, r8, r9
    lanes r4, r5, r10, r11
    add r7, sp, #ROUNDING
    ldm r7, {r6, r12, lr}
    requantize r2
    requantize r3
    requantize r4
    requantize r5
    ldrd r6, r7, [sp, #OUT]
    sub r8, r7, r6
    cmp r8, #4
    blo 2f
    strb r2, [r6], #1
    strb r3, [r6], #1
    strb r4, [r6], #1
    strb r5, [r6], #1
    str r6, [sp, #OUT]
    bne group
    b 3f
2:  strb r2, [r6] /* one to three are left */
    cmp r8, #2
    blo 3f
    strb r3, [r6, #1]
    beq 3f
    strb r4, [r6, #2]
3:  add sp, sp, #FRAME
    pop {r4, r5, r6, r7, r8, r9, r10, r11, pc}
    .ltorg
    .size tn_dense_v7m, . - tn_dense_v7m
