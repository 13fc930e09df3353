"""What the running time of each kernel is linear in: counts of its loops' iterations, from shapes alone.

One function per kernel returns a tuple of counts; `thumbnet.cost.latency` multiplies them with coefficients fitted to
the emulator's exact instruction counts. The constant 1 (the call) is always the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from thumbnet.cost.kernels import Kernel, Window, window_of
from thumbnet.cost.schedule import Unit
from thumbnet.integer.graph import IntegerGraph, IntegerNode

Features = tuple[float, ...]
Booleans = npt.NDArray[np.bool_]
FeatureFunction = Callable[[IntegerNode, IntegerGraph, Kernel], Features]


def _inside(w: Window) -> int:
    """Taps, summed over output pixels, that lie inside the image."""

    def axis(size: int, count: int, i: int) -> int:
        starts = np.arange(count) * w.stride[i] - w.padding[i]
        taps = starts[:, None] + np.arange(w.kernel[i]) * w.dilation[i]
        return int(((taps >= 0) & (taps < size)).sum())

    return axis(w.in_h, w.out_h, 0) * axis(w.in_w, w.out_w, 1)


def conv2d(w: Window, groups: int, strip: int, clamped: bool) -> Features:
    pixels, taps = w.out_h * w.out_w, w.kernel[0] * w.kernel[1]
    depth, count = w.in_c // groups, w.out_c // groups
    inside = _inside(w) * groups
    outside = pixels * taps * groups - inside
    quads, singles = groups * (count // 4), groups * (count % 4)
    terms = taps * depth
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
        pixels * quads,
        pixels * quads * terms,
        pixels * singles,
        pixels * singles * terms,
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


def _dot2(columns: int, values: int, channels: int) -> Features:
    """Loops of tn_columns_dsp: `columns` pairs of `values` values, times `channels`."""
    fours, groups = -(-values // 4), -(-channels // 4)
    runs = columns * groups
    return (
        columns,
        runs,
        runs * fours,
        runs * (fours % 2),
        columns * fours,
        columns * (channels % 4 > 0),
        columns * (channels % 4),
    )


def conv2d_1x1_dsp(w: Window, groups: int, strip: int, clamped: bool) -> Features:
    pairs = -(-w.out_h * w.out_w // 2)
    return (1, *_dot2(pairs, w.in_c, w.out_c), _rest(clamped, w.out_h * w.out_w * w.out_c))


def conv2d_dsp(w: Window, groups: int, strip: int, clamped: bool) -> Features:
    pixels = w.out_h * w.out_w
    pairs = -(-pixels // 2)
    return (
        1,
        *_dot2(pairs, w.taps * w.in_c, w.out_c),
        *(_gathered_bytes(w) if w.in_c % 4 else _gathered(w)),
        _rest(clamped, pixels * w.out_c),
    )


def _windows(w: Window) -> tuple[Booleans, Booleans]:
    """Per output pixel: whether its window lies inside from left to right [pixels], and each row [pixels, kernel_h]."""
    left = np.arange(w.out_w) * w.stride[1] - w.padding[1]
    whole = (left >= 0) & (left + w.kernel[1] <= w.in_w) & (w.dilation[1] == 1)
    top = np.arange(w.out_h) * w.stride[0] - w.padding[0]
    rows = top[:, None] + np.arange(w.kernel[0]) * w.dilation[0]
    inside = (rows >= 0) & (rows < w.in_h)
    return np.tile(whole, w.out_h), np.repeat(inside, w.out_w, 0)


@lru_cache(maxsize=1024)
def _gathered(w: Window) -> Features:
    """Calls of tn_widen2_dsp for whole rows and for single taps, by pairs of pixels; then what bytes would need."""
    whole, inside = _windows(w)
    if len(whole) % 2:
        whole, inside = np.append(whole, whole[-1]), np.concatenate([inside, inside[-1:]])
    together = (whole[::2] & whole[1::2])[:, None] & inside[::2] & inside[1::2]
    rows = int(together.sum())
    return (rows, (together.size - rows) * w.kernel[1], 0, 0, 0, 0, 0)


@lru_cache(maxsize=1024)
def _gathered_bytes(w: Window) -> Features:
    """Copies of whole rows and of single taps, and the words and bytes they copy, by pixels."""
    whole, inside = _windows(w)
    alone = w.out_h * w.out_w % 2
    rows = int((whole[:, None] & inside).sum()) + alone * int((whole[-1] & inside[-1]).sum())
    taps = (inside.size + alone * w.kernel[0] - rows) * w.kernel[1]
    run = w.kernel[1] * w.in_c
    words = rows * (run // 4) + taps * (w.in_c // 4)
    single = rows * (run % 4) + taps * (w.in_c % 4)
    return (0, 0, w.out_h * w.out_w + alone, rows, taps, words, single)


def depthwise_dsp(w: Window, groups: int, strip: int, clamped: bool) -> Features:
    fours = -(-w.out_w // 4)
    pitch = ((4 * fours - 1) * w.stride[1] + w.kernel[1] + 1) & ~1
    strips = -(-w.out_h // min(strip, w.out_h))
    held = (min(strip, w.out_h) - 1) * w.stride[0] + w.kernel[0]
    rows = (w.out_h - 1) * w.stride[0] + w.kernel[0]
    real = max(0, min(w.in_h + w.padding[0], rows) - w.padding[0])
    columns = min(w.in_w, pitch - w.padding[1])
    lead = w.padding[1] & 1
    moved = max(0, w.kernel[0] - w.stride[0]) * pitch * (strips - 1)
    first = w.stride[1] == 1
    full, partial = w.out_w // 4 * w.out_h, w.out_w % 4
    return (
        1,
        held * pitch,
        w.out_c,
        w.out_c * strips,
        w.out_c * moved,
        w.out_c * (strips - 1),
        w.out_c * (rows - real),
        w.out_c * (rows - real) * pitch,
        w.out_c * real,
        w.out_c * real * ((columns - lead) // 4),
        w.out_c * real * ((columns - lead) % 4),
        w.out_c * w.out_h,
        w.out_c * full if first else 0,
        0 if first else w.out_c * full,
        w.out_c * w.out_h if first and partial else 0,
        w.out_c * w.out_h if not first and partial else 0,
        w.out_c * w.out_h * partial,
        _rest(clamped, w.out_h * w.out_w * w.out_c),
    )


def dense_dsp(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    out_c, in_c = node.arrays["weight"].shape
    return (1, *_dot2(1, in_c, out_c), in_c if in_c % 4 else 0, _rest(kernel.clamped, out_c))


def dense(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    out_c, in_c = node.arrays["weight"].shape
    return (1, out_c, out_c * in_c)


def _elements(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    return (1, ig.tensors[node.name].bytes)


def add_dsp(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    size = ig.tensors[node.name].bytes
    return (1, size // 4, size % 4 > 0, _rest(kernel.clamped, size))


def pool(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    w = window_of(node, ig)
    pixels = w.out_h * w.out_w * w.out_c
    return (1, w.out_c, w.out_c * w.out_h, pixels, pixels * w.kernel[0], _inside(w) * w.out_c)


def global_avg_pool(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    h, w, c = ig.tensors[node.inputs[0]].shape
    return (1, c, c * h * w)


def _memory(count: int, size: int, aligned: bool) -> Features:
    """Calls of memcpy or memset, blocks of 16 bytes where both ends are at multiples of 4, single bytes."""
    blocks = size // 16 if aligned else 0
    return (count, count * blocks, count * (size - 16 * blocks))


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
        total += _memory(blocks, size, all(n % 4 == 0 for n in (step, out_step, begin)))
        start += size
    return (len(node.inputs), *total)


def pad(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    """Rows, copies, and bytes set, in words where the channels come in fours."""
    h, w, c = ig.tensors[node.inputs[0]].shape
    outside = ig.tensors[node.name].bytes - h * w * c
    words = outside // 4 if c % 4 == 0 else 0
    return (1, *_memory(h, w * c, c % 4 == 0), words, outside - 4 * words)


def resize_nearest(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    h, w, c = ig.tensors[node.name].shape
    return (1, h, *_memory(h * w, c, c % 4 == 0))


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
    "tn_depthwise_conv2d": depthwise_conv2d,
    "tn_conv2d_dsp": conv2d_dsp,
    "tn_conv2d_1x1_dsp": conv2d_1x1_dsp,
    "tn_depthwise_conv2d_k3_dsp": depthwise_dsp,
    "tn_depthwise_conv2d_k5_dsp": depthwise_dsp,
}

FEATURES: Mapping[str, FeatureFunction] = {
    "tn_dense": dense,
    "tn_dense_dsp": dense_dsp,
    "tn_add_dsp": add_dsp,
    "tn_add_even_dsp": add_dsp,
    "tn_add": _elements,
    "tn_mul": _elements,
    "tn_max_pool2d": pool,
    "tn_avg_pool2d": pool,
    "tn_global_avg_pool": global_avg_pool,
    "tn_lut": _elements,
    "tn_requantize": _elements,
    "tn_copy_blocks": copy_blocks,
    "tn_pad": pad,
    "tn_resize_nearest": resize_nearest,
    "tn_softmax": softmax,
}
