/* The walk over groups of four channels of a dense layer, for assembly: dense.S and dense_int4.S expand it.
 *
 * The macros of the file that includes this one:
 *   prepare      what all groups share, from r1 inputs and r10 their end; may use r0, r1, r3, r9, r12 and lr
 *   step         one step of the loop, eight inputs: r0 inputs, r1 weights, sums in r2 to r5
 *   separate     the sums become twice the accumulators of channels a b c d
 * and its symbols UNROLL, steps in the loop; STEP_BYTES; and ROOM, bytes of the frame from SHARED on for `prepare`. */
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
    .set SHARED, 36

    .macro requantize a
    add r9, r8, \a, asr #31
    smmlar \a, \a, r6, r9
    asr \a, \a, r7
    ssat \a, #8, \a, asr #1
    .endm

/* void (const tn_dense_dsp_params *p, const int8_t *in, int8_t *out)
 * Inputs are read in blocks of 8 bytes from a multiple of 4: `in` must be readable up to the next multiple of 8.
 * Requantization as in pairs_common.S, for a right shift of at most 23: the sum of both roundings' halves and of the
 * zero point, (1 + 2 zero_point) << (shift - 1), joins the high product. */
    .macro dense
    push {r4, r5, r6, r7, r8, r9, r10, r11, lr}
    sub sp, sp, #SHARED + ROOM
    ldm r0, {r3, r4, r5, r6, r7, r8} /* packed, in_c, out_c, multiplier, shift - 1, 1 + 2 zero_point */
    strd r1, r2, [sp, #IN]
    adds r4, r4, #7
    bic r10, r4, #7
    add r10, r10, r1
    lsrs r4, r4, #3
    rsb r4, r4, #0
    and r4, r4, #(UNROLL - 1)
    mov r12, #STEP_BYTES
    ldr r9, =loop + 1
    mla r9, r4, r12, r9
    strd r9, r10, [sp, #ENTRY]
    and r11, r5, #3
    bics r5, r5, #3
    add r5, r5, r2
    strd r5, r11, [sp, #OUT_END]
    lsl r8, r8, r7
    strd r6, r7, [sp, #MULTIPLIER]
    str r8, [sp, #ROUNDING]
    mov r4, r3
    prepare
    mov r1, r4
    cmp r2, r5
    beq rest
group:
    ldm r1!, {r2, r3, r4, r5}
    ldr r0, [sp, #IN]
    ldr pc, [sp, #ENTRY]
    .balign 4
loop:
    .rept UNROLL
    step
    .endr
    ldr r12, [sp, #IN_END]
    cmp r0, r12
    bne loop
    separate
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
    add sp, sp, #SHARED + ROOM
    pop {r4, r5, r6, r7, r8, r9, r10, r11, pc}
    .ltorg
    .endm
