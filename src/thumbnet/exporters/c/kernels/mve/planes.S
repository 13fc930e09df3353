/* A row of a depthwise convolution, four channels at a time, for cores with Helium (Armv8.1-M).
 *
 * Each channel has a plane of its own, column by column, so that a pixel's window is one run of bytes there: one load
 * and one VMLADAV sum up to 16 products. Bytes behind a window meet weights of 0. Bias, multiplier and shift of each
 * group of four channels follow one another as in triples.S, and requantization is as there.
 *
 * void tn_planes_row_mve(const tn_planes *job, const int8_t *weights, int8_t *out)
 * `weights`: of each channel 16, in the order of the bytes of a window.
 */
    .syntax unified
    .thumb


    .macro channel plane, sum, weight, step
    .if \step
    vldrb.u8 q7, [\plane], #\step
    .else
    vldrb.u8 q7, [\plane]
    add \plane, \plane, r3
    .endif
    vmladav.s8 \sum, \weight, q7
    .endm

    .macro pixels step, positive
2:  channel r8, r0, q0, \step
    channel r9, r2, q1, \step
    channel r10, r4, q2, \step
    channel r11, r6, q3, \step
    vmov q7[2], q7[0], r0, r4
    vmov q7[3], q7[1], r2, r6
    vadd.i32 q7, q7, q4
    vqrdmulh.s32 q7, q7, q5
    .ifeq \positive
    vpt.s32 lt, q7, zr
    vsubt.i32 q7, q7, r12
    .endif
    vrshl.s32 q7, q7, q6
    vqmovnb.s32 q7, q7
    vqadd.s16 q7, q7, r7
    vqmovnb.s16 q7, q7
    vstrb.32 q7, [r1]
    add r1, r1, r5
    le lr, 2b
    .endm

    /* on the stack: planes, parameters, weights, out, groups, plane_bytes, pixels, step, out_step, zero point */
    .macro planes_row name, positive
    .section .text.\name, "ax", %progbits
    .balign 4
    .global \name
    .type \name, %function
    .thumb_func
\name:
    push {r4, r5, r6, r7, r8, r9, r10, r11, r12, lr}
    vpush {d8, d9, d10, d11, d12, d13, d14, d15}
    sub sp, sp, #40
    ldm r0, {r3, r4, r5, r6, r7, r8, r9, r10}
    strd r3, r4, [sp] /* planes, parameters */
    strd r1, r2, [sp, #8]
    add r0, sp, #16
    stm r0, {r5, r6, r7, r8, r9, r10}
    mov r12, #1
1:  ldm sp, {r1, r2, r3, r4, r5, r6} /* planes, parameters, weights, out, groups, plane_bytes */
    vldrb.u8 q0, [r3], #16
    vldrb.u8 q1, [r3], #16
    vldrb.u8 q2, [r3], #16
    vldrb.u8 q3, [r3], #16
    vldrw.u32 q4, [r2], #16
    vldrw.u32 q5, [r2], #16
    vldrb.s32 q6, [r2], #4
    mov r8, r1
    add r9, r8, r6
    add r10, r9, r6
    add r11, r10, r6
    add r1, r11, r6
    mov r0, r4
    add r4, r4, #4
    subs r5, r5, #1
    stm sp, {r1, r2, r3, r4, r5}
    mov r1, r0
    add r0, sp, #24
    ldm r0, {r2, r3, r5, r7} /* pixels, step, out_step, zero point */
    dls lr, r2
    cmp r3, #3
    beq 3f
    cmp r3, #6
    beq 6f
    pixels 0, \positive
    b 4f
3:  pixels 3, \positive
    b 4f
6:  pixels 6, \positive
4:  ldr r0, [sp, #16]
    cmp r0, #0
    bne 1b
    add sp, sp, #40
    vpop {d8, d9, d10, d11, d12, d13, d14, d15}
    pop {r4, r5, r6, r7, r8, r9, r10, r11, r12, pc}
    .size \name, . - \name
    .endm

    planes_row tn_planes_row_mve, 0
    planes_row tn_planes_row_positive_mve, 1
