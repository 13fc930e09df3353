"""Which kernel for Armv7-M's 64-bit products computes a node, and what it needs."""

from __future__ import annotations

import numpy as np

from thumbnet.cost.kernel import (
    STRIP_BYTES,
    Kernel,
    Overlap,
    Window,
    even_inputs,
    never_negative,
    one_scale,
    raster_distance,
    right_shifts,
    strip_overlap,
    sums_as_tflm,
    unpacking,
    window_of,
)
from thumbnet.integer.graph import IntegerGraph, IntegerNode

_MAX_DOUBLED = 1 << 30  # accumulators are doubled before the high product
# of a sum that shares 64 bits with another, bias left out
_MAX_LANE = 1 << 22
_MAX_DENSE_LANE = 1 << 23


def choose_v7m(node: IntegerNode, ig: IntegerGraph) -> Kernel | None:
    """The kernel for Armv7-M; None where there is none or the node misses its conditions."""
    match node.op:
        case "conv2d" | "dense" if node.weight_bits == 4:
            return None
        case "conv2d":
            return _conv2d(node, ig)
        case "depthwise_conv2d":
            kernel = _depthwise(node, ig)
            return None if kernel is None else unpacking(node, kernel)
        case "dense":
            return _dense(node, ig)
        case "add":
            return _add(node, ig)
    return None


def line_words(w: Window) -> int:
    """Words in a line of a depthwise convolution: columns are computed in pairs."""
    return (2 * -(-w.out_w // 2) - 1) * w.stride[1] + w.kernel[1]


def lines_of(w: Window, strip: int) -> int:
    """Lines from which a strip of output rows is computed, two rows at a time."""
    return (-(-strip // 2) - 1) * w.stride[0] + w.kernel[0]


def _conv2d(node: IntegerNode, ig: IntegerGraph) -> Kernel | None:
    if int(node.attrs["groups"]) != 1 or not right_shifts(node) or not _sums_fit(node, ig):
        return None
    w = window_of(node, ig)
    scratch = 8 * w.taps * w.in_c
    if not w.inside or w.dilation[1] != 1:
        scratch += 4 * w.run
    sources = ["generic/tn_windows.h", "v7m/quads.S", "v7m/conv2d.c"]
    suffix = _suffix(node, ig)
    if suffix:
        sources.append("v7m/conv2d_positive.c")
    return _kernel(node, f"tn_conv2d{suffix}_v7m", sources, scratch, Overlap(raster_distance(w)))


def _depthwise(node: IntegerNode, ig: IntegerGraph) -> Kernel | None:
    w = window_of(node, ig)
    if w.dilation != (1, 1) or not right_shifts(node) or not _sums_fit(node, ig):
        return None
    fit = STRIP_BYTES // (4 * line_words(w))
    strip = min(w.out_h, 2 * max(1, (fit - w.kernel[0]) // w.stride[0] + 1))
    name = f"depthwise_conv2d{'_k3' if w.kernel == (3, 3) else '_any'}{_suffix(node, ig)}"
    sources = ["v7m/depthwise_rows.S", "v7m/depthwise_conv2d.c", f"v7m/{name}.c"]
    scratch = 4 * (w.taps + lines_of(w, strip) * line_words(w))
    return _kernel(node, f"tn_{name}_v7m", sources, scratch, strip_overlap(w, strip), strip=strip)


def _dense(node: IntegerNode, ig: IntegerGraph) -> Kernel | None:
    if not one_scale(node) or not right_shifts(node) or not _sums_fit(node, ig, _MAX_DENSE_LANE):
        return None
    return _kernel(node, "tn_dense_v7m", ["v7m/dense.S"], 0, None)


def _add(node: IntegerNode, ig: IntegerGraph) -> Kernel | None:
    if not sums_as_tflm(node, ig):
        return None
    function = "tn_add_even_v7m" if even_inputs(node) else "tn_add_v7m"
    return _kernel(node, function, ["v7m/add.S"], 0, Overlap(0), Overlap(0))


def _suffix(node: IntegerNode, ig: IntegerGraph) -> str:
    """Of the function's name: whether the clamp swallows everything below the zero point."""
    return "_positive" if never_negative(node, ig) else ""


def _kernel(
    node: IntegerNode, function: str, sources: list[str], scratch: int, *overlaps: Overlap | None, strip: int = 0
) -> Kernel:
    clamped = node.clamp != (-128, 127)
    common = ("v7m/tn_kernels_v7m.h", *(("v7m/clamp.S",) if clamped else ()))
    return Kernel(function, (*common, *sources), scratch, overlaps, strip, clamped)


def _sums_fit(node: IntegerNode, ig: IntegerGraph, lane: int = _MAX_LANE) -> bool:
    """Whether sums of products fit their half of 64 bits, and with the bias (zero point folded in) can be doubled."""
    weight = node.arrays["weight"].astype(np.int64)
    channel = weight.ndim - 1 if node.op == "depthwise_conv2d" else 0
    sums = np.moveaxis(weight, channel, 0).reshape(len(node.arrays["bias"]), -1)
    magnitudes = np.abs(sums).sum(1)
    zero_point = ig.tensors[node.inputs[0]].zero_point
    largest = np.abs(node.arrays["bias"].astype(np.int64)) + (128 + abs(zero_point)) * magnitudes
    return bool(128 * magnitudes.max(initial=0) < lane and largest.max(initial=0) < _MAX_DOUBLED)
