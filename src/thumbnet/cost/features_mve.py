"""Loop counts of the Helium kernels: see `thumbnet.cost.features`, whose tables take these in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from thumbnet.cost.kernel import Kernel, Window, window_of
from thumbnet.cost.kernels_mve import NARROW_TILE, PLANES, WIDE_BLOCKS, blocks_of, in_place, runs_of, turned
from thumbnet.integer.binary import operands_of
from thumbnet.integer.graph import IntegerGraph, IntegerNode

Features = tuple[float, ...]
Bools = npt.NDArray[np.bool_]


def _clamps(clamped: bool, size: int) -> int:
    """Vectors that a second pass clamps."""
    return blocks_of(size) if clamped else 0


def _flattened(w: Window) -> Window:
    """What the drivers make of a convolution of single pixels: one row."""
    single = w.taps == w.stride[0] * w.stride[1] == 1 and w.padding == (0, 0) and w.in_w == w.out_w
    pixels = w.out_h * w.out_w
    if not single or w.in_h < w.out_h or pixels >= 1 << 16:
        return w
    return replace(w, in_h=1, out_h=1, in_w=pixels, out_w=pixels)


def _taps_inside(w: Window) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """How many rows of the windows of each output row lie inside of the image, and likewise of columns."""

    def axis(size: int, count: int, i: int) -> npt.NDArray[np.int64]:
        starts = np.arange(count) * w.stride[i] - w.padding[i]
        taps = starts[:, None] + np.arange(w.kernel[i]) * w.dilation[i]
        inside: npt.NDArray[np.int64] = ((taps >= 0) & (taps < size)).sum(1)
        return inside

    return axis(w.in_h, w.out_h, 0), axis(w.in_w, w.out_w, 1)


def _copies(w: Window, step: int, copied: Bools) -> Features:
    """Of `tn_window_mve`, for the pixels [out_h, out_w] whose windows are copied; `step` bytes to a row of a copy.

    Windows, those that reach beyond the image, vectors they are filled with; rows, and vectors of rows; taps of windows
    with gaps, and vectors of taps.
    """
    rows, columns = _taps_inside(w)
    if w.dilation != (1, 1):
        taps = int(copied.sum()) * w.taps
        return (int(copied.sum()), 0, 0, 0, 0, taps, taps * blocks_of(w.in_c))
    border = copied & ((rows[:, None] < w.kernel[0]) | (columns[None, :] < w.kernel[1]))
    real = copied * rows[:, None] * (columns[None, :] > 0)
    vectors = -(-columns * w.in_c // 16)
    fills = int(border.sum())
    return (
        int(copied.sum()),
        fills,
        fills * blocks_of(w.kernel[0] * step),
        int(real.sum()),
        int((real * vectors[None, :]).sum()),
        0,
        0,
    )


def conv2d(w: Window, runs: int, clamped: bool) -> Features:
    w = _flattened(w)
    row = w.run
    run = w.kernel[0] * row if runs == 1 else row
    triples, calls, copied = _triples(w, runs, run)
    groups = -(-w.out_c // 4)
    copies = _copies(w, row if runs == 1 else 16 * blocks_of(run), copied)
    return (
        1,
        calls,
        triples,
        triples * groups,
        triples * groups * runs * blocks_of(run),
        triples * groups * (runs - 1),
        w.out_h * w.out_w,
        *copies,
        _clamps(clamped, w.out_h * w.out_w * w.out_c),
    )


def _triples(w: Window, runs: int, run: int) -> tuple[int, int, Bools]:
    """Triples of pixels, calls that compute them, and the pixels [out_h, out_w] that are copied: `tn_convolve_mve`."""
    rows, columns = _taps_inside(w)
    end, copied = _end_of_direct(w, runs, columns), np.zeros((w.out_h, w.out_w), np.bool_)
    first = min((x for x in range(end) if columns[x] == w.kernel[1]), default=w.out_w)
    last = _last_direct(w, run)
    triples = calls = y = x = 0
    while y < w.out_h:
        whole = rows[y] == w.kernel[0]
        at = (y * w.stride[0] - w.padding[0]) * w.in_w * w.in_c
        count = max(0, end - x) // 3 if x >= first and whole else 0
        while count and at + ((x + 3 * count - 1) * w.stride[1] - w.padding[1]) * w.in_c > last:
            count -= 1
        triples, calls = triples + max(1, count), calls + 1
        x += 3 * count
        taken = 0 if not count else 3
        while taken < 3 and y < w.out_h:
            left = (x * w.stride[1] - w.padding[1]) * w.in_c
            at = (y * w.stride[0] - w.padding[0]) * w.in_w * w.in_c
            inside = rows[y] == w.kernel[0] and first <= x < end and at + left <= last
            copied[y, x] = not (runs == 1 and inside)
            taken += 1
            y, x = (y + 1, 0) if x + 1 == w.out_w else (y, x + 1)
            if x == first and end - x >= 3:
                break
        if x == w.out_w:
            y, x = y + 1, 0
    return triples, calls, copied


def _end_of_direct(w: Window, runs: int, columns: npt.NDArray[np.int64]) -> int:
    """Where the columns of pixels end whose windows can be read where they lie."""
    inner = np.flatnonzero(columns == w.kernel[1])
    return int(inner[-1]) + 1 if in_place(w, runs) and len(inner) else 0


def _last_direct(w: Window, run: int) -> int:
    """The last place of a window from which whole blocks can be read, in bytes from the image's begin."""
    rows = min(w.in_h, (w.out_h - 1) * w.stride[0] + w.span - w.padding[0])
    return (rows * w.in_w - (w.span - 1) * w.in_w) * w.in_c - 16 * blocks_of(run)


def conv2d_narrow(w: Window, clamped: bool) -> Features:
    w = _flattened(w)
    tiles, copied = _tiles(w)
    groups, odd = divmod(w.out_c, 4)
    pixels = w.out_h * w.out_w
    return (
        1,
        tiles,
        tiles * (groups + (odd > 0)),
        pixels * (groups + (odd > 0)),
        pixels * (odd > 0),
        tiles * (odd > 0),
        *_copies(w, w.run, copied),
        _clamps(clamped, pixels * w.out_c),
    )


def _tiles(w: Window) -> tuple[int, Bools]:
    """Tiles of pixels, and the pixels [out_h, out_w] that are copied: `tn_narrow_mve`."""
    single = w.taps == 1 and w.padding == (0, 0)
    within, last = (w.in_w - 1) // w.stride[1] + 1, _last_direct(w, 1)
    copied = np.zeros((w.out_h, w.out_w), np.bool_)
    tiles = y = x = 0
    while y < w.out_h:
        tiles += 1
        pixels = min(NARROW_TILE, w.out_w - x)
        end = (y * w.stride[0] * w.in_w + (x + pixels - 1) * w.stride[1]) * w.in_c
        if single and y * w.stride[0] < w.in_h and x + pixels <= within and end <= last:
            x += pixels
        else:
            for _ in range(NARROW_TILE):
                copied[y, x] = True
                y, x = (y + 1, 0) if x + 1 == w.out_w else (y, x + 1)
                if y == w.out_h or (x == 0 and single):
                    break
        if x == w.out_w:
            y, x = y + 1, 0
    return tiles, copied


def _planes(w: Window) -> Features:
    """Of tn_columns_mve.h: orders, and their taps; groups of eight channels, vectors that fill their planes, windows,
    rows, rows inside of the image, and columns of those."""
    blocks = -(-w.out_c // PLANES)
    columns = max(0, min(w.in_w, w.pitch - w.padding[1]))
    read = {y * w.stride[0] - w.padding[0] + i for y in range(w.out_h) for i in range(w.span)}
    loads = sum(row >= 0 for row in read)
    return (
        w.span,
        w.span * w.taps,
        blocks,
        blocks * blocks_of(PLANES * w.pitch * w.span),
        blocks * w.out_h,
        blocks * len(read),
        blocks * loads,
        blocks * loads * columns,
    )


def depthwise_conv2d(w: Window, clamped: bool) -> Features:
    w = turned(w)
    groups = -(-w.out_c // 4)
    partial = int(w.out_c % 4 > 0)
    step = w.span * w.stride[1]
    pixels = w.out_h * w.out_w
    return (
        1,
        *_planes(w),
        -(-w.out_c // PLANES) * w.span,
        groups * w.span,
        groups * w.out_h,
        groups * pixels,
        groups * pixels * (step not in (3, 6)),
        partial * w.out_h,
        partial * pixels,
        _clamps(clamped, pixels * w.out_c),
    )


def depthwise_wide(w: Window, clamped: bool) -> Features:
    w = turned(w)
    rows = w.out_c * w.out_h
    return (1, *_planes(w), rows, rows * -(-w.out_w // 4), _clamps(clamped, rows * w.out_w))


def _dense(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    out_c, in_c = node.arrays["weight"].shape
    groups = -(-out_c // 4)
    return (1, groups, groups * blocks_of(in_c), _clamps(kernel.clamped, out_c))


def _sums(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    size = ig.tensors[node.name].bytes
    return (1, size // 4, size % 4 > 0, _clamps(kernel.clamped, size))


def _products(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    size = ig.tensors[node.name].bytes
    length = min(t.bytes for t in operands_of(node, [ig.tensors[v] for v in node.inputs]))
    rows = size // length
    return (1, rows, rows * (length // 4), rows * (length % 4 > 0), _clamps(kernel.clamped, size))


def _lut(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    return (1, blocks_of(ig.tensors[node.name].bytes))


def _pool(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    w = window_of(node, ig)
    blocks = -(-w.in_c // (16 if node.op == "max_pool2d" else 8))
    rows, columns = _taps_inside(w)
    lines = int(rows.sum()) * w.out_w
    taps = int(rows.sum() * columns.sum())
    return (1, blocks, blocks * w.out_h, blocks * w.out_h * w.out_w, blocks * lines, blocks * taps)


def _global_avg_pool(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Features:
    h, w, c = ig.tensors[node.inputs[0]].shape
    blocks = -(-c // 8)
    return (1, blocks, blocks * -(-h * w // 255), blocks * h * w)


def _of_function(function: str) -> Callable[[Window, int, int, bool], Features]:
    def counts(w: Window, groups: int, strip: int, clamped: bool) -> Features:
        if "depthwise" in function:
            return depthwise_wide(w, clamped) if "_wide" in function else depthwise_conv2d(w, clamped)
        return conv2d_narrow(w, clamped) if "_narrow" in function else conv2d(w, runs_of(w, function), clamped)

    return counts


# of a window, groups, output rows per strip, whether a second pass clamps
CONVOLUTIONS: Mapping[str, Callable[[Window, int, int, bool], Features]] = {
    f: _of_function(f)
    for kind in ("conv2d", "conv2d_rows", "conv2d_narrow", "depthwise_conv2d")
    for f in (f"tn_{kind}_mve", f"tn_{kind}_positive_mve")
} | {f: _of_function(f) for f in (f"tn_depthwise_conv2d_wide{n}_mve" for n in WIDE_BLOCKS)}

FEATURES: Mapping[str, Callable[[IntegerNode, IntegerGraph, Kernel], Features]] = {
    "tn_dense_mve": _dense,
    "tn_add_mve": _sums,
    "tn_add_positive_mve": _sums,
    "tn_mul_mve": _products,
    "tn_lut_mve": _lut,
    "tn_max_pool2d_mve": _pool,
    "tn_avg_pool2d_mve": _pool,
    "tn_global_avg_pool_mve": _global_avg_pool,
}
