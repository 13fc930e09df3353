"""Bounds on the stored values of every channel of every tensor, valid for all inputs of the network.

Interval arithmetic on the integers themselves: sums of products by the sign of each weight and by the taps that can lie
inside the image together, requantization by its monotonicity, tables by looking. A channel whose bounds meet is
constant, at the border too. Accumulators are taken to fit 32 bits, as TFLM needs them to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from thumbnet.integer.arithmetic import (
    INT8_MAX,
    INT8_MIN,
    INT32_MAX,
    INT32_MIN,
    Ints,
    multiply_by_quantized_multiplier,
    requantize,
)
from thumbnet.integer.binary import operands_of
from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor
from thumbnet.integer.moves import pad_channels, pad_value
from thumbnet.integer.passes.windows import Mask, tap_patterns
from thumbnet.integer.reductions import EXTREMES, SUMS

WEIGHTED = ("conv2d", "depthwise_conv2d", "dense")


@dataclass(frozen=True, eq=False)
class Bounds:
    """Lowest and highest value per channel, int64 [channels] each, both included."""

    low: Ints
    high: Ints

    @property
    def constant(self) -> Mask:
        """bool [channels]: whether the channel has one value at every pixel for every input."""
        return np.asarray(self.low == self.high)

    @property
    def range(self) -> tuple[int, int]:
        """Over all channels."""
        return int(self.low.min()), int(self.high.max())


Rule = Callable[[IntegerNode, Sequence[Bounds], Sequence[QTensor], QTensor], Bounds]


def bounds_of(ig: IntegerGraph) -> dict[str, Bounds]:
    """Bounds by tensor. An operation that is not known here is taken to give any value."""
    found = {v: anything(ig.tensors[v].shape[-1]) for v in ig.inputs}
    for node in ig.nodes:
        out, rule = ig.tensors[node.name], _RULES.get(node.op)
        if rule is None:
            found[node.name] = anything(out.shape[-1])
        else:
            found[node.name] = rule(node, [found[v] for v in node.inputs], [ig.tensors[v] for v in node.inputs], out)
    return found


def anything(channels: int) -> Bounds:
    return Bounds(np.full(channels, INT8_MIN, np.int64), np.full(channels, INT8_MAX, np.int64))


def taps_of(node: IntegerNode, channels: int) -> npt.NDArray[np.int8]:
    """Weights as [O, taps, I/groups] (a depthwise convolution has one input channel per group)."""
    weight = node.arrays["weight"]
    if node.op == "dense":
        return weight[:, None, :]
    if node.op == "depthwise_conv2d":
        return np.ascontiguousarray(weight.reshape(-1, weight.shape[-1]).T[:, :, None])
    return weight.reshape(weight.shape[0], -1, weight.shape[-1])


def patterns_of(node: IntegerNode, x: QTensor, out: QTensor) -> Mask:
    """`tap_patterns`; a dense layer has one tap."""
    return np.ones((1, 1), bool) if node.op == "dense" else tap_patterns(node, x, out)


def accumulator_bounds(node: IntegerNode, x: Bounds, source: QTensor, out: QTensor) -> Bounds:
    """Bounds of the 32-bit sums, bias included, of a convolution, depthwise convolution or dense layer.

    Taps outside the image contribute nothing: padding is the zero point.
    """
    taps = taps_of(node, len(x.low)).astype(np.int64)
    outputs, _, per_group = taps.shape
    groups = len(x.low) // per_group
    grouped = taps.reshape(groups, outputs // groups, *taps.shape[1:])
    low, high = ((v - source.zero_point).reshape(groups, per_group) for v in (x.low, x.high))
    positive, negative = np.maximum(grouped, 0), np.minimum(grouped, 0)
    lows = np.einsum("gotk,gk->got", positive, low) + np.einsum("gotk,gk->got", negative, high)
    highs = np.einsum("gotk,gk->got", positive, high) + np.einsum("gotk,gk->got", negative, low)
    inside = patterns_of(node, source, out).astype(np.int64).T
    bias = node.arrays["bias"].astype(np.int64)
    return Bounds(
        (lows.reshape(outputs, -1) @ inside).min(axis=1) + bias,
        (highs.reshape(outputs, -1) @ inside).max(axis=1) + bias,
    )


def requantized(sums: Bounds, multiplier: object, shift: object, out: QTensor, clamp: tuple[int, int]) -> Bounds:
    """Bounds of the stored output of sums within bounds: requantization never turns an order around."""
    left = np.maximum(np.asarray(shift, np.int64), 0)
    ends = (np.clip(v, INT32_MIN >> left, INT32_MAX >> left) for v in (sums.low, sums.high))
    a, b = (requantize(v, multiplier, shift, out.zero_point, clamp).astype(np.int64) for v in ends)
    return Bounds(np.minimum(a, b), np.maximum(a, b))


# --- one rule per operation


def _weighted(node: IntegerNode, x: Sequence[Bounds], tensors: Sequence[QTensor], out: QTensor) -> Bounds:
    sums = accumulator_bounds(node, x[0], tensors[0], out)
    return requantized(sums, node.arrays["multiplier"], node.arrays["shift"], out, node.clamp)


def _operands(node: IntegerNode, x: Sequence[Bounds], tensors: Sequence[QTensor]) -> list[tuple[Bounds, QTensor]]:
    """Bounds and quantization of both operands, a constant one included."""
    bounds = list(x)
    if "constant" in node.arrays:
        values = node.arrays["constant"].astype(np.int64)
        flat = values.reshape(-1, values.shape[-1])
        bounds.insert(0 if node.attrs.get("constant_first") else 1, Bounds(flat.min(axis=0), flat.max(axis=0)))
    return list(zip(bounds, operands_of(node, tensors), strict=True))


def _add(node: IntegerNode, x: Sequence[Bounds], tensors: Sequence[QTensor], out: QTensor) -> Bounds:
    multipliers, shifts, up = node.attrs["multipliers"], node.attrs["shifts"], node.attrs["left_shift"]
    a, b = (
        Bounds(*(multiply_by_quantized_multiplier((v - t.zero_point) << up, m, s) for v in (k.low, k.high)))
        for (k, t), m, s in zip(_operands(node, x, tensors), multipliers[:2], shifts[:2], strict=True)
    )
    total = Bounds(a.low + b.low, a.high + b.high) if node.op == "add" else Bounds(a.low - b.high, a.high - b.low)
    return requantized(total, multipliers[2], shifts[2], out, node.clamp)


def _multiply(node: IntegerNode, x: Sequence[Bounds], tensors: Sequence[QTensor], out: QTensor) -> Bounds:
    a, b = ((k.low - t.zero_point, k.high - t.zero_point) for k, t in _operands(node, x, tensors))
    corners = np.stack([p * q for p in a for q in b])
    products = Bounds(corners.min(axis=0), corners.max(axis=0))
    return requantized(products, node.attrs["multiplier"], node.attrs["shift"], out, node.clamp)


def _extreme(node: IntegerNode, x: Sequence[Bounds], tensors: Sequence[QTensor], out: QTensor) -> Bounds:
    (a, _), (b, _) = _operands(node, x, tensors)
    choose = np.maximum if node.op == "maximum" else np.minimum
    return Bounds(choose(a.low, b.low), choose(a.high, b.high))


def _max_pool(node: IntegerNode, x: Sequence[Bounds], tensors: Sequence[QTensor], out: QTensor) -> Bounds:
    outside = not tap_patterns(node, tensors[0], out).any(axis=1).all()  # some window sees only padding
    low = np.full_like(x[0].low, INT8_MIN) if outside else x[0].low
    return _clamped(node, Bounds(low, x[0].high))


def _avg_pool(node: IntegerNode, x: Sequence[Bounds], tensors: Sequence[QTensor], out: QTensor) -> Bounds:
    return _clamped(node, x[0])


def _clamped(node: IntegerNode, x: Bounds) -> Bounds:
    return Bounds(np.clip(x.low, *node.clamp), np.clip(x.high, *node.clamp))


def _global_avg_pool(node: IntegerNode, x: Sequence[Bounds], tensors: Sequence[QTensor], out: QTensor) -> Bounds:
    pixels, zero_point = tensors[0].shape[0] * tensors[0].shape[1], tensors[0].zero_point
    sums = Bounds((x[0].low - zero_point) * pixels, (x[0].high - zero_point) * pixels)
    return requantized(sums, node.attrs["multiplier"], node.attrs["shift"], out, node.clamp)


def _reduced(node: IntegerNode, x: Sequence[Bounds], tensors: Sequence[QTensor], out: QTensor) -> Bounds:
    """A sum or extreme over other axes than the last one."""
    shape = tensors[0].shape
    if len(shape) - 1 in node.attrs["axes"] or shape[-1] != out.shape[-1]:
        return anything(out.shape[-1])
    if node.op in EXTREMES:
        return x[0]
    count = prod(shape[a] for a in node.attrs["axes"])
    sums = Bounds(*((v - tensors[0].zero_point) * count for v in (x[0].low, x[0].high)))
    return requantized(sums, node.attrs["multiplier"], node.attrs["shift"], out, node.clamp)


def _lut(node: IntegerNode, x: Sequence[Bounds], tensors: Sequence[QTensor], out: QTensor) -> Bounds:
    table = node.arrays["table"].astype(np.int64)
    ends, which = np.unique(np.stack([x[0].low, x[0].high], axis=1), axis=0, return_inverse=True)
    parts = [table[a + 128 : b + 129] for a, b in ends]
    low, high = np.array([p.min() for p in parts]), np.array([p.max() for p in parts])
    return Bounds(low[which.ravel()], high[which.ravel()])


def _requantize(node: IntegerNode, x: Sequence[Bounds], tensors: Sequence[QTensor], out: QTensor) -> Bounds:
    centred = Bounds(x[0].low - tensors[0].zero_point, x[0].high - tensors[0].zero_point)
    return requantized(centred, node.attrs["multiplier"], node.attrs["shift"], out, node.clamp)


def _concat(node: IntegerNode, x: Sequence[Bounds], tensors: Sequence[QTensor], out: QTensor) -> Bounds:
    lows, highs = [b.low for b in x], [b.high for b in x]
    if int(node.attrs["axis"]) == len(out.shape) - 1:
        return Bounds(np.concatenate(lows), np.concatenate(highs))
    return Bounds(np.min(lows, axis=0), np.max(highs, axis=0))


def _pad(node: IntegerNode, x: Sequence[Bounds], tensors: Sequence[QTensor], out: QTensor) -> Bounds:
    value, ends = pad_value(node, out), pad_channels(node)
    low, high = (np.pad(v, ends, constant_values=value) for v in (x[0].low, x[0].high))
    if any(node.attrs["padding"]):
        low, high = np.minimum(low, value), np.maximum(high, value)
    return Bounds(low, high)


def _reshape(node: IntegerNode, x: Sequence[Bounds], tensors: Sequence[QTensor], out: QTensor) -> Bounds:
    def moved(v: Ints) -> Ints:
        return np.broadcast_to(v, tensors[0].shape).reshape(-1, out.shape[-1])

    return Bounds(moved(x[0].low).min(axis=0), moved(x[0].high).max(axis=0))


def _slice(node: IntegerNode, x: Sequence[Bounds], tensors: Sequence[QTensor], out: QTensor) -> Bounds:
    if int(node.attrs["axis"]) != len(out.shape) - 1:
        return x[0]
    part = slice(int(node.attrs["start"]), int(node.attrs["stop"]))
    return Bounds(x[0].low[part], x[0].high[part])


def _unchanged(node: IntegerNode, x: Sequence[Bounds], tensors: Sequence[QTensor], out: QTensor) -> Bounds:
    return x[0]


_RULES: dict[str, Rule] = {
    **dict.fromkeys(WEIGHTED, _weighted),
    "add": _add,
    "sub": _add,
    "mul": _multiply,
    "maximum": _extreme,
    "minimum": _extreme,
    "max_pool2d": _max_pool,
    "avg_pool2d": _avg_pool,
    "global_avg_pool": _global_avg_pool,
    "lut": _lut,
    "requantize": _requantize,
    "concat": _concat,
    "pad": _pad,
    "mirror_pad": _unchanged,
    "reshape": _reshape,
    **dict.fromkeys((*SUMS, *EXTREMES), _reduced),
    **dict.fromkeys(("resize_nearest", "resize_bilinear"), _unchanged),
    "slice": _slice,
}
