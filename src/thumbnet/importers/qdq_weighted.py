"""Convolutions and dense layers of a quantized ONNX file, and scales and offsets per channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.errors import ModelError
from thumbnet.graph.layout import Layout, LayoutError, order_of, parts_of, size_of
from thumbnet.importers import quantized
from thumbnet.importers.qdq_operands import Operands
from thumbnet.importers.qdq_values import Array, Floats, Int8s, Pending, Quantization, QuantizedConstant, Stored
from thumbnet.importers.qdq_windows import window
from thumbnet.importers.quantized import GraphBuilder
from thumbnet.integer.build import raised
from thumbnet.integer.graph import QTensor

Reals = npt.NDArray[np.float64]

UNIT = 127  # weight where all are equal: the largest, as TFLM's two roundings need large sums to round as one
_SYMMETRIC = "Quantize weights to int8, symmetrically (weight_type=QuantType.QInt8)."


@dataclass(frozen=True, eq=False)
class Weights:
    """`op` and `weight` as in the integer graph; `scales` [O] or [1]; `bias` [O] in real units."""

    op: str
    weight: Int8s
    scales: Floats
    bias: Reals
    attrs: dict[str, Any]

    def along(self, numbers: Array) -> Array:
        """`numbers` [O], shaped to multiply the weights of each output."""
        return numbers if self.op == "depthwise_conv2d" else numbers.reshape(-1, *[1] * (self.weight.ndim - 1))

    def scaled(self, gain: Reals, offset: Reals, name: str) -> Weights:
        """gain · y + offset for the outputs y; gain and offset are [O] or [1]. Stored weights at most change sign."""
        sign = np.broadcast_to(np.sign(gain), self.bias.shape).astype(np.int64)
        weight = self.weight * self.along(sign)
        if weight.max(initial=0) > 127:
            raise ModelError(f"'{name}' turns the sign of a weight of −128, which int8 cannot hold.", _SYMMETRIC)
        scales = self.scales * np.where(gain != 0, np.abs(gain), 1).astype(np.float32)
        return replace(self, weight=weight.astype(np.int8), scales=scales, bias=self.bias * gain + offset)

    def fitting(self, x_scale: float, out_scale: float) -> Weights:
        """Weights rounded to coarser steps where the bias, in their units, would not fit 32 bits."""
        scales = raised(self.scales, self.bias, x_scale, out_scale)
        if np.array_equal(scales, self.scales):
            return self
        ratio = np.broadcast_to(self.scales.astype(np.float64) / scales, self.bias.shape)
        return replace(self, weight=np.rint(self.weight * self.along(ratio)).astype(np.int8), scales=scales)


class Weighted(Pending):
    """A layer whose output quantization is still to come. `shape` is that of its output tensor."""

    def __init__(
        self, name: str, builder: GraphBuilder, x: QTensor, weights: Weights, shape: Sequence[int], layout: Layout
    ) -> None:
        super().__init__(layout)
        self.name, self.builder, self.x, self.weights, self.shape = name, builder, x, weights, tuple(shape)

    def scaled(self, gain: Array, offset: Array, name: str) -> Weighted:
        """gain · y + offset, by channel as they lie in memory: [O] or [1]."""
        weights = self.weights.scaled(gain.astype(np.float64), offset.astype(np.float64), name)
        return Weighted(self.name, self.builder, self.x, weights, self.shape, self.layout)

    def _make(self, q: Quantization) -> QTensor:
        made = self.weights.fitting(self.x.scale, q.scale)
        if made.op == "dense" and (len(self.shape) == 3 or len(set(made.scales.tolist())) > 1):
            return self._as_convolution(made, q)
        scales = made.scales[:1] if made.op == "dense" else made.scales
        out = self.builder.tensor(self.name, self.shape, q.scale, q.zero_point)
        bias = np.rint(made.bias / (np.float64(self.x.scale) * made.scales.astype(np.float64)))
        node = quantized.weighted(made.op, self.x, out, made.weight, bias, scales, "none", made.attrs)
        return self.builder.add(replace(node, clamp=q.clamp))

    def _as_convolution(self, made: Weights, q: Quantization) -> QTensor:
        """Several rows, or a scale for each output, make it a 1×1 convolution; the arithmetic is the same."""
        channels, count = made.weight.shape
        rows = self.shape[-2] if len(self.shape) == 3 else 1
        x = self.builder.reshape(f"{self.name}/rows", self.x, (1, rows, count))
        attrs = {"stride": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1], "groups": 1}
        weights = replace(made, op="conv2d", weight=made.weight.reshape(channels, 1, 1, count), attrs=attrs)
        wide = Weighted(self.name, self.builder, x, weights, (1, rows, channels), self.layout)
        return wide._make(q)


# --- what nodes have


def _weight(o: Operands, k: int, axis: int) -> tuple[Int8s, Floats]:
    """(int8 weights less their zero point, scales [O] along `axis` or [1])."""
    found = o.value(k)
    if not isinstance(found, QuantizedConstant) or not found.real:
        raise o.refuse(f"Its weights '{o.node.inputs[k]}' must be constants, quantized to int8.")
    centred = found.centred
    if centred.min(initial=0) < -128 or centred.max(initial=0) > 127:
        raise o.refuse(f"Its weights less their zero point do not fit int8. {_SYMMETRIC}")
    if not np.all(np.isfinite(found.scales)) or np.any(found.scales < 0):
        raise o.broken("has scales of its weights that are no positive numbers")
    scales = found.scales
    if len(scales) > 1 and bool(np.all(scales == scales[0])):
        scales = scales[:1]
    if len(scales) > 1 and found.axis != axis:
        raise o.refuse(f"The scales of its weights run along axis {found.axis}; only {axis} is supported.")
    return centred.astype(np.int8), scales


def _bias(o: Operands, k: int, channels: int) -> Reals:
    if not o.has(k):
        return np.zeros(channels)
    bias = o.reals(k)
    if bias.size not in (1, channels) or bias.ndim > 2:
        raise o.broken(f"has {bias.size} biases for {channels} channels")
    return np.broadcast_to(bias.reshape(-1), channels).astype(np.float64)


# --- convolution


def _conv(o: Operands) -> None:
    x = o.stored()
    size, (weight, scales) = x.layout.space(), _weight(o, 1, 0)
    flat = len(x.layout.shape) == 3
    if weight.ndim != len(x.layout.shape) or not weight.size:
        raise o.broken(f"has weights {list(weight.shape)} for an input {list(x.layout.shape)}")
    weight = weight[:, :, None] if flat else weight
    groups, channels, (outputs, per_group, *kernel) = o.integer("group", 1), x.layout.shape[1], weight.shape
    if groups < 1 or per_group * groups != channels or outputs % groups:
        raise o.broken(f"has weights {list(weight.shape)} in {groups} groups for {channels} channels")
    w = window(o, size, kernel, flat=flat)
    tensor = o.builder.reshape(f"{o.name}/input", x.tensor, (*size, channels))
    order = order_of(x.layout.axes[1], x.layout.trailing(1))
    in_order = np.array_equal(order, np.arange(channels))
    bias = _bias(o, 2, outputs)
    attrs = {"stride": w.stride, "padding": w.padding, "dilation": w.dilation}
    layout = Layout.channels_last((1, outputs, w.size[1]) if flat else (1, outputs, *w.size))
    if groups == channels and groups > 1:
        weight = weight[:, 0].transpose(1, 2, 0)
        if not in_order and outputs == channels:
            weight, bias, scales = weight[..., order], bias[order], scales if len(scales) == 1 else scales[order]
            layout = x.layout.with_space(*w.size)
        elif not in_order:
            raise LayoutError("Its channels come shuffled.")
        weights = Weights("depthwise_conv2d", weight, scales, bias, attrs)
    else:
        if groups > 1 and not in_order:
            raise LayoutError("Its channels come shuffled, and it works on groups of them.")
        weight = weight.transpose(0, 2, 3, 1)
        weight = weight[..., order] if groups == 1 else weight
        weights = Weights("conv2d", weight, scales, bias, {**attrs, "groups": groups})
    o.done(Weighted(o.name, o.builder, tensor, weights, (*w.size, outputs), layout))


# --- dense layers


def _gemm(o: Operands) -> None:
    if o.flag("transA"):
        raise o.refuse("Its first input must not be transposed.")
    transposed = o.flag("transB")
    weight, scales = _weight(o, 1, 0 if transposed else 1)
    if weight.ndim != 2:
        raise o.broken(f"has weights {list(weight.shape)}")
    weight = weight if transposed else weight.T
    alpha, beta = np.float64(o.number("alpha", 1.0)), np.float64(o.number("beta", 1.0))
    weights = Weights("dense", weight, scales, np.zeros(len(weight)), {})
    _dense(o, weights.scaled(np.array([alpha]), beta * _bias(o, 2, len(weight)), o.name))


def _matmul(o: Operands) -> None:
    if not o.is_constant(1) or o.is_constant(0):
        raise o.refuse("One of its inputs, the second, must be constant weights; attention is not supported.")
    weight, scales = _weight(o, 1, 1)
    if weight.ndim != 2:
        raise o.refuse("Its weights must have two axes.")
    _dense(o, Weights("dense", weight.T, scales, np.zeros(weight.shape[1]), {}))


def _dense(o: Operands, weights: Weights) -> None:
    """Along the last axis, whose values may lie in another order; the columns of the weights follow it."""
    x, (outputs, count) = o.stored(), weights.weight.shape
    *rows, last = x.layout.axes
    if size_of(last) != count or not weights.weight.size:
        raise o.broken(f"has weights for {count} values, but gets {list(x.layout.shape)}")
    columns, before = x.layout.trailing(-1), tuple(p for axis in rows for p in axis)
    if x.layout.stored[: len(before)] != before:
        raise LayoutError("Its rows are not in order; give it [1, features].")
    weights = replace(weights, weight=weights.weight[:, order_of(last, columns)])
    made = parts_of(outputs)
    layout, number = Layout((*rows, made), (*before, *made)), size_of(before)
    tensor = o.builder.reshape(f"{o.name}/flat", x.tensor, (count,) if number == 1 else (1, number, count))
    shape = (outputs,) if number == 1 else (1, number, outputs)
    o.done(Weighted(o.name, o.builder, tensor, weights, shape, layout))


# --- by channel


def scaled(o: Operands, x: Stored | Pending, gain: Array, offset: Array) -> Weighted | None:
    """gain · x + offset, [1] each or by the channels that are last in memory; None where `x` is neither stored nor a
    layer's output. A convolution or dense layer in front that is not quantized by itself takes it in.
    """
    if isinstance(x, Weighted):
        return x.scaled(gain, offset, o.name)
    if not isinstance(x, Stored) or not x.real:
        return None
    channels = max(len(gain), len(offset))
    shape = x.tensor.shape if x.tensor.shape[-1] == channels else (1, x.tensor.bytes // channels, channels)
    tensor = o.builder.reshape(f"{o.name}/channels", x.tensor, shape if len(shape) == 3 else (1, 1, channels))
    attrs = {"stride": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1]}
    unit = np.full((1, 1, channels), UNIT, np.int8)
    scales = np.full(channels, 1 / UNIT, np.float32)
    plain = Weights("depthwise_conv2d", unit, scales, np.zeros(channels), attrs)
    weights = plain.scaled(gain.astype(np.float64), offset.astype(np.float64), o.name)
    return Weighted(o.name, o.builder, tensor, weights, tensor.shape, x.layout)


def _batch_norm(o: Operands) -> None:
    if o.flag("training_mode") or sum(1 for v in o.node.outputs if v) > 1:
        raise o.refuse("Export the network in evaluation mode.")
    x = o.computed()
    weight, bias, mean, variance = (o.reals(k).astype(np.float64) for k in (1, 2, 3, 4))
    if len(x.layout.axes) < 2 or any(v.shape != (x.layout.shape[1],) for v in (weight, bias, mean, variance)):
        raise o.broken(f"has other numbers of channels than its input {list(x.layout.shape)}")
    if np.any(variance < 0):
        raise o.broken("has negative variances")
    gain = weight / np.sqrt(variance + max(o.number("epsilon", 1e-5), 1e-30))
    order = order_of(x.layout.axes[1], x.layout.trailing(1))
    made = scaled(o, x, gain[order], (bias - mean * gain)[order])
    if made is None:
        raise o.floating(0)
    o.done(made)


WEIGHTED = {"Conv": _conv, "Gemm": _gemm, "MatMul": _matmul, "BatchNormalization": _batch_norm}
