"""Loop counts of the Armv7-M kernels: see `thumbnet.cost.features`, whose tables take these in."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from thumbnet.cost.kernel import Kernel, Window
from thumbnet.cost.kernels_v7m import line_words, lines_of
from thumbnet.cost.walk import flattened, walk
from thumbnet.integer.graph import IntegerGraph, IntegerNode

Features = tuple[float, ...]


def conv2d(w: Window, groups: int, strip: int, clamped: bool) -> Features:
    """Loops of quads.S, and of conv2d.c around them."""
    w = flattened(w)
    path = walk(w, 4)
    pixels = w.out_h * w.out_w
    slow = -(-(pixels - 4 * path.fast) // 4)
    quads = path.fast + slow
    pairs = quads * -(-w.out_c // 2)
    terms = w.taps * w.in_c
    return (
        1,
        path.calls,
        quads,
        slow,
        quads * w.kernel[0],
        slow * w.kernel[0],
        quads * w.kernel[0] * (w.run // 2),
        quads * w.kernel[0] * (w.run % 2),
        pairs,
        pairs * terms,
        pairs * -(-terms // 8),
        quads * (w.out_c % 2),
        *path.borders(w),
        pixels * w.out_c * clamped,
    )


def depthwise_conv2d(w: Window, groups: int, strip: int, clamped: bool) -> Features:
    """Loops of depthwise_conv2d.c and depthwise_rows.S."""
    strip = min(strip, w.out_h)
    columns = max(0, min(w.in_w, line_words(w) - w.padding[1]))
    strips = loaded = carried = pairs = 0
    for first in range(0, w.out_h, strip):
        held = lines_of(w, min(strip, w.out_h - first))
        kept = min(held, max(0, w.kernel[0] - w.stride[0])) if first else 0
        strips, loaded, carried = strips + 1, loaded + held - kept, carried + kept
        pairs += -(-min(strip, w.out_h - first) // 2)
    tiles = pairs * -(-w.out_w // 2)
    return (
        1,
        lines_of(w, strip) * line_words(w),
        w.out_c,
        w.out_c * w.taps,
        w.out_c * strips,
        w.out_c * loaded,
        w.out_c * loaded * (columns // 2),
        w.out_c * loaded * (columns % 2),
        w.out_c * carried,
        w.out_c * carried * columns,
        w.out_c * pairs,
        w.out_c * tiles,
        w.out_c * tiles * w.kernel[0],
        w.out_c * tiles * w.taps,
        w.out_h * w.out_w * w.out_c * clamped,
    )


def dense(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    out_c, in_c = node.arrays["weight"].shape
    groups = -(-out_c // 4)
    ends = (out_c % 4 == 1, out_c % 4 == 2, out_c % 4 == 3)
    return (1, in_c, groups, groups * in_c, groups * -(-in_c // 8), *ends, out_c * kernel.clamped)


def add(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    size = ig.tensors[node.name].bytes
    return (1, size, size * kernel.clamped)


CONVOLUTIONS: Mapping[str, Callable[[Window, int, int, bool], Features]] = {
    "tn_conv2d_v7m": conv2d,
    "tn_conv2d_positive_v7m": conv2d,
    "tn_depthwise_conv2d_k3_v7m": depthwise_conv2d,
    "tn_depthwise_conv2d_k3_positive_v7m": depthwise_conv2d,
    "tn_depthwise_conv2d_any_v7m": depthwise_conv2d,
    "tn_depthwise_conv2d_any_positive_v7m": depthwise_conv2d,
}
FEATURES: Mapping[str, Callable[[IntegerNode, IntegerGraph, Kernel], Features]] = {
    "tn_dense_v7m": dense,
    "tn_add_v7m": add,
    "tn_add_even_v7m": add,
}
