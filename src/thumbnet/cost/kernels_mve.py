"""Which Helium kernel computes a node, and what it needs: see `thumbnet.cost.kernels`."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from thumbnet.cost.kernel import (
    Kernel,
    Overlap,
    Window,
    channel_overlap,
    first_inputs,
    never_negative,
    one_scale,
    raster_distance,
    right_shifts,
    strip_overlap,
    sums_as_tflm,
    whole_inputs,
    window_of,
)
from thumbnet.integer.binary import operands_of, repetition
from thumbnet.integer.graph import IntegerGraph, IntegerNode

BLOCK = 16  # values that one instruction multiplies
NARROW_TILE = 16  # TN_TILE in tn_narrow_mve.h
PLANES = 8  # TN_PLANES in tn_columns_mve.h
WIDE_BLOCKS = (2, 4)  # of the kernels for large depthwise windows
_HEADER = "mve/tn_kernels_mve.h"
_COMMON = (_HEADER, "mve/tn_mve.h")


def choose_mve(node: IntegerNode, ig: IntegerGraph) -> Kernel | None:
    """The kernel for cores with Helium; None where there is none or the node misses its conditions."""
    if node.weight_bits == 4:
        return None
    match node.op:
        case "dense":
            return _dense(node, ig)
        case "conv2d":
            return _conv2d(node, ig)
        case "depthwise_conv2d":
            return _depthwise(node, ig)
        case "add":
            return _add(node, ig)
        case "mul":
            return _mul(node, ig)
        case "lut":
            return Kernel("tn_lut_mve", (*_COMMON, "mve/lut.c"), 0, (Overlap(0),))
        case "max_pool2d" | "avg_pool2d":
            return _pool(node, ig)
        case "global_avg_pool" if -31 <= node.attrs["shift"] <= -1:
            sources = (*_COMMON, "mve/tn_scale_mve.h", "mve/global_avg_pool.c")
            return Kernel("tn_global_avg_pool_mve", sources, 0, (Overlap(0, exact=True),))
    return None


def blocks_of(values: int) -> int:
    """Blocks of 16 values that hold so many."""
    return -(-values // BLOCK)


def turned(w: Window) -> Window:
    """The same depthwise convolution with its rows as columns, where images are one pixel wide."""
    if (w.in_w, w.out_w, w.kernel[1], w.padding[1]) != (1, 1, 1, 0):
        return w
    return replace(
        w, in_h=1, out_h=1, in_w=w.in_h, out_w=w.out_h, kernel=(1, w.kernel[0]), stride=(1, w.stride[0]),
        dilation=(1, w.dilation[0]), padding=(0, w.padding[0]),
    )  # fmt: skip


def plane_blocks(w: Window) -> int:
    """Blocks of 16 bytes that a window of a depthwise convolution takes in a plane, gaps included."""
    return blocks_of(w.span * ((w.kernel[1] - 1) * w.dilation[1] + 1))


def runs_of(w: Window, function: str) -> int:
    """Runs of bytes that a window of a convolution is read in."""
    return w.kernel[0] if "_rows" in function else 1


def in_place(w: Window, runs: int) -> bool:
    """Whether windows inside of the image are read where they lie, not from copies."""
    return runs == w.kernel[0] and w.dilation[1] == 1


@lru_cache(maxsize=4096)
def tiled_distance(w: Window, tile: int) -> int:
    """`raster_distance` where up to `tile` pixels are computed at a time and read again between writes.

    A tile's outputs must not reach what it reads itself, or later ones read. Tiles may start anywhere.
    """
    first = first_inputs(w)
    ends = np.minimum(np.arange(first.size) + tile, first.size)
    return int(np.max(ends * w.out_c - first))


def _conv2d(node: IntegerNode, ig: IntegerGraph) -> Kernel | None:
    if int(node.attrs["groups"]) != 1 or not _sums_fit(node, ig):
        return None
    suffix = _suffix(node, ig)
    if suffix is None:
        return None
    w = window_of(node, ig)
    if w.taps * w.in_c <= BLOCK:
        again = w.taps == 1 and w.padding == (0, 0)
        scratch = NARROW_TILE * BLOCK + (4 * NARROW_TILE if w.out_c % 4 else 0)
        sources = (
            f"mve/conv2d_narrow{suffix}.c",
            "mve/tn_narrow_mve.h",
            "mve/narrow.S",
            "mve/window.c",
            "mve/copy_rows.S",
        )
        overlap = Overlap(tiled_distance(w, NARROW_TILE) if again else raster_distance(w))
        return _kernel(node, f"tn_conv2d_narrow{suffix}_mve", sources, scratch, overlap)
    suffix = f"_rows{suffix}" if _rows_pay(w) else suffix
    runs = runs_of(w, suffix)
    run = w.run if runs == w.kernel[0] else w.taps * w.in_c
    overlap = Overlap(tiled_distance(w, 3) if in_place(w, runs) else raster_distance(w))
    scratch = 3 * runs * BLOCK * blocks_of(run)
    if w.kernel[0] == 1 and w.inside and run % BLOCK == 0 and w.dilation[1] == 1:
        scratch = 0
    sources = (f"mve/conv2d{suffix}.c", "mve/tn_convolve_mve.h", "mve/triples.S", "mve/window.c", "mve/copy_rows.S")
    return _kernel(node, f"tn_conv2d{suffix}_mve", sources, scratch, overlap)


def _rows_pay(w: Window) -> bool:
    """Whether reading windows row by row, where they lie, takes less instructions than copying them into one run.

    Rows are filled up to blocks of 16 values, each one takes 18 instructions more for three pixels and four channels;
    windows at the border are copied either way.
    """
    if w.kernel[0] == 1 or w.dilation[1] != 1:
        return False
    inner = _inner(w.in_h, w.out_h, w.span, w.stride[0], w.padding[0])
    inner *= _inner(w.in_w, w.out_w, w.kernel[1], w.stride[1], w.padding[1])
    copied = (100 + w.kernel[0] * (6 + 3 * blocks_of(w.run))) * inner
    rows = w.kernel[0] * (24 * blocks_of(w.run) + 18)
    more = (rows - 24 * blocks_of(w.kernel[0] * w.run)) * -(-w.out_c // 4) / 3
    return more * w.out_h * w.out_w < copied


def _inner(size: int, count: int, span: int, stride: int, padding: int) -> int:
    """Outputs along one axis whose windows lie inside of the image."""
    return sum(0 <= i * stride - padding <= size - span for i in range(count))


def _depthwise(node: IntegerNode, ig: IntegerGraph) -> Kernel | None:
    w = turned(window_of(node, ig))
    suffix, blocks = _suffix(node, ig), plane_blocks(w)
    if w.in_c != w.out_c or suffix is None or not _sums_fit(node, ig):
        return None
    plane = w.pitch * w.span
    if plane * (PLANES - 1) >= 1 << 16:
        return None
    overlap = strip_overlap(w, 1)
    if blocks == 1:
        scratch = BLOCK * (1 + PLANES) * w.span + PLANES * plane + BLOCK + (PLANES * w.out_w if w.out_c % 4 else 0)
        sources = (
            f"mve/depthwise_conv2d{suffix}.c",
            "mve/tn_columns_mve.h",
            "mve/columns.c",
            "mve/tn_depthwise_mve.h",
            "mve/planes.S",
        )
        return _kernel(node, f"tn_depthwise_conv2d{suffix}_mve", sources, scratch, overlap)
    wide = next((n for n in WIDE_BLOCKS if n >= blocks), None)
    if wide is None or not right_shifts(node):
        return None
    scratch = BLOCK * wide * (w.span + 1) + PLANES * plane + 3 * w.span * w.stride[1]
    sources = (
        "mve/tn_columns_mve.h",
        "mve/columns.c",
        "mve/tn_scale_mve.h",
        "mve/tn_wide_mve.h",
        f"mve/depthwise_conv2d_wide{wide}.c",
    )
    return _kernel(node, f"tn_depthwise_conv2d_wide{wide}_mve", sources, scratch, overlap)


def _dense(node: IntegerNode, ig: IntegerGraph) -> Kernel | None:
    if not one_scale(node) or not right_shifts(node) or not _sums_fit(node, ig):
        return None
    return _kernel(node, "tn_dense_mve", ("mve/dense.S",), 0, None)


def _add(node: IntegerNode, ig: IntegerGraph) -> Kernel | None:
    if not sums_as_tflm(node, ig):
        return None
    suffix = "_positive" if never_negative(node, ig) else ""
    sources = ("mve/tn_scale_mve.h", "mve/tn_add_mve.h", f"mve/add{suffix}.c")
    return _kernel(node, f"tn_add{suffix}_mve", sources, 0, Overlap(0), Overlap(0))


def _mul(node: IntegerNode, ig: IntegerGraph) -> Kernel | None:
    """None where the second operand is spread otherwise than over all pixels."""
    shape = ig.tensors[node.name].shape
    spread = [repetition(t.shape, shape) for t in operands_of(node, [ig.tensors[v] for v in node.inputs])]
    if not -31 <= node.attrs["shift"] <= -1 or any(s is None or s[0] != 1 for s in spread):
        return None
    return _kernel(node, "tn_mul_mve", ("mve/tn_scale_mve.h", "mve/mul.c"), 0, *whole_inputs(node, ig))


def _pool(node: IntegerNode, ig: IntegerGraph) -> Kernel | None:
    w = window_of(node, ig)
    if node.op == "avg_pool2d" and w.taps > 255:
        return None
    sources = (*_COMMON, "mve/tn_pool_mve.h", f"mve/{node.op}.c")
    return Kernel(f"tn_{node.op}_mve", sources, 0, (channel_overlap(w),))


def _kernel(
    node: IntegerNode, function: str, sources: tuple[str, ...], scratch: int, *overlaps: Overlap | None
) -> Kernel:
    clamped = node.clamp != (-128, 127)
    common = (*_COMMON, "mve/clamp.c") if clamped else _COMMON
    return Kernel(function, (*common, *sources), scratch, overlaps, clamped=clamped)


def _suffix(node: IntegerNode, ig: IntegerGraph) -> str | None:
    """Of the function's name; None where neither variant of the requantization is exact."""
    if never_negative(node, ig) and right_shifts(node, 0):
        return "_positive"
    return "" if right_shifts(node) else None


def _sums_fit(node: IntegerNode, ig: IntegerGraph) -> bool:
    """Whether sums, before and after the zero point is taken into account, fit into 32 bits."""
    weight: npt.NDArray[np.int64] = node.arrays["weight"].astype(np.int64)
    channel = weight.ndim - 1 if node.op == "depthwise_conv2d" else 0
    magnitudes = np.abs(np.moveaxis(weight, channel, 0).reshape(len(node.arrays["bias"]), -1)).sum(1)
    reach = 128 + abs(ig.tensors[node.inputs[0]].zero_point)
    return bool(np.max(np.abs(node.arrays["bias"].astype(np.int64)) + reach * magnitudes, initial=0) < 1 << 31)
