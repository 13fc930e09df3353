"""Which kernel for the DSP extension computes a node, and what it needs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from thumbnet.cost.kernel import (
    Kernel,
    Overlap,
    even_inputs,
    never_negative,
    one_scale,
    raster_distance,
    right_shifts,
    sums_as_tflm,
    unpacking,
    window_of,
)
from thumbnet.cost.lines import Lines, line_overlap
from thumbnet.integer.graph import IntegerGraph, IntegerNode

_LINES = ("dsp/tn_depthwise.h", "dsp/tn_depthwise_rows.h", "dsp/depthwise.c", "dsp/depthwise_channels.S")
_PAIRS = ("dsp/tn_pairs.h", "dsp/pairs_common.S", "dsp/convolve.c")
_POOL = ("dsp/tn_kernels_dsp.h", "dsp/tn_pool.h", "dsp/pool.S")
_MAX_DOUBLED = 1 << 30  # accumulators are doubled before the high product
_MAX_LANE = 1 << 23  # of the channel in the upper half of a dual lane
_MAX_NIBBLES = (_MAX_DOUBLED, 1 << 23, 1 << 23, 1 << 19)  # of four channels in one lane, see pairs_int4.S


def choose_dsp(node: IntegerNode, ig: IntegerGraph) -> Kernel | None:
    """The kernel for cores with the DSP extension; None where there is none or the node misses its conditions."""
    match node.op:
        case "conv2d":
            return _conv2d(node, ig)
        case "depthwise_conv2d":
            kernel = _depthwise(node, ig)
            return None if kernel is None else unpacking(node, kernel)
        case "dense":
            return _dense(node, ig)
        case "add":
            return _add(node, ig)
        case "max_pool2d" | "avg_pool2d":
            return _pool(node, ig)
        case "global_avg_pool" if ig.tensors[node.inputs[0]].shape[-1] >= 4:
            return Kernel("tn_global_avg_pool_dsp", (*_POOL, "dsp/global_avg_pool.c"), 0, (Overlap(0, exact=True),))
    return None


def _conv2d(node: IntegerNode, ig: IntegerGraph) -> Kernel | None:
    if not _fast_scales(node) or int(node.attrs["groups"]) != 1 or not _lanes_fit(node, ig):
        return None
    w = window_of(node, ig)
    scratch = 8 * w.twos
    if not w.inside or w.dilation[1] != 1:
        scratch += 2 * _fours(w.run)
    bits = _bits(node)
    if bits:  # reads, without meaning, as many columns for an odd number of twos
        scratch = max(scratch, 16 * -(-w.twos // 2))
    name = f"conv2d{bits}{'_positive' if _positive(node, ig) else ''}"
    sources = (*_PAIRS, f"dsp/pairs{bits}.S", f"dsp/{name}.c")
    return _kernel(node, f"tn_{name}_dsp", sources, scratch, Overlap(raster_distance(w)))


def _dense(node: IntegerNode, ig: IntegerGraph) -> Kernel | None:
    fits = _fast_scales(node) and _lanes_fit(node, ig) and one_scale(node) and int(node.arrays["shift"][0]) >= -23
    sources = ("dsp/tn_dense.h", f"dsp/dense{_bits(node)}.S")
    return _kernel(node, f"tn_dense{_bits(node)}_dsp", sources, 0, None) if fits else None


def _add(node: IntegerNode, ig: IntegerGraph) -> Kernel | None:
    if not sums_as_tflm(node, ig, 23):
        return None
    function = "tn_add_even_dsp" if even_inputs(node) else "tn_add_dsp"
    return _kernel(node, function, ("dsp/add.S",), 0, Overlap(0), Overlap(0))


def _depthwise(node: IntegerNode, ig: IntegerGraph) -> Kernel | None:
    w = window_of(node, ig)
    if (
        not _fast_scales(node)
        or w.kernel not in ((3, 3), (5, 5))
        or w.stride[1] > 2
        or w.dilation != (1, 1)
        or w.padding[1] >= w.kernel[1]
        or w.in_c != w.out_c
        or w.in_c < 4
    ):
        return None
    largest = _largest_sums(
        node, node.arrays["weight"].reshape(-1, w.out_c).T.astype(np.int32), ig.tensors[node.inputs[0]].zero_point
    )
    positive = never_negative(node, ig) and _scales_fit(node, largest)
    if not positive and largest.max(initial=0) >= _MAX_DOUBLED:
        return None
    name = f"k{w.kernel[0]}s{w.stride[1]}{'_positive' if positive else ''}"
    sources = (*_LINES, f"dsp/depthwise_k{w.kernel[0]}.S", f"dsp/depthwise_conv2d_k{w.kernel[0]}.c")
    lines = Lines.of(w)
    constants = 3 + (6 if w.kernel[0] == 3 else 20 if w.stride[1] == 1 else 15)
    scratch = 4 * 4 * constants + lines.bytes
    return _kernel(node, f"tn_depthwise_conv2d_{name}_dsp", sources, scratch, line_overlap(w))


def depthwise_scales(node: IntegerNode, positive: bool) -> npt.NDArray[np.int64]:
    """By how many bits weights and bias of each channel are shifted to the left (see tn_depthwise_rows.h)."""
    shift, multiplier = node.arrays["shift"].astype(np.int64), node.arrays["multiplier"]
    return np.where(multiplier == 0, 2, 13 + shift) if positive else np.ones_like(shift)


def _scales_fit(node: IntegerNode, largest: npt.NDArray[np.int64]) -> bool:
    """Whether the scaled weights fit 16 bits, and the scaled sums 32."""
    scales = depthwise_scales(node, True)
    return bool(np.all((scales >= 2) & (scales <= 8)) and np.all(largest << np.clip(scales, 2, 8) < 1 << 31))


def _pool(node: IntegerNode, ig: IntegerGraph) -> Kernel | None:
    w = window_of(node, ig)
    if w.in_c < 4 or (node.op == "avg_pool2d" and w.taps > 256):
        return None
    overlap = Overlap(0, exact=True) if raster_distance(w) <= 0 else None
    return Kernel(f"tn_{node.op}_dsp", (*_POOL, f"dsp/{node.op}.c"), 0, (overlap,))


def _kernel(
    node: IntegerNode, function: str, sources: tuple[str, ...], scratch: int, *overlaps: Overlap | None
) -> Kernel:
    clamped = node.clamp != (-128, 127)
    common = ("dsp/tn_kernels_dsp.h", *(("dsp/clamp.S",) if clamped else ()))
    return Kernel(function, (*common, *sources), scratch, overlaps, clamped=clamped)


def _bits(node: IntegerNode) -> str:
    """What names of kernels and files say about the weights."""
    return "_int4" if node.weight_bits == 4 else ""


def _fours(n: int) -> int:
    return -(-n // 4) * 4


def _fast_scales(node: IntegerNode) -> bool:
    """The fast requantization needs right shifts >= 1 and multipliers >= 1/2, but for one of 0."""
    multiplier = node.arrays["multiplier"]
    return right_shifts(node) and bool(np.all((multiplier == 0) | (multiplier >= 1 << 30)))


def _positive(node: IntegerNode, ig: IntegerGraph) -> bool:
    """Whether the clamp swallows everything below the zero point, and both roundings fit one step (see pairs.S)."""
    right, multiplier = -node.arrays["shift"].astype(np.int64), node.arrays["multiplier"]
    scale = np.where(np.arange(len(right)) % 2 == 0, 17 - right, 8)
    sums = _largest_sums(node, _by_channel(node), ig.tensors[node.inputs[0]].zero_point)
    fits = (right <= 16) & (scale >= 2) & (sums << np.clip(scale, 2, 16) < 1 << 31)
    return never_negative(node, ig) and bool(np.all((multiplier == 0) | fits))


def _lanes_fit(node: IntegerNode, ig: IntegerGraph) -> bool:
    """Whether two channels can share 16-bit lanes without loss, or four of 4 bits (see pairs.S, pairs_int4.S).

    Even channels lie in the lower half.
    """
    weight = _by_channel(node)
    largest = _largest_sums(node, weight, ig.tensors[node.inputs[0]].zero_point)
    if node.weight_bits == 4:
        return all(largest[k::4].max(initial=0) < most for k, most in enumerate(_MAX_NIBBLES))
    pairs = weight[: len(weight) // 2 * 2].reshape(-1, 2, weight.shape[1])
    if (pairs[:, 0] + 256 * pairs[:, 1]).min(initial=0) < -(1 << 15):
        return False
    return bool(largest.max(initial=0) < _MAX_DOUBLED and largest[1::2].max(initial=0) < _MAX_LANE)


def _by_channel(node: IntegerNode) -> npt.NDArray[np.int32]:
    """Weights [channels, values] of a convolution or a dense layer."""
    return node.arrays["weight"].reshape(len(node.arrays["bias"]), -1).astype(np.int32)


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
