"""Which kernel in plain C computes a node, and what it needs."""

from __future__ import annotations

from thumbnet.cost.kernel import Kernel, Overlap, raster_distance, strip_overlap, strip_rows, window_of
from thumbnet.integer.graph import IntegerGraph, IntegerNode


def choose_generic(node: IntegerNode, ig: IntegerGraph) -> Kernel | None:
    """The kernel that every core runs; None for an operation without one."""
    over = Overlap(0)
    repeats = len(node.inputs) == 2 and ig.tensors[node.inputs[1]].bytes < ig.tensors[node.name].bytes
    second = None if repeats else over
    match node.op:
        case "conv2d":
            w = window_of(node, ig)
            return Kernel("tn_conv2d", ("generic/conv2d.c",), w.taps * w.in_c, (Overlap(raster_distance(w)),))
        case "depthwise_conv2d":
            w = window_of(node, ig)
            rows, strip = strip_rows(w, w.pitch)
            source = ("generic/depthwise_conv2d.c",)
            return Kernel("tn_depthwise_conv2d", source, rows * w.pitch, (strip_overlap(w, strip),), strip)
        case "max_pool2d" | "avg_pool2d":
            overlap = Overlap(0, exact=True) if raster_distance(window_of(node, ig)) <= 0 else None
            return Kernel(f"tn_{node.op}", (f"generic/{node.op}.c",), 0, (overlap,))
        case "dense":
            return Kernel("tn_dense", ("generic/dense.c",), 0, (None,))
        case "add" | "sub":
            return Kernel("tn_add", ("generic/add.c",), 0, (over, second))
        case "mul":
            return Kernel("tn_mul", ("generic/mul.c",), 0, (over, second))
        case "global_avg_pool":
            return Kernel("tn_global_avg_pool", ("generic/global_avg_pool.c",), 0, (Overlap(0, exact=True),))
        case "lut" | "requantize" | "softmax":
            return Kernel(f"tn_{node.op}", (f"generic/{node.op}.c",), 0, (over,))
        case "concat" | "slice":
            return Kernel("tn_copy_blocks", ("generic/copy_blocks.c",), 0, (None,) * len(node.inputs))
        case "pad" | "resize_nearest":
            return Kernel(f"tn_{node.op}", (f"generic/{node.op}.c",), 0, (None,))
        case "reshape":
            return Kernel("", (), 0, (Overlap(0, exact=True),))
    return None
