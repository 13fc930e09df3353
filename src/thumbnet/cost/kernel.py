"""What planner, cost models and C exporter know of a kernel: name, working memory, order of reads and writes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from thumbnet.integer.graph import IntegerGraph, IntegerNode
from thumbnet.targets.target import Isa

ALIGNMENT = 16  # of every buffer in the arena
STRIP_BYTES = 1536  # depthwise scratch: as many rows as fit; more rows mean fewer copies of the overlap


@dataclass(frozen=True)
class Overlap:
    """Where a node's dying input may lie so that the output can be written over it.

    Allowed are all places with `offset(input) - offset(output) >= distance`; with `exact`, only equality (then the
    distance is a multiple of the arena's alignment).
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
    parts: tuple[Kernel, ...] = ()  # of a transposed convolution: the kernels of its phases
    unpacks: str = ""  # what is called instead: it unpacks weights of 4 bits into the scratch, and calls `function`

    @property
    def called(self) -> str:
        return self.unpacks or self.function

    @property
    def family(self) -> Isa:
        """The instruction set that its name ends with, "generic" where it ends with none."""
        for family in ("v7m", "dsp", "mve"):
            if self.function.endswith(f"_{family}"):
                return family
        return "generic"

    @property
    def positive(self) -> bool:
        """Whether the kernel leaves out what only outputs below the zero point need."""
        return "_positive" in self.function

    @property
    def clamp(self) -> str:
        """The function that clamps the output in a second pass; "" where none has to."""
        return f"tn_clamp_{self.family}" if self.clamped else ""


def unpacking(node: IntegerNode, kernel: Kernel) -> Kernel:
    """The kernel of a depthwise convolution as it is, or, for weights of 4 bits, behind one that unpacks them."""
    if node.weight_bits != 4:
        return kernel
    sources = (*kernel.sources, "generic/depthwise_conv2d_int4.c")
    scratch = -(-int(node.arrays["weight"].size) // 4) * 4 + kernel.scratch_bytes
    return replace(kernel, sources=sources, scratch_bytes=scratch, unpacks="tn_depthwise_conv2d_int4")


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


def whole_inputs(node: IntegerNode, ig: IntegerGraph) -> tuple[Overlap | None, ...]:
    """Overlaps of an operation element by element: an input that repeats must be kept."""
    size = ig.tensors[node.name].bytes
    return tuple(Overlap(0) if ig.tensors[v].bytes == size else None for v in node.inputs)


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


def exact_input(node: IntegerNode) -> int | None:
    """Which input of a sum is halved exactly on its way to the common scale (the one with the larger scale)."""
    for i in (0, 1):
        if node.attrs["multipliers"][i] == 1 << 30 and node.attrs["shifts"][i] == 0:
            return i
    return None


def even_inputs(node: IntegerNode) -> bool:
    """Whether both inputs of a sum have the same scale."""
    return list(node.attrs["multipliers"][:2]) == [1 << 30] * 2 and list(node.attrs["shifts"][:2]) == [0, 0]


def right_shifts(node: IntegerNode, least: int = 1) -> bool:
    """Whether all channels shift to the right by `least` to 31; a multiplier of 0 gives the zero point at any shift."""
    shift, multiplier = node.arrays["shift"], node.arrays["multiplier"]
    return bool(np.all((multiplier == 0) | ((shift <= -least) & (shift >= -31))))


def never_negative(node: IntegerNode, ig: IntegerGraph) -> bool:
    """Whether the clamp swallows everything below the zero point, and kernels made for that are wanted: nodes that say
    `any_sign` share the kernel of the others, which is slower but saves a second one's code (see `thrift.py`)."""
    return node.clamp[0] >= ig.tensors[node.name].zero_point and not node.attrs.get("any_sign", False)


def one_scale(node: IntegerNode) -> bool:
    """Whether all channels requantize alike."""
    return all(len(np.unique(node.arrays[k])) == 1 for k in ("multiplier", "shift"))


def sums_as_tflm(node: IntegerNode, ig: IntegerGraph, most: int = 31) -> bool:
    """Whether a sum has the scales that TFLite Micro gives it, its last shift at most `most` to the right, and two
    operands as large as the output, neither a constant."""
    exact, shifts = exact_input(node), node.attrs["shifts"]
    sizes = [ig.tensors[v].bytes for v in (*node.inputs, node.name)]
    if exact is None or sizes != [sizes[-1]] * 3 or node.attrs["left_shift"] != 20 or not -most <= shifts[2] <= -1:
        return False
    return even_inputs(node) or -31 <= shifts[1 - exact] <= -1


def first_inputs(w: Window) -> npt.NDArray[np.int64]:
    """The first byte of the input that is read for each pixel, in raster order, or for a later one: [pixels].

    A window's first input is its top left corner, as far as that lies inside of the image.
    """
    rows = np.maximum(np.arange(w.out_h) * w.stride[0] - w.padding[0], 0) * w.in_w
    cols = np.maximum(np.arange(w.out_w) * w.stride[1] - w.padding[1], 0)
    first = (rows[:, None] + cols[None, :]).ravel() * w.in_c
    later: npt.NDArray[np.int64] = np.minimum.accumulate(first[::-1])[::-1]
    return later


@lru_cache(maxsize=4096)
def raster_distance(w: Window) -> int:
    """How many bytes the input must start behind the output when pixels are computed in raster order.

    All inputs of a pixel are read before its outputs are written. So pixel p's outputs, which end at
    `(p + 1) * out_c`, must not reach what any later pixel reads first.
    """
    first = first_inputs(w)
    return int(np.max(np.arange(1, first.size) * w.out_c - first[1:])) if first.size > 1 else 0


@lru_cache(maxsize=4096)
def channel_overlap(w: Window) -> Overlap:
    """Where a pooling that computes one group of channels after the other may have its input.

    Within a channel, pixels are in raster order. Where the input starts a whole number of pixels behind the output, no
    channel meets another.
    """
    pixel = math.lcm(w.in_c, ALIGNMENT)
    return Overlap(-(-max(0, raster_distance(w)) // pixel) * pixel, exact=True)


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
