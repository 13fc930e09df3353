/* Copies of rows, for cores with Helium (Armv8.1-M).
 *
 * void tn_copy_rows_mve(const tn_rows *r, const int8_t *from, int8_t *to)
 */
    .syntax unified
    .thumb
    .section .text.tn_copy_rows_mve, "ax", %progbits
    .balign 4
    .global tn_copy_rows_mve
    .type tn_copy_rows_mve, %function
    .thumb_func
tn_copy_rows_mve:
    push {r4, r5, r6, r7, r8, lr}
    ldm r0, {r3, r4, r5, r6} /* rows, bytes, from_step, to_step */
1:  mov r7, r1
    mov r8, r2
    dlstp.8 lr, r4
2:  vldrb.u8 q0, [r7], #16
    vstrb.8 q0, [r8], #16
    letp lr, 2b
    subs r3, r3, #1
    add r1, r1, r5
    add r2, r2, r6
    bne 1b
    pop {r4, r5, r6, r7, r8, pc}
    .size tn_copy_rows_mve, . - tn_copy_rows_mve
