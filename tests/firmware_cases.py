"""Hand-written firmware folders: small enough to count by hand."""

from __future__ import annotations

from pathlib import Path

HEADER = """
#include <stdint.h>
#define MODEL_ARENA_BYTES 64
int8_t *model_input(void *arena);
const int8_t *model_output(const void *arena);
void model_invoke(void *arena);
void kernel(int8_t *data, int n);
"""
MAIN = """
#include "model.h"
static int8_t arena[MODEL_ARENA_BYTES] __attribute__((aligned(16)));
int main(void)
{
    model_invoke(arena);
    return *model_output(arena) + *model_input(arena);
}
"""
ACCESS = """
#include "model.h"
int8_t *model_input(void *arena) { return arena; }
const int8_t *model_output(const void *arena) { return (const int8_t *)arena + 32; }
"""
INPUT_BYTES, OUTPUT_BYTES = 16, 8

# output[0] = input[0] + 10 * input[1], then the same with 3: the second call's value stays.
COUNTED = """
    .syntax unified
    .thumb
    .section .text.model_invoke, "ax"
    .global model_invoke
    .type model_invoke, %function
    .thumb_func
model_invoke:
    push {r4, lr}
    mov r4, r0
    movs r1, #10
    bl kernel
    movs r1, #3
    mov r0, r4
    bl kernel
    pop {r4, pc}
    .size model_invoke, . - model_invoke

    .section .text.kernel, "ax"
    .global kernel
    .type kernel, %function
    .thumb_func
kernel:
    ldrb r2, [r0]
    ldrb r3, [r0, #1]
1:
    adds r2, r2, r3
    subs r1, #1
    bne 1b
    movs r3, #32
    strb r2, [r0, r3]
    bx lr
    .size kernel, . - kernel
"""


def write(folder: Path, **files: str) -> Path:
    """A firmware folder; `model_c="..."` becomes model.c, and so on, beside what every folder needs."""
    content = {"model_h": HEADER, "main_c": MAIN, "access_c": ACCESS, **files}
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in content.items():
        stem, suffix = name.rsplit("_", 1)
        (folder / f"{stem}.{suffix}").write_text(text)
    return folder


def counted(folder: Path) -> Path:
    """The assembly program above."""
    return write(folder, model_S=COUNTED)


def invoking(folder: Path, body: str, *, before: str = "", **files: str) -> Path:
    """A folder whose `model_invoke(int8_t *m)` has this body; `before` stands in front of it."""
    invoke = f"void model_invoke(void *arena)\n{{ int8_t *m = arena; {body} }}\n"
    return write(folder, model_c='#include <string.h>\n#include "model.h"\n' + before + "\n" + invoke, **files)
