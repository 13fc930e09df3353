"""Which kernel in plain C computes a node, and what it needs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from thumbnet.cost.blocks import copy_overlaps
from thumbnet.cost.kernel import (
    Kernel,
    Overlap,
    channel_overlap,
    raster_distance,
    strip_overlap,
    strip_rows,
    unpacking,
    whole_inputs,
    window_of,
)
from thumbnet.integer.graph import IntegerGraph, IntegerNode
from thumbnet.integer.moves import mirrored, pad_channels
from thumbnet.integer.resize import nearest, neighbours, plain


def choose_generic(node: IntegerNode, ig: IntegerGraph) -> Kernel | None:
    """The kernel that every core runs; None for an operation without one."""
    over, whole = Overlap(0), whole_inputs(node, ig)
    match node.op:
        case "conv2d":
            w = window_of(node, ig)
            name, sources = _by_bits(node)
            return Kernel(name, sources, w.taps * w.in_c, (Overlap(raster_distance(w)),))
        case "depthwise_conv2d":
            w = window_of(node, ig)
            rows, strip = strip_rows(w, w.pitch)
            source = ("generic/depthwise_conv2d.c",)
            kernel = Kernel("tn_depthwise_conv2d", source, rows * w.pitch, (strip_overlap(w, strip),), strip)
            return unpacking(node, kernel)
        case "max_pool2d" | "avg_pool2d":
            overlap = channel_overlap(window_of(node, ig))
            return Kernel(f"tn_{node.op}", (f"generic/{node.op}.c",), 0, (overlap,))
        case "dense":
            return Kernel(*_by_bits(node), 0, (None,))
        case "add" | "sub":
            return Kernel("tn_add", ("generic/add.c",), 0, whole)
        case "mul" | "prelu":
            return Kernel(f"tn_{node.op}", (f"generic/{node.op}.c",), 0, whole)
        case "maximum" | "minimum":
            return Kernel(f"tn_{node.op}", ("generic/extreme.c",), 0, whole)
        case "global_avg_pool":
            return Kernel("tn_global_avg_pool", ("generic/global_avg_pool.c",), 0, (Overlap(0, exact=True),))
        case "lut" | "requantize" | "softmax":
            return Kernel(f"tn_{node.op}", (f"generic/{node.op}.c",), 0, (over,))
        case "concat" | "slice":
            return Kernel("tn_copy_blocks", ("generic/copy_blocks.c",), 0, copy_overlaps(node, ig))
        case "mean" | "sum":
            return Kernel("tn_reduce_sum", ("generic/reduce_sum.c",), 0, (over,))
        case "reduce_max" | "reduce_min":
            return Kernel(f"tn_{node.op}", ("generic/reduce_extreme.c",), 0, (over,))
        case "pad":
            return Kernel("tn_pad", ("generic/pad.c",), 0, (Overlap(_pad_distance(node, ig)),))
        case "mirror_pad":
            x = ig.tensors[node.inputs[0]].shape
            overlap = Overlap(pixel_distance(*mirrored(node, x), x[1], x[2]))
            return Kernel("tn_take", ("generic/take.c",), 0, (overlap,))
        case "transpose" | "strided_slice" | "space_to_depth" | "depth_to_space":
            return Kernel("tn_move", ("generic/move.c",), 0, (None,))
        case "resize_nearest" | "resize_bilinear":
            return _resize(node, ig)
        case "reshape":
            return Kernel("", (), 0, (Overlap(0, exact=True),))
    return None


def _resize(node: IntegerNode, ig: IntegerGraph) -> Kernel:
    before, after = ig.tensors[node.inputs[0]].shape, ig.tensors[node.name].shape
    sizes = tuple(zip(before[:2], after[:2], strict=True))
    if node.op == "resize_bilinear":
        name, (rows, columns) = "resize_bilinear", (neighbours(node.attrs, *size)[0] for size in sizes)
    else:
        name = "resize_nearest" if all(plain(node.attrs, *size) for size in sizes) else "take"
        rows, columns = (nearest(node.attrs, *size) for size in sizes)
    overlap = Overlap(pixel_distance(rows, columns, before[1], before[2]))
    return Kernel(f"tn_{name}", (f"generic/{name}.c",), 0, (overlap,))


def _pad_distance(node: IntegerNode, ig: IntegerGraph) -> int:
    """The last piece that is copied, a row or a pixel, must not reach where it comes from."""
    height, width, channels = ig.tensors[node.inputs[0]].shape
    top, left, _, right = (int(p) for p in node.attrs["padding"])
    front, back = pad_channels(node)
    depth, wide = front + channels + back, left + width + right
    if depth == channels:
        return (((height - 1 + top) * wide + left + width) - (height - 1) * width) * channels
    end = ((height - 1 + top) * wide + left + width - 1) * depth + front + channels
    return end - (height * width - 1) * channels


def pixel_distance(rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], width: int, channels: int) -> int:
    """How many bytes an input of this width must start behind the output so that no pixel lands on one yet to be read.

    Output pixel (y, x) reads nothing before pixel (rows[y], columns[x]) of the input; both have as many channels.
    """
    first = (rows[:, None] * width + columns[None, :]).ravel()
    later = np.minimum.accumulate(first[::-1])[::-1]
    return int(np.max(np.arange(1, first.size + 1) - later)) * channels


def _by_bits(node: IntegerNode) -> tuple[str, tuple[str, ...]]:
    """Function and sources of a convolution or a dense layer."""
    if node.weight_bits == 4:
        sources = ("generic/tn_int4.h", "generic/dots_int4.c", f"generic/{node.op}_int4.c")
        return f"tn_{node.op}_int4", sources
    return f"tn_{node.op}", (f"generic/{node.op}.c",)
