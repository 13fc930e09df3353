/* Dense layers with one multiplier for all outputs, for cores with Helium (Armv8.1-M).
 *
 * Four outputs share the loads of 16 inputs. `packed` holds, for each group of four channels (zeros where there are
 * less):
 *   for each block of 16 inputs    weights of channels 0 to 3
 *   bias [4]
 * Requantization as in triples.S.
 *
 * void tn_dense_mve(const tn_dense_mve_params *p, const int8_t *in, int8_t *out)
 */
    .syntax unified
    .thumb

    .section .text.tn_dense_mve, "ax", %progbits
    .balign 4
    .global tn_dense_mve
    .type tn_dense_mve, %function
    .thumb_func
tn_dense_mve:
    push {r4, r5, r6, r7, r8, r9, r10, r11, r12, lr}
    mov r9, r1
    mov r3, r2
    ldrd r7, r5, [r0] /* packed, inputs */
    ldrd r8, r10, [r0, #8] /* channels, multiplier */
    ldrd r11, r12, [r0, #16] /* shift, zero point */
1:  mov r1, r9
    movs r0, #0
    movs r2, #0
    movs r4, #0
    movs r6, #0
    dlstp.8 lr, r5
2:  vldrb.u8 q0, [r1], #16
    vldrb.u8 q1, [r7], #16
    vmladava.s8 r0, q0, q1
    vldrb.u8 q2, [r7], #16
    vmladava.s8 r2, q0, q2
    vldrb.u8 q1, [r7], #16
    vmladava.s8 r4, q0, q1
    vldrb.u8 q2, [r7], #16
    vmladava.s8 r6, q0, q2
    letp lr, 2b
    vmov q2[2], q2[0], r0, r4
    vmov q2[3], q2[1], r2, r6
    vldrw.u32 q3, [r7], #16
    vadd.i32 q2, q2, q3
    vqrdmulh.s32 q2, q2, r10
    vshr.s32 q3, q2, #31
    vadd.i32 q2, q2, q3
    vrshl.s32 q2, r11
    vqmovnb.s32 q2, q2
    vqadd.s16 q2, q2, r12
    vqmovnb.s16 q2, q2
    vctp.32 r8
    vpst
    vstrbt.32 q2, [r3], #4
    subs r8, r8, #4
    bgt 1b
    pop {r4, r5, r6, r7, r8, r9, r10, r11, r12, pc}
    .size tn_dense_mve, . - tn_dense_mve
