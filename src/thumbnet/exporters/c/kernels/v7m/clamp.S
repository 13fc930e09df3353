/* void tn_clamp_v7m(int8_t *values, uint32_t size, int32_t low, int32_t high): clamps in place; size >= 1. */
    .syntax unified
    .thumb
    .section .text.tn_clamp_v7m, "ax", %progbits
    .balign 4
    .global tn_clamp_v7m
    .type tn_clamp_v7m, %function
    .thumb_func
tn_clamp_v7m:
1:  ldrsb r12, [r0]
    cmp r12, r2
    it lt
    movlt r12, r2
    cmp r12, r3
    it gt
    movgt r12, r3
    strb r12, [r0], #1
    subs r1, r1, #1
    bne 1b
    bx lr
    .size tn_clamp_v7m, . - tn_clamp_v7m
