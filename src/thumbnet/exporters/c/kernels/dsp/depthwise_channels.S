/* void tn_depthwise_channels_dsp(tn_depthwise_job *job)
 * Loads lines and computes rows, turn by turn (see tn_depthwise.h). Words of input are read at any address. */
    .syntax unified
    .thumb

    .set BELOW, 20
    .set OUT, 24
    .set ROWS, 52
    .set OUT_ROWS, 56 /* and left */
    .set OUT_STEP, 64
    .set KEPT, 68 /* and held */
    .set HELD, 72
    .set IN, 76 /* and row */
    .set ROW, 80
    .set IN_ROW, 84 /* and in_h */
    .set IN_BACK, 92
    .set IN_STEP, 96 /* and head */
    .set PAIRS, 104
    .set TAIL, 108 /* and begin */
    .set ZERO, 116

    /* Writes the eight words of two columns: r4 and r6 hold four channels of the upper row, r5 and r7 of the lower. */
    .macro spread
    pkhbt r8, r4, r6, lsl #16
    pkhbt r9, r5, r7, lsl #16
    pkhtb r10, r6, r4, asr #16
    pkhtb r11, r7, r5, asr #16
    sxtb16 r4, r8
    sxtb16 r5, r9
    sxtb16 r6, r8, ror #8
    sxtb16 r7, r9, ror #8
    sxtb16 r8, r10
    sxtb16 r9, r11
    sxtb16 r10, r10, ror #8
    sxtb16 r11, r11, ror #8
    stm r2!, {r4, r5, r6, r7, r8, r9, r10, r11}
    .endm

    .section .text.tn_depthwise_channels_dsp, "ax", %progbits
    .balign 4
    .global tn_depthwise_channels_dsp
    .type tn_depthwise_channels_dsp, %function
    .thumb_func
tn_depthwise_channels_dsp:
    push {r0, r1, r2, r4, r5, r6, r7, r8, r9, r10, r11, lr} /* the job, the next line, tail */
    movs r1, #0
load:
    ldr r2, [r0, r1, lsl #2]
    adds r1, r1, #1
    str r1, [sp, #4]
    ldrd r4, r5, [r0, #IN] /* and row */
    ldrd r6, r7, [r0, #IN_ROW] /* and in_h */
    ldrd r8, r9, [r0, #IN_STEP] /* and head */
    ldrd r10, r12, [r0, #TAIL] /* and begin */
    ldr lr, [r0, #PAIRS]
    str r10, [sp, #8]
    add r2, r2, r12
    mla r4, r5, r6, r4
    add r12, r5, #2
    str r12, [r0, #ROW]
    add r1, r4, r6 /* the lower row */
    add r11, r0, #ZERO
    mov r0, r4
    mov r3, r8
    mov r12, r8
    cmp r5, r7
    itt hs /* padding */
    movhs r0, r11
    movhs r3, #0
    adds r5, r5, #1
    cmp r5, r7
    itt hs
    movhs r1, r11
    movhs r12, #0
    cmp r9, #0
    beq 1f
    ldr r4, [r11]
    mov r5, r4
    ldr r6, [r0]
    ldr r7, [r1]
    add r0, r0, r3
    add r1, r1, r12
    spread
1:  cmp lr, #0
    beq 3f
2:  ldr r4, [r0]
    ldr r6, [r0, r3]
    ldr r5, [r1]
    ldr r7, [r1, r12]
    add r0, r0, r3, lsl #1
    add r1, r1, r12, lsl #1
    subs lr, lr, #1
    spread
    bne 2b
3:  ldr r4, [sp, #8]
    cbz r4, 4f
    ldr r3, [sp]
    ldr r4, [r0]
    ldr r5, [r1]
    ldr r6, [r3, #ZERO]
    mov r7, r6
    spread
4:  ldrd r0, r1, [sp] /* and line */
    ldr r3, [r0, #HELD]
    cmp r1, r3
    bne load
    ldr r3, [r0, #ROWS]
    blx r3
    ldr r0, [sp]
    ldrd r2, r3, [r0, #OUT_ROWS] /* and left */
    subs r3, r3, r2
    ble 6f
    str r3, [r0, #(OUT_ROWS + 4)]
    cmp r3, #1
    itt eq
    moveq r2, #0
    streq r2, [r0, #BELOW]
    ldr r2, [r0, #OUT]
    ldr r3, [r0, #OUT_STEP]
    add r2, r2, r3
    str r2, [r0, #OUT]
    ldr r2, [r0, #ROW]
    ldr r3, [r0, #IN_BACK]
    subs r2, r2, r3
    str r2, [r0, #ROW]
    ldrd r1, r12, [r0, #KEPT] /* and held */
    ldm r0, {r2, r3, r4}
    str r3, [r0]
    cmp r12, #3
    itte eq
    streq r4, [r0, #4]
    streq r2, [r0, #8]
    strne r2, [r0, #4]
    b load
6:  add sp, sp, #12
    pop {r4, r5, r6, r7, r8, r9, r10, r11, pc}
    .size tn_depthwise_channels_dsp, . - tn_depthwise_channels_dsp
