"""What the running time of each kernel is linear in: counts of its loops' iterations, from shapes alone.

One function per kernel returns a tuple of counts; `thumbnet.cost.latency` multiplies them with coefficients fitted to the
emulator's exact instruction counts. The constant 1 (the call) is always the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from thumbnet.cost.kernels import Kernel, Window, window_of
from thumbnet.integer.graph import IntegerGraph, IntegerNode

Features = tuple[float, ...]
FeatureFunction = Callable[[IntegerNode, IntegerGraph, Kernel], Features]


def _inside(w: Window) -> int:
    """Taps, summed over output pixels, that lie inside the image."""

    def axis(size: int, count: int, i: int) -> int:
        starts = np.arange(count) * w.stride[i] - w.padding[i]
        taps = starts[:, None] + np.arange(w.kernel[i]) * w.dilation[i]
        return int(((taps >= 0) & (taps < size)).sum())

    return axis(w.in_h, w.out_h, 0) * axis(w.in_w, w.out_w, 1)


def conv2d(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    w = window_of(node, ig)
    groups = int(node.attrs["groups"])
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


def depthwise_conv2d(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    w = window_of(node, ig)
    strips = -(-w.out_h // kernel.strip)
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


def dense(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    out_c, in_c = node.arrays["weight"].shape
    return (1, out_c, out_c * in_c)


def _elements(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    return (1, ig.tensors[node.name].bytes)


def pool(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    w = window_of(node, ig)
    pixels = w.out_h * w.out_w * w.out_c
    return (1, w.out_c, w.out_c * w.out_h, pixels, pixels * w.kernel[0], _inside(w) * w.out_c)


def global_avg_pool(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    h, w, c = ig.tensors[node.inputs[0]].shape
    return (1, c, c * h * w)


def copy_blocks(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    shape = ig.tensors[node.name].shape
    axis = int(node.attrs["axis"]) % len(shape)
    blocks = int(np.prod(shape[:axis])) * (len(node.inputs) if node.op == "concat" else 1)
    return (len(node.inputs) if node.op == "concat" else 1, blocks, ig.tensors[node.name].bytes)


def pad(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    rows = ig.tensors[node.inputs[0]].shape[0]
    inner, outer = ig.tensors[node.inputs[0]].bytes, ig.tensors[node.name].bytes
    return (1, rows, inner, outer - inner)


def resize_nearest(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    h, w, c = ig.tensors[node.name].shape
    return (1, h, h * w, h * w * c)


def softmax(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    shape = ig.tensors[node.name].shape
    rows = int(np.prod(shape[:-1]))
    return (1, rows, rows * shape[-1])


FEATURES: Mapping[str, FeatureFunction] = {
    "tn_conv2d": conv2d,
    "tn_depthwise_conv2d": depthwise_conv2d,
    "tn_dense": dense,
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
