"""Which kernel computes a node on an instruction set, what working memory it takes, and in which order it reads and writes.

The memory planner, the flash and latency models and the C exporter all ask here, so they always agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from thumbnet.errors import UnsupportedOpError
from thumbnet.integer.graph import IntegerGraph, IntegerNode
from thumbnet.targets.target import Isa

STRIP_BYTES = 1536  # depthwise scratch: as many rows as fit; more rows mean fewer copies of the overlap


@dataclass(frozen=True)
class Overlap:
    """Where a node's dying input may lie so that the output can be written over it.

    Allowed are all places with `offset(input) - offset(output) >= distance`; with `exact`, only equality.
    """

    distance: int
    exact: bool = False


@dataclass(frozen=True)
class Kernel:
    """The kernel of one node. `function` is "" where nothing is computed (reshape)."""

    function: str
    source: str  # file under exporters/c/kernels
    scratch_bytes: int
    overlaps: tuple[Overlap | None, ...]  # per input; None: input and output must be disjoint
    strip: int = 0  # output rows per strip, depthwise only


@dataclass(frozen=True)
class Window:
    """Shape of a sliding window: what the order of reads and writes depends on."""

    in_h: int
    in_w: int
    in_c: int
    out_h: int
    out_w: int
    out_c: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int]  # top, left

    @property
    def pitch(self) -> int:
        """Columns of the padded input that the output needs."""
        return (self.out_w - 1) * self.stride[1] + (self.kernel[1] - 1) * self.dilation[1] + 1

    @property
    def span(self) -> int:
        """Rows of the padded input that one output row needs."""
        return (self.kernel[0] - 1) * self.dilation[0] + 1


def window_of(node: IntegerNode, ig: IntegerGraph) -> Window:
    """The window of a convolution or pooling node."""
    in_h, in_w, in_c = ig.tensors[node.inputs[0]].shape
    out_h, out_w, out_c = ig.tensors[node.name].shape
    if "kernel" in node.attrs:
        kernel = tuple(node.attrs["kernel"])
    else:
        shape = node.arrays["weight"].shape
        kernel = shape[0:2] if node.op == "depthwise_conv2d" else shape[1:3]
    top, left = node.attrs["padding"][:2]
    return Window(
        in_h,
        in_w,
        in_c,
        out_h,
        out_w,
        out_c,
        (int(kernel[0]), int(kernel[1])),
        (int(node.attrs["stride"][0]), int(node.attrs["stride"][1])),
        (int(node.attrs.get("dilation", (1, 1))[0]), int(node.attrs.get("dilation", (1, 1))[1])),
        (int(top), int(left)),
    )


def choose(node: IntegerNode, ig: IntegerGraph, isa: Isa) -> Kernel:
    """The kernel that computes `node` on `isa`. Raises `UnsupportedOpError` for an operation without one."""
    if node.op == "conv2d":
        w = window_of(node, ig)
        return Kernel(
            "tn_conv2d", "generic/conv2d.c", w.kernel[0] * w.kernel[1] * w.in_c, (Overlap(raster_distance(w)),)
        )
    if node.op == "depthwise_conv2d":
        w = window_of(node, ig)
        rows, strip = strip_rows(w, 1)
        overlap = Overlap(0, exact=True) if strip_in_place(w, strip) else None
        return Kernel("tn_depthwise_conv2d", "generic/depthwise_conv2d.c", rows * w.pitch, (overlap,), strip)
    if node.op in ("max_pool2d", "avg_pool2d"):
        w = window_of(node, ig)
        overlap = Overlap(0, exact=True) if raster_distance(w) <= 0 else None
        return Kernel(f"tn_{node.op}", f"generic/{node.op}.c", 0, (overlap,))
    return _simple(node, ig)


def _simple(node: IntegerNode, ig: IntegerGraph) -> Kernel:
    """Operations without a window, the same on every instruction set."""
    over = Overlap(0)
    repeats = len(node.inputs) == 2 and ig.tensors[node.inputs[1]].bytes < ig.tensors[node.name].bytes
    second = None if repeats else over
    match node.op:
        case "dense":
            return Kernel("tn_dense", "generic/dense.c", 0, (None,))
        case "add" | "sub":
            return Kernel("tn_add", "generic/add.c", 0, (over, second))
        case "mul":
            return Kernel("tn_mul", "generic/mul.c", 0, (over, second))
        case "global_avg_pool":
            return Kernel("tn_global_avg_pool", "generic/global_avg_pool.c", 0, (Overlap(0, exact=True),))
        case "lut" | "requantize" | "softmax":
            return Kernel(f"tn_{node.op}", f"generic/{node.op}.c", 0, (over,))
        case "concat" | "slice":
            return Kernel("tn_copy_blocks", "generic/copy_blocks.c", 0, (None,) * len(node.inputs))
        case "pad" | "resize_nearest":
            return Kernel(f"tn_{node.op}", f"generic/{node.op}.c", 0, (None,))
        case "reshape":
            return Kernel("", "", 0, (Overlap(0, exact=True),))
    raise UnsupportedOpError(node.op, node.name, "There is no C kernel for it yet.")


def scratch_bytes(node: IntegerNode, ig: IntegerGraph, isa: Isa) -> int:
    """Working memory, in bytes, that the node's kernel needs in the arena."""
    return choose(node, ig, isa).scratch_bytes


@lru_cache(maxsize=4096)
def raster_distance(w: Window) -> int:
    """How many bytes the input must start behind the output when pixels are computed in raster order.

    All inputs of a pixel are read before its outputs are written. So pixel p's outputs, which end at
    `(p + 1) * out_c`, must not reach what any later pixel reads first: its window's top left corner.
    """
    rows = np.maximum(np.arange(w.out_h) * w.stride[0] - w.padding[0], 0) * w.in_w
    cols = np.maximum(np.arange(w.out_w) * w.stride[1] - w.padding[1], 0)
    first = (rows[:, None] + cols[None, :]).ravel() * w.in_c
    if first.size == 1:
        return 0
    later = np.minimum.accumulate(first[::-1])[::-1][1:]
    return int(np.max(np.arange(1, first.size) * w.out_c - later))


@lru_cache(maxsize=4096)
def strip_rows(w: Window, element_bytes: int) -> tuple[int, int]:
    """Padded input rows to hold, and output rows to compute from them, for one channel of a depthwise convolution."""
    fit = STRIP_BYTES // (w.pitch * element_bytes)
    strip = max(1, min(w.out_h, (fit - w.span) // w.stride[0] + 1))
    return (strip - 1) * w.stride[0] + w.span, strip


@lru_cache(maxsize=4096)
def strip_in_place(w: Window, strip: int) -> bool:
    """Whether a strip-wise depthwise convolution may write each channel over itself.

    A strip's output must not reach input rows of the channel that are not read yet.
    """
    if w.in_c != w.out_c:
        return False
    for first in range(0, w.out_h, strip):
        stop = min(first + strip, w.out_h)
        read = min(w.in_h, (stop - 1) * w.stride[0] + w.span - w.padding[0])
        if stop * w.out_w > read * w.in_w and read < w.in_h:
            return False
    return w.out_h * w.out_w <= w.in_h * w.in_w
