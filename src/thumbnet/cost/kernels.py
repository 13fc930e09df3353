"""Which kernel computes a node on an instruction set, its working memory, and its order of reads and writes.

The memory planner, the flash and latency models and the C exporter all ask here, so they always agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

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
    sources: tuple[str, ...]  # files under exporters/c/kernels
    scratch_bytes: int
    overlaps: tuple[Overlap | None, ...]  # per input; None: input and output must be disjoint
    strip: int = 0  # output rows per strip, depthwise only
    clamped: bool = False  # the output is clamped by a second pass

    @property
    def dsp(self) -> bool:
        return self.function.endswith("_dsp")

    @property
    def packed(self) -> bool:
        """Whether weights are stored in dual lanes (`thumbnet.exporters.c.packing`)."""
        return self.function in ("tn_conv2d_dsp", "tn_conv2d_positive_dsp", "tn_dense_dsp")

    @property
    def positive(self) -> bool:
        """Whether the kernel leaves out what only outputs below the zero point need."""
        return self.function.endswith("_positive_dsp")


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
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @property
    def inside(self) -> bool:
        """No window reaches beyond the image."""
        sizes = (self.in_h - self.span, self.in_w - (self.kernel[1] - 1) * self.dilation[1] - 1)
        last = ((n - 1) * s for n, s in zip((self.out_h, self.out_w), self.stride, strict=True))
        return self.padding == (0, 0) and all(at <= room for at, room in zip(last, sizes, strict=True))

    @property
    def run(self) -> int:
        """Bytes of a row of the window."""
        return self.kernel[1] * self.in_c

    @property
    def twos(self) -> int:
        """Pairs of values in a window, an odd last value of a row counted as one."""
        return self.kernel[0] * -(-self.run // 2)

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
    """The kernel that computes `node` on `isa`. Raises `UnsupportedOpError` for an operation without one.

    Cores with Helium ("mve") have the DSP extension too and use its kernels.
    """
    if isa != "generic" and node.op in ("conv2d", "depthwise_conv2d", "dense", "add"):
        kernel = _add_dsp(node, ig) if node.op == "add" else _dsp(node, ig)
        if kernel is not None:
            return kernel
    if node.op == "conv2d":
        w = window_of(node, ig)
        return Kernel("tn_conv2d", ("generic/conv2d.c",), w.taps * w.in_c, (Overlap(raster_distance(w)),))
    if node.op == "depthwise_conv2d":
        w = window_of(node, ig)
        rows, strip = strip_rows(w, w.pitch)
        source = ("generic/depthwise_conv2d.c",)
        return Kernel("tn_depthwise_conv2d", source, rows * w.pitch, (strip_overlap(w, strip),), strip)
    if node.op in ("max_pool2d", "avg_pool2d"):
        w = window_of(node, ig)
        overlap = Overlap(0, exact=True) if raster_distance(w) <= 0 else None
        return Kernel(f"tn_{node.op}", (f"generic/{node.op}.c",), 0, (overlap,))
    return _simple(node, ig)


def _dsp(node: IntegerNode, ig: IntegerGraph) -> Kernel | None:
    """The kernel for cores with the DSP extension; None where the node does not meet its conditions."""
    if not _right_shifts(node):
        return None
    clamped = node.clamp != (-128, 127)
    clamp = ("dsp/clamp.S",) if clamped else ()
    if node.op == "dense":
        if not _lanes_fit(node, ig) or not _one_scale(node) or not _shifts_up_to(node, 23):
            return None
        return Kernel("tn_dense_dsp", ("dsp/tn_kernels_dsp.h", "dsp/dense.S", *clamp), 0, (None,), clamped=clamped)
    w = window_of(node, ig)
    if node.op == "depthwise_conv2d":
        return _depthwise_dsp(node, w, ig.tensors[node.inputs[0]].zero_point, clamped, clamp)
    if int(node.attrs["groups"]) != 1 or not _lanes_fit(node, ig):
        return None
    scratch = 8 * w.twos
    if not w.inside or w.dilation[1] != 1:
        scratch += 2 * _fours(w.run)
    sources = ("dsp/tn_kernels_dsp.h", "dsp/pairs.S", "dsp/conv2d.c", *clamp)
    function = "tn_conv2d_dsp"
    if _positive(node, ig):
        sources, function = (*sources, "dsp/conv2d_positive.c"), "tn_conv2d_positive_dsp"
    return Kernel(function, sources, scratch, (Overlap(raster_distance(w)),), clamped=clamped)


def exact_input(node: IntegerNode) -> int | None:
    """Which input of a sum is halved exactly on its way to the common scale (the one with the larger scale)."""
    for i in (0, 1):
        if node.attrs["multipliers"][i] == 1 << 30 and node.attrs["shifts"][i] == 0:
            return i
    return None


def even_inputs(node: IntegerNode) -> bool:
    """Whether both inputs of a sum have the same scale."""
    return list(node.attrs["multipliers"][:2]) == [1 << 30] * 2 and list(node.attrs["shifts"][:2]) == [0, 0]


def _add_dsp(node: IntegerNode, ig: IntegerGraph) -> Kernel | None:
    """The kernel of a sum; None where scales are not as TFLite Micro makes them, or an input repeats."""
    exact, shifts = exact_input(node), node.attrs["shifts"]
    sizes = {ig.tensors[v].bytes for v in (*node.inputs, node.name)}
    if exact is None or len(sizes) != 1 or node.attrs["left_shift"] != 20 or not -31 <= shifts[2] <= -1:
        return None
    even = even_inputs(node)
    if not even and not -31 <= shifts[1 - exact] <= -1:
        return None
    clamped = node.clamp != (-128, 127)
    sources = ("dsp/tn_kernels_dsp.h", "dsp/add.S", *(("dsp/clamp.S",) if clamped else ()))
    function = "tn_add_even_dsp" if even else "tn_add_dsp"
    return Kernel(function, sources, 0, (Overlap(0), Overlap(0)), clamped=clamped)


def _depthwise_dsp(
    node: IntegerNode, w: Window, zero_point: int, clamped: bool, clamp: tuple[str, ...]
) -> Kernel | None:
    if w.kernel not in ((3, 3), (5, 5)) or w.stride[1] > 2 or w.dilation != (1, 1) or w.in_c != w.out_c:
        return None
    weight = node.arrays["weight"].reshape(-1, w.out_c).T.astype(np.int32)
    if _largest_sums(node, weight, zero_point).max(initial=0) >= _MAX_DOUBLED:
        return None
    # rows are read in groups of four outputs
    pitch = ((_fours(w.out_w) - 1) * w.stride[1] + w.kernel[1] + 1) & ~1
    rows, strip = strip_rows(w, 2 * pitch)
    function = f"tn_depthwise_conv2d_k{w.kernel[0]}_dsp"
    sources = (f"dsp/depthwise_conv2d_k{w.kernel[0]}.c", *_ROWS, *clamp)
    return Kernel(function, sources, rows * pitch * 2, (strip_overlap(w, strip),), strip, clamped)


def _simple(node: IntegerNode, ig: IntegerGraph) -> Kernel:
    """Operations without a window, the same on every instruction set."""
    over = Overlap(0)
    repeats = len(node.inputs) == 2 and ig.tensors[node.inputs[1]].bytes < ig.tensors[node.name].bytes
    second = None if repeats else over
    match node.op:
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
    raise UnsupportedOpError(node.op, node.name, "There is no C kernel for it yet.")


_ROWS = ("dsp/tn_kernels_dsp.h", "dsp/tn_depthwise.h", "dsp/tn_depthwise_rows.h", "dsp/depthwise_rows.S")
_MAX_DOUBLED = 1 << 30  # accumulators are doubled before the high product
_MAX_LANE = 1 << 23  # of the channel in the upper half of a dual lane


def _fours(n: int) -> int:
    return -(-n // 4) * 4


def _right_shifts(node: IntegerNode) -> bool:
    """The fast requantization needs a right shift of at least 1; a multiplier of 0 gives the zero point at any."""
    shift, multiplier = node.arrays["shift"], node.arrays["multiplier"]
    return bool(np.all((multiplier == 0) | ((shift <= -1) & (shift >= -31))))


def _shifts_up_to(node: IntegerNode, limit: int, channels: slice = slice(None)) -> bool:
    """Whether no right shift of these channels is larger, multipliers of 0 aside."""
    shift, multiplier = node.arrays["shift"][channels], node.arrays["multiplier"][channels]
    return bool(np.all((multiplier == 0) | (shift >= -limit)))


def _one_scale(node: IntegerNode) -> bool:
    return all(len(np.unique(node.arrays[k])) == 1 for k in ("multiplier", "shift"))


def _positive(node: IntegerNode, ig: IntegerGraph) -> bool:
    """Whether the clamp swallows everything below the zero point, and both roundings fit one step (see pairs.S)."""
    swallowed = node.clamp[0] >= ig.tensors[node.name].zero_point
    return swallowed and _shifts_up_to(node, 23) and _shifts_up_to(node, 16, slice(1, None, 2))


def _lanes_fit(node: IntegerNode, ig: IntegerGraph) -> bool:
    """Whether two channels can share 16-bit lanes without loss (see pairs.S). Even channels lie in the lower half."""
    weight = node.arrays["weight"].reshape(len(node.arrays["bias"]), -1).astype(np.int32)
    pairs = weight[: len(weight) // 2 * 2].reshape(-1, 2, weight.shape[1])
    if (pairs[:, 0] + 256 * pairs[:, 1]).min(initial=0) < -(1 << 15):
        return False
    largest = _largest_sums(node, weight, ig.tensors[node.inputs[0]].zero_point)
    return bool(largest.max(initial=0) < _MAX_DOUBLED and largest[1::2].max(initial=0) < _MAX_LANE)


def _largest_sums(node: IntegerNode, weight: npt.NDArray[np.int32], zero_point: int) -> npt.NDArray[np.int64]:
    """Largest magnitude that each channel's accumulator can end up with, for weights [channels, values]."""
    bias = node.arrays["bias"].astype(np.int64)
    positive = np.maximum(weight, 0).sum(1, dtype=np.int64)
    negative = positive - weight.sum(1, dtype=np.int64)
    up, down = 127 - zero_point, 128 + zero_point  # how far inputs reach from their zero point
    largest: npt.NDArray[np.int64] = np.maximum(
        bias + up * positive + down * negative, down * positive + up * negative - bias
    )
    return largest


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
def strip_rows(w: Window, row_bytes: int) -> tuple[int, int]:
    """Padded input rows to hold, and output rows to compute from them, for one channel of a depthwise convolution."""
    fit = STRIP_BYTES // row_bytes
    strip = max(1, min(w.out_h, (fit - w.span) // w.stride[0] + 1))
    return (strip - 1) * w.stride[0] + w.span, strip


@lru_cache(maxsize=4096)
def strip_overlap(w: Window, strip: int) -> Overlap | None:
    """A strip-wise depthwise convolution may write each channel over itself, unless it would outrun itself.

    A strip's output must not reach input rows of the channel that are not read yet.
    """
    if w.in_c != w.out_c or w.out_h * w.out_w > w.in_h * w.in_w:
        return None
    for first in range(0, w.out_h, strip):
        stop = min(first + strip, w.out_h)
        read = min(w.in_h, (stop - 1) * w.stride[0] + w.span - w.padding[0])
        if stop * w.out_w > read * w.in_w and read < w.in_h:
            return None
    return Overlap(0, exact=True)
