/* Convolutions with at most 16 values in a window, for cores with Helium (Armv8.1-M).
 *
 * Weights of four channels stay in registers while the pixels go by, as do bias, multiplier and shift. `packed` and the
 * requantization are those of triples.S, with one block of 16 values.
 */
    .syntax unified
    .thumb

    .set X, 0 /* tn_narrow */
    .set OUT, 8
    .set PACKED, 16
    .set PIXELS, 20
    .set GROUPS, 24
    .set ZERO_POINT, 28

    .macro narrow_row name, positive
    .section .text.\name, "ax", %progbits
    .balign 4
    .global \name
    .type \name, %function
    .thumb_func
\name:
    push {r4, r5, r6, r7, r8, r9, r10, r11, r12, lr}
    vpush {d8, d9, d10, d11, d12, d13, d14, d15}
    mov r11, r0
    ldrd r12, r7, [r11, #OUT]
    ldr r9, [r11, #PACKED]
    ldr r10, [r11, #ZERO_POINT]
    mov r8, #1
1:  ldrd r1, r3, [r11, #X]
    ldr lr, [r11, #PIXELS]
    mov r5, r12
    vldrb.u8 q0, [r9], #16
    vldrb.u8 q2, [r9], #16
    vldrb.u8 q1, [r9], #16
    vldrb.u8 q3, [r9], #16
    vldrw.u32 q4, [r9], #16
    vldrw.u32 q5, [r9], #16
    mov r0, r9
    add r9, r9, #4
    vldrb.s32 q6, [r0]
    dls lr, lr
2:  vldrb.u8 q7, [r1]
    add r1, r1, r3
    vmladav.s8 r0, q0, q7
    vmladav.s8 r2, q1, q7
    vmladav.s8 r4, q2, q7
    vmladav.s8 r6, q3, q7
    vmov q7[2], q7[0], r0, r4
    vmov q7[3], q7[1], r2, r6
    vadd.i32 q7, q7, q4
    vqrdmulh.s32 q7, q7, q5
    .ifeq \positive
    vpt.s32 lt, q7, zr
    vsubt.i32 q7, q7, r8
    .endif
    vrshl.s32 q7, q7, q6
    vqmovnb.s32 q7, q7
    vqadd.s16 q7, q7, r10
    vqmovnb.s16 q7, q7
    vstrb.32 q7, [r5]
    add r5, r5, r7
    le lr, 2b
    ldr r0, [r11, #GROUPS]
    add r12, r12, #4
    subs r0, r0, #1
    str r0, [r11, #GROUPS]
    bne 1b
    vpop {d8, d9, d10, d11, d12, d13, d14, d15}
    pop {r4, r5, r6, r7, r8, r9, r10, r11, r12, pc}
    .size \name, . - \name
    .endm

    narrow_row tn_narrow_row_mve, 0
    narrow_row tn_narrow_row_positive_mve, 1
