/* Windows of four channels, two taps at a time: their sums, their maxima. Words are read at any address. */
    .syntax unified
    .thumb

    /* r0 tn_pool_window, r1 its first tap; `tap` takes the word in \word. r7 and r8 are `tap`'s, r2 is kept. */
    .macro window tap
    ldm r0, {r3, r4, r5, r6} /* rows, columns, step, row_step */
1:  lsrs r0, r4, #1
    bcc 2f
    ldr r9, [r1]
    add r1, r1, r5
    \tap r9
2:  cbz r0, 4f
3:  ldr r9, [r1]
    ldr r12, [r1, r5]
    add r1, r1, r5, lsl #1
    subs r0, r0, #1
    \tap r9
    \tap r12
    bne 3b
4:  add r1, r1, r6
    subs r3, r3, #1
    bne 1b
    .endm

    .macro begin name
    .section .text.\name, "ax", %progbits
    .balign 4
    .global \name
    .type \name, %function
    .thumb_func
\name:
    .endm

    .macro add_tap word
    sxtab16 r7, r7, \word
    sxtab16 r8, r8, \word, ror #8
    .endm

/* void tn_pool_sums_dsp(const tn_pool_window *window, const int8_t *first, int32_t *sums)
 * Adds the taps, at most 256, to the sums of four channels. */
    begin tn_pool_sums_dsp
    push {r4, r5, r6, r7, r8, r9}
    movs r7, #0
    mov r8, r7
    window add_tap
    ldm r2, {r3, r4, r5, r6}
    sxtah r3, r3, r7
    sxtah r4, r4, r8
    add r5, r5, r7, asr #16
    add r6, r6, r8, asr #16
    stm r2, {r3, r4, r5, r6}
    pop {r4, r5, r6, r7, r8, r9}
    bx lr
    .size tn_pool_sums_dsp, . - tn_pool_sums_dsp

    .macro max_tap word
    ssub8 r8, \word, r7
    sel r7, \word, r7
    .endm

/* uint32_t tn_pool_maxima_dsp(const tn_pool_window *window, const int8_t *first): the largest taps of four channels. */
    begin tn_pool_maxima_dsp
    push {r4, r5, r6, r7, r8, r9}
    mov r7, #0x80808080
    window max_tap
    mov r0, r7
    pop {r4, r5, r6, r7, r8, r9}
    bx lr
    .size tn_pool_maxima_dsp, . - tn_pool_maxima_dsp
