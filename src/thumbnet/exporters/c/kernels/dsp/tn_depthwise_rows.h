/* Assembler macros of the row functions: the frame, the requantization, the way from channel to channel. */

    .set BIAS, 0 /* the frame: three constants of a channel, then the job from `rounding` on */
    .set MULTIPLIER, 4 /* and shift or rounding */
    .set ROUNDING, 12
    .set STEP, 16
    .set BELOW, 20
    .set OUT, 24
    .set END, 28
    .set BACK, 32 /* and out_back */
    .set CONSTANTS, 40 /* and constants_end */
    .set LAST_STEP, 48
    .set FRAME, 52

    /* Begins a function, with `end`, where the first channel's words in lines[0] end, in place of `span`: r0 to r2 lines, r12 constants. */
    .macro enter name
    .section .text.\name, "ax", %progbits
    .balign 4
    .global \name
    .type \name, %function
    .thumb_func
\name:
    push {r4, r5, r6, r7, r8, r9, r10, r11, lr}
    add r11, r0, #12
    ldr lr, [r0]
    ldm r11, {r2, r3, r4, r5, r6, r7, r8, r9, r10, r11}
    add r6, r6, lr
    mov r12, r9
    push {r2, r3, r4, r5, r6, r7, r8, r9, r10, r11}
    ldm r0, {r0, r1, r2}
    sub sp, sp, #12
    .endm

    /* Takes the three constants of a channel from r12. */
    .macro channel
    ldm r12!, {r8, r9, r10}
    stm sp, {r8, r9, r10}
    .endm

    /* Goes on with the next channel, or ends; `lines` are registers, r12 is the next channel's constants. */
    .macro next again, lines:vararg
    ldrd r8, r9, [sp, #BACK]
    ldrd r10, r11, [sp, #OUT] /* and end */
    .irp line, \lines
    add \line, \line, r8
    .endr
    add r10, r10, r9
    adds r11, r11, #8
    strd r10, r11, [sp, #OUT]
    ldr r8, [sp, #(CONSTANTS + 4)]
    cmp r12, r8
    bne \again
    add sp, sp, #FRAME
    pop {r4, r5, r6, r7, r8, r9, r10, r11, pc}
    .endm

    /* Outputs of any sign; weights and bias are doubled. With the sum D:
     * ssat8((((round(2 D multiplier / 2^32) adjusted for its sign) >> (shift - 1)) + 1 + 2 zero_point) >> 1),
     * which equals both roundings of TFLite Micro for right shifts >= 1 and |D| < 2^30. r12 and lr are lost. */
    .macro requantize_any values:vararg
    ldrd r12, lr, [sp, #MULTIPLIER]
    .irp v, \values
    smmulr \v, \v, r12
    .endr
    ldr r12, [sp, #ROUNDING]
    .irp v, \values
    add \v, \v, \v, asr #31
    asr \v, \v, lr
    add \v, \v, r12
    ssat \v, #8, \v, asr #1
    .endr
    .endm

    /* Outputs whose negative values all end at the lower clamp; weights and bias are shifted to the left by
     * s = 13 - right shift, 2 <= s <= 8. Then both roundings are one:
     * ssat8((2^s D multiplier + 2^32 (2^(s - 2) + (1 + 2 zero_point) 2^11)) >> (32 + 12)). r12 and lr are lost. */
    .macro requantize_positive values:vararg
    ldrd r12, lr, [sp, #MULTIPLIER]
    .irp v, \values
    smmla \v, \v, r12, lr
    .endr
    .irp v, \values
    ssat \v, #8, \v, asr #12
    .endr
    .endm
