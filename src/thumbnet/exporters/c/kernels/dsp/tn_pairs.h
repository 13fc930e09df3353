/* The walk over pairs of pixels and groups of four channels, for assembly: pairs.S and pairs_int4.S expand it.
 *
 * A window is `rows` runs of `run` bytes. `columns` holds two words, of pixel p and of pixel q, for each two values of
 * a run: of four values 0 2 and 1 3, of the last one to three values 0 and none, 0 1, or 0 2 and 1 and none.
 * The macros of the file that includes this one:
 *   find_entry   r4 columns, r6 words of them for each pixel: r5 = their end, r6 = where the unrolled loop is entered
 *   prepare      what all groups of a pair share; may use r0 to r12 and lr
 *   next_step    one step of the loop: r0 columns, r1 weights, sums of p in r2 to r5 and of q in r6 to r9
 *   first_step   the same, where the sums of q start from r2 to r5
 *   separate     the sums become D_a, 256 D_b, D_c, 256 D_d, D being the accumulators of channels a b c d
 * and its symbols UNROLL, steps in the loop, and ROOM, bytes of the frame from SHARED on for what `prepare` finds. */
    .syntax unified
    .thumb

    .set COLUMNS, 0 /* tn_pairs, copied to the stack */
    .set COLUMNS_END, 4
    .set ENTRY, 8
    .set TAIL, 12
    .set PACKED, 16
    .set OUT_P, 20
    .set OUT_Q, 24
    .set END_P, 28
    .set ROUNDING, 32
    .set CHANNELS, 36
    .set IN, 40
    .set IN_STEP, 44
    .set ROWS, 48
    .set ROW_STEP, 52
    .set RUN, 56
    .set PAIRS, 60
    .set STORE, 64 /* where the tail goes on: full or partial */
    .set SHARED, 68

/* A tn_pairs_function: `pairs` pairs in a row, their windows inside the image; or, where `in` is NULL, one pair whose
 * columns are there already. */
    .macro pairs
    push {r4, r5, r6, r7, r8, r9, r10, r11, lr}
    .if ROOM
    sub sp, sp, #ROOM
    .endif
    add r12, r0, #32
    ldm r12, {r4, r5, r6, r7, r8, r9, r10, r11}
    ldr r12, =full + 1
    push {r12}
    push {r4, r5, r6, r7, r8, r9, r10, r11}
    mov r1, r6
    ldm r0, {r4, r5, r6, r7, r8, r9, r10, r11}
    find_entry
    push {r4, r5, r6, r7, r8, r9, r10, r11}
    cbz r1, gathered
pair:
    ldrd r0, r1, [sp, #IN]
    ldr r2, [sp, #COLUMNS]
    ldrd r11, r12, [sp, #ROWS]
    ldr r3, [sp, #RUN]
    add r4, r0, r1, lsl #1
    str r4, [sp, #IN]
    add r1, r1, r0
1:  bl tn_widen
    add r0, r0, r12
    add r1, r1, r12
    subs r11, r11, #1
    bne 1b
gathered:
    prepare
    ldr r1, [sp, #PACKED]
    ldr r2, [sp, #OUT_P]
    ldr r3, [sp, #CHANNELS]
    bics r4, r3, #3
    add r2, r2, r4
    str r2, [sp, #END_P]
    beq rest
group:
    ldm r1!, {r2, r3, r4, r5}
    ldr r0, [sp, #COLUMNS]
    first_step
    ldr pc, [sp, #ENTRY]
    .balign 4
loop:
    .rept UNROLL
    next_step
    .endr
    ldr r12, [sp, #COLUMNS_END]
    cmp r0, r12
    bne loop
summed:
    separate
    ldr pc, [sp, #TAIL]
full:
    ldrd r10, r11, [sp, #OUT_P]
    strb r2, [r10], #1
    strb r3, [r10], #1
    strb r4, [r10], #1
    strb r5, [r10], #1
    strb r6, [r11], #1
    strb r7, [r11], #1
    strb r8, [r11], #1
    strb r9, [r11], #1
    ldr r12, [sp, #END_P]
    strd r10, r11, [sp, #OUT_P]
    cmp r10, r12
    bne group
rest: /* one to three channels */
    ldr r12, [sp, #CHANNELS]
    ands r12, r12, #3
    beq next
    ldr r2, =partial + 1
    str r2, [sp, #STORE]
    b group
partial:
    ldr r0, =full + 1
    str r0, [sp, #STORE]
    ldrd r10, r11, [sp, #OUT_P]
    ldr r12, [sp, #CHANNELS]
    lsls r12, r12, #31 /* carry: two or three; negative: one or three */
    bcc 1f
    strb r2, [r10], #1
    strb r6, [r11], #1
    strb r3, [r10], #1
    strb r7, [r11], #1
    bpl 2f
    mov r2, r4
    mov r6, r8
1:  strb r2, [r10], #1
    strb r6, [r11], #1
2:  strd r10, r11, [sp, #OUT_P]
next:
    ldr r4, [sp, #PAIRS]
    ldr r11, [sp, #OUT_Q]
    ldr r12, [sp, #CHANNELS]
    add r12, r12, r11
    subs r4, r4, #1
    str r4, [sp, #PAIRS]
    strd r11, r12, [sp, #OUT_P]
    bne pair
    add sp, sp, #SHARED + ROOM
    pop {r4, r5, r6, r7, r8, r9, r10, r11, pc}
    .ltorg
    .endm
