/* Convolutions of three pixels at a time, for cores with Helium (Armv8.1-M).
 *
 * VMLADAVA sums 16 products into one general-purpose register. Two channels of three pixels share their loads: six sums
 * take 11 instructions for 96 products. The second two channels of a group of four go through the values backwards, so
 * that no pointer has to be set back. A window is one run of bytes, or (`_rows`) several of the same length, the rows of
 * the window, at equal distances. Runs are read in blocks of 16 values; values beyond a run's end have weight 0 and may
 * be anything. `packed` holds the number of runs, then for each group of four channels (zeros where there are less):
 *   for each block of 16 values, first to last    weights of channel 0, of channel 2
 *   for each block of 16 values, last to first    weights of channel 1, of channel 3
 *   bias [4] and multiplier [4], 32 bits each; shift [4], 8 bits each, negative = right
 *
 * Requantization rounds twice as TFLite Micro does: VQRDMULH is its high product, VRSHL its right shift where that is
 * no tie below 0; these round away from 0, hence the 1 that is taken from negative products. Outputs that are clamped at
 * the zero point do without (`_positive`).
 */
    .syntax unified
    .thumb

    .set A, 0 /* tn_triples */
    .set B, 4
    .set C, 8
    .set X_STEP, 12
    .set OUT, 16
    .set STEP_B, 20
    .set STEP_C, 24
    .set PACKED, 28
    .set BLOCKS, 32
    .set TRIPLES, 36
    .set CHANNELS, 40
    .set REST, 44
    .set ZERO_POINT, 48
    .set TO, 52
    .set RUNS, 56
    .set RUN_STEP, 60

    /* 16 values of pixels at r1, r3, r5 times two channels at r7 */
    .macro block sum, forward
    vldrb.u8 q0, [r7], #16
    .if \forward
    vldrb.u8 q1, [r1], #16
    \sum r0, q0, q1
    vldrb.u8 q2, [r3], #16
    \sum r2, q0, q2
    vldrb.u8 q3, [r5], #16
    .else
    vldrb.u8 q1, [r1, #-16]!
    \sum r0, q0, q1
    vldrb.u8 q2, [r3, #-16]!
    \sum r2, q0, q2
    vldrb.u8 q3, [r5, #-16]!
    .endif
    \sum r4, q0, q3
    vldrb.u8 q0, [r7], #16
    \sum r6, q0, q1
    \sum r8, q0, q2
    \sum r10, q0, q3
    .endm

    .macro next_run move
    \move r1, r1, lr
    \move r3, r3, lr
    \move r5, r5, lr
    .endm

    .macro two_channels low, high, forward, rows
    block vmladav.s8, \forward
    wls lr, r9, 3f
2:  block vmladava.s8, \forward
    le lr, 2b
3:
    .if \rows
    ldr r12, [r11, #RUNS]
6:  ldr lr, [r11, #RUN_STEP]
    .if \forward
    next_run add
    .else
    next_run sub
    .endif
    add lr, r9, #1
    dls lr, lr
2:  block vmladava.s8, \forward
    le lr, 2b
    subs r12, r12, #1
    bne 6b
    .endif
    vmov q5[\high], q5[\low], r0, r6
    vmov q6[\high], q6[\low], r2, r8
    vmov q7[\high], q7[\low], r4, r10
    .endm

    .macro requantize sums, positive
    vadd.i32 \sums, \sums, q0
    vqrdmulh.s32 \sums, \sums, q1
    .ifeq \positive
    vshr.s32 q3, \sums, #31
    vadd.i32 \sums, \sums, q3
    .endif
    vrshl.s32 \sums, \sums, q2
    vqmovnb.s32 \sums, \sums
    vqadd.s16 \sums, \sums, r6
    vqmovnb.s16 \sums, \sums
    .endm

    .macro triples name, positive, rows
    .section .text.\name, "ax", %progbits
    .balign 4
    .global \name
    .type \name, %function
    .thumb_func
\name:
    push {r4, r5, r6, r7, r8, r9, r10, r11, r12, lr}
    vpush {d8, d9, d10, d11, d12, d13, d14, d15}
    mov r11, r0
    ldrd r1, r3, [r11, #A]
    ldr r5, [r11, #C]
    ldr r9, [r11, #BLOCKS]
1:  ldr r7, [r11, #PACKED]
    ldr r0, [r11, #CHANNELS]
    ldr r2, [r11, #OUT]
    str r0, [r11, #REST]
    str r2, [r11, #TO]
4:  two_channels 0, 2, 1, \rows
    two_channels 1, 3, 0, \rows
    vldrw.u32 q0, [r7], #16
    vldrw.u32 q1, [r7], #16
    vldrb.s32 q2, [r7], #4
    ldrd r8, r6, [r11, #REST] /* and zero point */
    requantize q5, \positive
    requantize q6, \positive
    requantize q7, \positive
    ldrd r0, r2, [r11, #STEP_B]
    ldr r4, [r11, #TO]
    add r0, r0, r4
    add r2, r2, r0
    vctp.32 r8
    vpsttt
    vstrbt.32 q5, [r4], #4
    vstrbt.32 q6, [r0]
    vstrbt.32 q7, [r2]
    str r4, [r11, #TO]
    subs r8, r8, #4
    str r8, [r11, #REST]
    bgt 4b
    ldr r0, [r11, #TRIPLES]
    subs r0, r0, #1
    beq 5f
    str r0, [r11, #TRIPLES]
    ldr r0, [r11, #X_STEP]
    ldr r4, [r11, #OUT]
    ldr r2, [r11, #CHANNELS]
    add r1, r1, r0
    add r3, r3, r0
    add r5, r5, r0
    add r2, r2, r2, lsl #1
    add r4, r4, r2
    str r4, [r11, #OUT]
    b 1b
5:  vpop {d8, d9, d10, d11, d12, d13, d14, d15}
    pop {r4, r5, r6, r7, r8, r9, r10, r11, r12, pc}
    .size \name, . - \name
    .endm

    triples tn_triples_mve, 0, 0
    triples tn_triples_positive_mve, 1, 0
    triples tn_triples_rows_mve, 0, 1
    triples tn_triples_rows_positive_mve, 1, 1
