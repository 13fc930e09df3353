/* void tn_clamp_dsp(int8_t *values, uint32_t size, int32_t low, int32_t high)
 * Clamps in place, four values at a time; `values` is a multiple of 4, and up to 3 bytes after the last may change
 * (buffers in the arena are 16-byte aligned and padded). */
    .syntax unified
    .thumb
    .section .text.tn_clamp_dsp, "ax", %progbits
    .balign 4
    .global tn_clamp_dsp
    .type tn_clamp_dsp, %function
    .thumb_func
tn_clamp_dsp:
    uxtb r2, r2
    uxtb r3, r3
    orr r2, r2, r2, lsl #8
    orr r3, r3, r3, lsl #8
    orr r2, r2, r2, lsl #16
    orr r3, r3, r3, lsl #16
    push {r4}
    add r1, r0, r1
1:  ldr r12, [r0]
    ssub8 r4, r12, r2
    sel r12, r12, r2
    ssub8 r4, r3, r12
    sel r12, r12, r3
    str r12, [r0], #4
    cmp r0, r1
    blo 1b
    pop {r4}
    bx lr
    .size tn_clamp_dsp, . - tn_clamp_dsp
