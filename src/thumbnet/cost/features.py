"""What the running time of each kernel is linear in: counts of its loops' iterations, from shapes alone.

One function per kernel returns a tuple of counts; `thumbnet.cost.latency` multiplies them with coefficients fitted to
the emulator's exact instruction counts. The constant 1 (the call) is always the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from thumbnet.cost import features_mve, features_v7m
from thumbnet.cost.kernel import Kernel, Window, window_of
from thumbnet.cost.lines import Lines
from thumbnet.cost.schedule import Unit
from thumbnet.cost.walk import flattened, memory, walk
from thumbnet.integer.binary import operands_of, repetition
from thumbnet.integer.graph import IntegerGraph, IntegerNode
from thumbnet.integer.moves import copies, pad_channels
from thumbnet.integer.reductions import blocks

Features = tuple[float, ...]
FeatureFunction = Callable[[IntegerNode, IntegerGraph, Kernel], Features]


def _inside(w: Window) -> int:
    """Taps, summed over output pixels, that lie inside the image."""

    def axis(size: int, count: int, i: int) -> int:
        starts = np.arange(count) * w.stride[i] - w.padding[i]
        taps = starts[:, None] + np.arange(w.kernel[i]) * w.dilation[i]
        return int(((taps >= 0) & (taps < size)).sum())

    return axis(w.in_h, w.out_h, 0) * axis(w.in_w, w.out_w, 1)


def conv2d(w: Window, groups: int, strip: int, clamped: bool) -> Features:
    pixels, terms = w.out_h * w.out_w, w.taps * w.in_c // groups
    quads, singles = groups * (w.out_c // groups // 4), groups * (w.out_c // groups % 4)
    runs = (pixels * quads, pixels * quads * terms, pixels * singles, pixels * singles * terms)
    return (*_gathered(w, groups), *runs)


def conv2d_int4(w: Window, groups: int, strip: int, clamped: bool) -> Features:
    pixels, terms = w.out_h * w.out_w, w.taps * w.in_c // groups
    quads = groups * -(-w.out_c // groups // 4)
    return (*_gathered(w, groups), pixels * groups * terms, pixels * w.out_c, *_dots(pixels * quads, terms))


def _dots(rows: int, terms: int) -> Features:
    """Loops of dots_int4.c over four values at a time, and four times that; of one or two channels as of four."""
    fours, rest = divmod(terms, 4)
    return (rows, rows * fours, rows * -(-fours // 4), rows * (rest > 0), rows * rest)


def _gathered(w: Window, groups: int) -> Features:
    """Copies of the generic convolutions' columns."""
    pixels, taps = w.out_h * w.out_w, w.taps
    depth = w.in_c // groups
    inside = _inside(w) * groups
    outside = pixels * taps * groups - inside
    words = depth // 16 if w.in_c % 4 == 0 and depth % 4 == 0 else 0
    return (
        1,
        pixels,
        pixels * groups * w.kernel[0],
        inside,
        inside * words,
        inside * (depth - 16 * words),
        outside,
        outside * depth,
    )


def depthwise_conv2d(w: Window, groups: int, strip: int, clamped: bool) -> Features:
    strips = -(-w.out_h // min(strip, w.out_h))
    rows = (w.out_h - 1) * w.stride[0] + w.span
    real = min(w.in_h + w.padding[0], rows) - w.padding[0]
    values = min(w.in_w, w.pitch - w.padding[1])
    pixels = w.out_h * w.out_w
    moved = max(0, w.span - w.stride[0]) * w.pitch * (strips - 1)
    return (
        1,
        w.out_c,
        w.out_c * strips,
        w.out_c * rows,
        w.out_c * real * values,
        w.out_c * moved,
        w.out_c * w.out_h,
        w.out_c * pixels,
        w.out_c * pixels * w.kernel[0],
        w.out_c * pixels * w.kernel[0] * w.kernel[1],
    )


def _rest(clamped: bool, size: int) -> float:
    """Words that a second pass clamps."""
    return -(-size // 4) if clamped else 0


def conv2d_dsp(w: Window, groups: int, strip: int, clamped: bool) -> Features:
    return _pairs(flattened(w), w.twos, 8, clamped)


def conv2d_int4_dsp(w: Window, groups: int, strip: int, clamped: bool) -> Features:
    """Two words of columns at a time, and once more for each pair of pixels, to sum them up."""
    steps = -(-w.twos // 2)
    return (*_pairs(flattened(w), steps, 4, clamped), -(-w.out_h * w.out_w // 2) * steps)


def _pairs(w: Window, steps: int, unroll: int, clamped: bool) -> Features:
    """Loops of tn_pairs.h, and of convolve.c around them."""
    path = walk(w, 2)
    pixels = w.out_h * w.out_w
    pairs = -(-pixels // 2)
    slow = pairs - path.fast
    groups_of_four, rest = divmod(w.out_c, 4)
    runs = pairs * (groups_of_four + (rest > 0))
    fours, left = divmod(w.run, 4)
    return (
        1,
        path.calls,
        pairs,
        slow,
        pairs * w.kernel[0],
        slow * w.kernel[0],
        pairs * w.kernel[0] * fours,
        *(pairs * w.kernel[0] * (left == i) for i in (1, 2, 3)),
        runs,
        runs * steps,
        runs * -(-(steps - 1) // unroll),
        pairs * (rest > 0),
        pairs * (rest == 2),
        pairs * (rest == 3),
        *path.borders(w),
        _rest(clamped, pixels * w.out_c),
    )


def depthwise_dsp(w: Window, groups: int, strip: int, clamped: bool) -> Features:
    """Loops of depthwise.c, depthwise_load.S and the row functions."""
    lines = Lines.of(w)
    fours, steps = -(-w.out_c // 4), -(-w.out_h // lines.rows)
    loads = fours * (lines.lines + (steps - 1) * (lines.lines - lines.kept))
    head = w.padding[1] % 2
    room = lines.words - (w.padding[1] + 1) // 2
    pairs = min((w.in_w - head) // 2, room)
    tail = (w.in_w - head) % 2 if pairs < room else 0
    rows = w.out_c * steps
    odd = w.out_w % 2
    return (
        1,
        lines.bytes / 4,
        fours,
        w.out_c,
        fours * steps,
        loads,
        loads * (head + pairs + tail),
        loads * (head + tail),
        rows,
        rows * (w.out_w // 2),
        rows * odd,
        _rest(clamped, w.out_h * w.out_w * w.out_c),
    )


def conv_transpose2d(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    """Rows, beyond what the phases' kernels take."""
    return (1, ig.tensors[node.name].shape[0])


def dense_dsp(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    out_c, in_c = node.arrays["weight"].shape
    groups, eights = -(-out_c // 4), -(-in_c // 8)
    runs = (groups, groups * eights, groups * -(-eights // 4))
    return (1, *runs, out_c % 4 > 0, out_c % 4 == 2, out_c % 4 == 3, _rest(kernel.clamped, out_c))


def dense_int4_dsp(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    return (*dense_dsp(node, ig, kernel), -(-node.arrays["weight"].shape[1] // 8))


def dense_int4(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    out_c, in_c = node.arrays["weight"].shape
    return (1, in_c, out_c, *_dots(-(-out_c // 4), in_c))


def unpacking(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    """What weights of 4 bits cost before the kernel for those of 8 starts."""
    return (1, node.weight_bytes)


def dense(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    out_c, in_c = node.arrays["weight"].shape
    return (1, out_c, out_c * in_c)


def _elements(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    return (1, ig.tensors[node.name].bytes)


def pair(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    """Elements, and how often the second operand is read."""
    out = ig.tensors[node.name]
    operands = operands_of(node, [ig.tensors[v] for v in node.inputs])
    smaller = min(operands, key=lambda t: t.bytes)
    found = repetition(smaller.shape, out.shape)
    assert found is not None  # or the node would not be valid
    return (1, out.bytes // found[0], out.bytes)


def add_dsp(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    size = ig.tensors[node.name].bytes
    return (1, size // 4, size % 4 > 0, _rest(kernel.clamped, size))


def pool(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    w = window_of(node, ig)
    pixels = w.out_h * w.out_w * w.out_c
    return (1, w.out_c, w.out_c * w.out_h, pixels, pixels * w.kernel[0], _inside(w) * w.out_c)


def pool_dsp(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    """Loops of avg_pool2d.c or max_pool2d.c, and of pool.S. Windows as wide as the image count as one row."""
    w = window_of(node, ig)
    ends = [np.arange(n) * s - p for n, s, p in zip((w.out_h, w.out_w), w.stride, w.padding, strict=True)]
    rows, columns = (
        np.minimum(e + k, size) - np.maximum(e, 0) for e, k, size in zip(ends, w.kernel, (w.in_h, w.in_w), strict=True)
    )
    whole = columns == w.in_w
    lines = np.where(whole, 1, rows[:, None])
    taps = np.where(whole, rows[:, None] * columns, columns)  # of a line
    groups = -(-w.in_c // 4)
    return (
        1,
        groups,
        groups * w.out_h,
        groups * w.out_h * w.out_w,
        w.in_c * w.out_h * w.out_w,
        groups * int(lines.sum()),
        groups * int((lines * (taps // 2)).sum()),
        groups * int((lines * (taps % 2)).sum()),
    )


def global_avg_pool_dsp(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    h, w, c = ig.tensors[node.inputs[0]].shape
    groups = -(-c // 4)
    return (1, groups, c, groups * -(-h * w // 256), groups * (h * w // 2), groups * (h * w % 2))


def global_avg_pool(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    h, w, c = ig.tensors[node.inputs[0]].shape
    return (1, c, c * h * w)


def reduction(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    """Groups, outputs, inputs."""
    found = blocks(node.attrs["axes"], ig.tensors[node.inputs[0]].shape)
    assert found is not None  # or the node would not be valid
    outer, count, inner = found
    return (1, outer, outer * inner, outer * count * inner)


def copy_blocks(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    """Kernel calls, and copies summed over them. Runs that start at odd places go byte by byte."""
    shape = ig.tensors[node.name].shape
    axis = int(node.attrs["axis"]) % len(shape)
    blocks = math.prod(shape[:axis])
    total, start, out_step = np.zeros(3), 0, math.prod(shape[axis:])
    for name in node.inputs:
        step = math.prod(ig.tensors[name].shape[axis:])
        size = min(step, out_step)
        begin = int(node.attrs["start"]) * (size // shape[axis]) if node.op == "slice" else start
        total += memory(blocks, size, all(n % 4 == 0 for n in (step, out_step, begin)))
        start += size
    return (len(node.inputs), *total)


def pad(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    """Copies of rows or, where channels are added, of pixels; bytes set, in words where they lie so."""
    h, w, c = ig.tensors[node.inputs[0]].shape
    _, wide, depth = ig.tensors[node.name].shape
    left, front = int(node.attrs["padding"][1]), pad_channels(node)[0]
    added = depth > c
    places = (c, front, depth) if added else (w * c, left * c, wide * c)
    aligned = all(n % 4 == 0 for n in places)
    outside = ig.tensors[node.name].bytes - h * w * c
    words = outside // 4 if aligned else 0
    copied = memory(h * w, c, aligned) if added else memory(h, w * c, aligned)
    return (1, *copied, h * w if added else 0, words, outside - 4 * words)


def move(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    """Innermost loops, single bytes, and longer copies."""
    loops = copies(node, ig.tensors[node.inputs[0]].shape, ig.tensors[node.name].shape)
    count, inner = math.prod(loops.sizes), loops.sizes[-1] if loops.sizes else 1
    aligned = all(n % 4 == 0 for n in (loops.start, loops.run, *loops.steps))
    copied = memory(count, loops.run, aligned) if loops.run > 1 else (0, 0, 0)
    return (1, count // inner, count if loops.run == 1 else 0, *copied)


def resize_nearest(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    h, w, c = ig.tensors[node.name].shape
    return (1, h, *memory(h * w, c, c % 4 == 0))


def resize_bilinear(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    h, w, c = ig.tensors[node.name].shape
    return (1, h, h * w, h * w * c)


def softmax(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    shape = ig.tensors[node.name].shape
    rows = int(np.prod(shape[:-1]))
    return (1, rows, rows * shape[-1])


def cascade(unit: Unit) -> Features:
    """Rounds, pieces, buffers that move rows, and bytes moved."""
    assert unit.replay is not None
    runs, moved = unit.replay.runs, unit.replay.moved
    count = len(unit.kernels)
    sizes = [w.out_w * w.out_c for w in unit.windows]
    return (
        1,
        unit.replay.rounds,
        unit.replay.rounds * count,
        len(runs),
        sum(1 for stage, _, _ in runs if stage < count - 1),
        sum(m * size for m, size in zip(moved, sizes, strict=False)),
    )


# of a window, groups, output rows per strip, whether a second pass clamps
CONVOLUTIONS: Mapping[str, Callable[[Window, int, int, bool], Features]] = {
    "tn_conv2d": conv2d,
    "tn_conv2d_int4": conv2d_int4,
    "tn_depthwise_conv2d": depthwise_conv2d,
    "tn_conv2d_dsp": conv2d_dsp,
    "tn_conv2d_positive_dsp": conv2d_dsp,
    "tn_conv2d_int4_dsp": conv2d_int4_dsp,
    "tn_conv2d_int4_positive_dsp": conv2d_int4_dsp,
    **{
        f"tn_depthwise_conv2d_{kernel}{suffix}_dsp": depthwise_dsp
        for kernel in ("k3s1", "k3s2", "k5s1", "k5s2")
        for suffix in ("", "_positive")
    },
    **features_v7m.CONVOLUTIONS,
    **features_mve.CONVOLUTIONS,
}

FEATURES: Mapping[str, FeatureFunction] = {
    "tn_conv_transpose2d": conv_transpose2d,
    "tn_dense": dense,
    "tn_dense_dsp": dense_dsp,
    "tn_dense_int4": dense_int4,
    "tn_dense_int4_dsp": dense_int4_dsp,
    "tn_depthwise_conv2d_int4": unpacking,
    "tn_add_dsp": add_dsp,
    "tn_add_even_dsp": add_dsp,
    "tn_add": pair,
    "tn_mul": pair,
    "tn_maximum": pair,
    "tn_minimum": pair,
    "tn_prelu": pair,
    "tn_max_pool2d": pool,
    "tn_avg_pool2d": pool,
    "tn_global_avg_pool": global_avg_pool,
    "tn_max_pool2d_dsp": pool_dsp,
    "tn_avg_pool2d_dsp": pool_dsp,
    "tn_global_avg_pool_dsp": global_avg_pool_dsp,
    "tn_lut": _elements,
    "tn_requantize": _elements,
    "tn_copy_blocks": copy_blocks,
    "tn_pad": pad,
    "tn_move": move,
    "tn_reduce_sum": reduction,
    "tn_reduce_max": reduction,
    "tn_reduce_min": reduction,
    "tn_resize_nearest": resize_nearest,
    "tn_take": resize_nearest,
    "tn_resize_bilinear": resize_bilinear,
    "tn_softmax": softmax,
    **features_v7m.FEATURES,
    **features_mve.FEATURES,
}
