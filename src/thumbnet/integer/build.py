"""One function per integer operation: from tensors' quantization and float weights to a finished `IntegerNode`.

Every multiplier is formed in float64 from scales that are float32 values, as TFLM forms it from the scales in a TFLite
file, so that the integers stored here are the ones TFLM computes when it loads that file. (Versions of TFLM before
autumn 2026 formed some in float32: those of FULLY_CONNECTED, SUB, RELU, LEAKY_RELU and HARD_SWISH. They can differ by
one step where a value lies next to a rounding boundary.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.integer import tables
from thumbnet.integer.arithmetic import (
    activation_clamp,
    quantize_multiplier,
    quantize_weight,
    scalar_multiplier,
    weight_scales,
)
from thumbnet.integer.graph import IntegerNode, QTensor

Floats = npt.NDArray[np.float32]

ADD_LEFT_SHIFT = 20  # headroom that TFLM's int8 ADD and SUB give their inputs
_BIAS_LIMIT = 2.0**29  # of a stored bias: leaves room for the products in 32 bits
_MIN_MULTIPLIER = 2.0**-24  # of a channel; a smaller one would lose bits of the bias in the final shift
_SOFTMAX_INTEGER_BITS = 5


def scales_for(
    weight: Floats, bias: Floats | None, axis: int | None, x_scale: float, out_scale: float | None, bits: int
) -> Floats:
    """Weight scales, raised where a channel's weights are so small that its bias would not fit 32 bits.

    Returns float32 [channels], or [1] where `axis` is None. `out_scale` None leaves out the limit that depends on it.
    """
    scales = weight_scales(weight, axis, bits)
    return raised(scales, np.zeros(1) if bias is None else bias, x_scale, out_scale)


def raised(scales: Floats, bias: npt.NDArray[Any], x_scale: float, out_scale: float | None) -> Floats:
    """`scales` [channels] or [1], raised where the real `bias` would not fit 32 bits. `out_scale`: see `scales_for`."""
    magnitude = np.abs(bias.astype(np.float64))
    if len(scales) == 1:
        magnitude = magnitude.max(keepdims=True)
    floor = magnitude / (x_scale * _BIAS_LIMIT)
    if out_scale is not None:
        floor = np.maximum(floor, _MIN_MULTIPLIER * out_scale / x_scale)
    return np.maximum(scales, floor.astype(np.float32))


def _weighted(
    name: str,
    op: str,
    x: QTensor,
    out: QTensor,
    weight: Floats,
    bias: Floats | None,
    axis: int | None,
    activation: str,
    attrs: dict[str, Any],
    bits: int,
) -> IntegerNode:
    channels = out.shape[-1]
    scales = scales_for(weight, bias, axis, x.scale, out.scale, bits)
    in_scale = np.float64(x.scale)
    product = in_scale * scales.astype(np.float64)
    multiplier, shift = quantize_multiplier(product / out.scale)
    stored = np.zeros(channels) if bias is None else np.rint(bias / product)
    arrays: dict[str, npt.NDArray[Any]] = {
        "weight": np.ascontiguousarray(quantize_weight(weight, scales, axis, bits)),
        "bias": stored.astype(np.int32),
        "multiplier": np.broadcast_to(multiplier, channels).copy(),
        "shift": np.broadcast_to(shift, channels).copy(),
    }
    clamp = activation_clamp(activation, out.scale, out.zero_point)
    if bits != 8:
        attrs = {**attrs, "weight_bits": bits}
    return IntegerNode(name, op, (x.name,), attrs, arrays, clamp, tuple(float(s) for s in scales))


def conv2d(
    name: str,
    x: QTensor,
    out: QTensor,
    weight: Floats,
    bias: Floats | None,
    *,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0, 0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
    activation: str = "none",
    weight_bits: int = 8,
) -> IntegerNode:
    """`weight` is [O, kh, kw, I/groups], `bias` [O] or None."""
    attrs = {"stride": list(stride), "padding": list(padding), "dilation": list(dilation), "groups": groups}
    return _weighted(name, "conv2d", x, out, weight, bias, 0, activation, attrs, weight_bits)


def depthwise_conv2d(
    name: str,
    x: QTensor,
    out: QTensor,
    weight: Floats,
    bias: Floats | None,
    *,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0, 0, 0),
    dilation: Sequence[int] = (1, 1),
    activation: str = "none",
    weight_bits: int = 8,
) -> IntegerNode:
    """`weight` is [kh, kw, O], `bias` [O] or None."""
    attrs = {"stride": list(stride), "padding": list(padding), "dilation": list(dilation)}
    return _weighted(name, "depthwise_conv2d", x, out, weight, bias, 2, activation, attrs, weight_bits)


def conv_transpose2d(
    name: str,
    x: QTensor,
    out: QTensor,
    weight: Floats,
    bias: Floats | None,
    *,
    stride: Sequence[int],
    padding: Sequence[int] = (0, 0),
    activation: str = "none",
) -> IntegerNode:
    """`weight` is [O, kh, kw, I], `bias` [O] or None; `padding` (top, left) is cut off."""
    attrs = {"stride": list(stride), "padding": list(padding)}
    return _weighted(name, "conv_transpose2d", x, out, weight, bias, 0, activation, attrs, 8)


def dense(
    name: str,
    x: QTensor,
    out: QTensor,
    weight: Floats,
    bias: Floats | None,
    *,
    activation: str = "none",
    weight_bits: int = 8,
) -> IntegerNode:
    """`weight` is [O, I], `bias` [O] or None. One scale for all weights."""
    return _weighted(name, "dense", x, out, weight, bias, None, activation, {}, weight_bits)


def add(name: str, a: QTensor, b: QTensor, out: QTensor, *, activation: str = "none") -> IntegerNode:
    """a + b. The common scale is twice the larger of the two, so that the sum cannot overflow."""
    return _sum(name, "add", a, b, out, activation)


def subtract(name: str, a: QTensor, b: QTensor, out: QTensor, *, activation: str = "none") -> IntegerNode:
    """a − b, as `add`."""
    return _sum(name, "sub", a, b, out, activation)


def _sum(name: str, op: str, a: QTensor, b: QTensor, out: QTensor, activation: str) -> IntegerNode:
    twice = 2.0 * max(a.scale, b.scale)
    reals = [a.scale / twice, b.scale / twice, twice / ((1 << ADD_LEFT_SHIFT) * out.scale)]
    multipliers, shifts = quantize_multiplier(reals)
    attrs = {"left_shift": ADD_LEFT_SHIFT, "multipliers": multipliers.tolist(), "shifts": shifts.tolist()}
    clamp = activation_clamp(activation, out.scale, out.zero_point)
    return IntegerNode(name, op, (a.name, b.name), attrs, clamp=clamp)


def multiply(name: str, a: QTensor, b: QTensor, out: QTensor, *, activation: str = "none") -> IntegerNode:
    """a · b, element by element; b may be (1, 1, C)."""
    clamp = activation_clamp(activation, out.scale, out.zero_point)
    attrs = _scaling(a.scale * b.scale / out.scale)
    return IntegerNode(name, "mul", (a.name, b.name), attrs, clamp=clamp)


def extreme(name: str, op: str, a: QTensor, b: QTensor) -> IntegerNode:
    """`op` is "maximum" or "minimum", of stored values: both operands and the output share their quantization."""
    return IntegerNode(name, op, (a.name, b.name))


def prelu(name: str, x: QTensor, slope: QTensor, out: QTensor) -> IntegerNode:
    """x where it is not negative, else slope · x."""
    reals = [x.scale / out.scale, x.scale * slope.scale / out.scale]
    multipliers, shifts = quantize_multiplier(reals)
    attrs = {"multipliers": multipliers.tolist(), "shifts": shifts.tolist()}
    return IntegerNode(name, "prelu", (x.name, slope.name), attrs)


def with_constant(node: IntegerNode, constant: QTensor, values: npt.ArrayLike, *, first: bool = False) -> IntegerNode:
    """A node on two operands with int8 `values`, quantized as `constant`, for its second operand, or its `first`."""
    attrs = {**node.attrs, "constant_scale": constant.scale, "constant_zero_point": constant.zero_point}
    if first:
        attrs["constant_first"] = True
    arrays = {**node.arrays, "constant": np.ascontiguousarray(values, np.int8)}
    return replace(node, inputs=(node.inputs[1 if first else 0],), attrs=attrs, arrays=arrays)


def _scaling(real: float) -> dict[str, Any]:
    multiplier, shift = scalar_multiplier(real)
    return {"multiplier": multiplier, "shift": shift}


def requantize(name: str, x: QTensor, out: QTensor) -> IntegerNode:
    """The same numbers at another scale and zero point."""
    return IntegerNode(name, "requantize", (x.name,), {**_scaling(x.scale / out.scale), "kind": "quantize"})


def relu(name: str, x: QTensor, out: QTensor, *, activation: str = "relu") -> IntegerNode:
    """relu or relu6 as a node of its own: a requantization that clamps."""
    attrs = {**_scaling(x.scale / out.scale), "kind": "relu"}
    clamp = activation_clamp(activation, out.scale, out.zero_point)
    return IntegerNode(name, "requantize", (x.name,), attrs, clamp=clamp)


def global_avg_pool(name: str, x: QTensor, out: QTensor) -> IntegerNode:
    """Mean over height and width."""
    return IntegerNode(name, "global_avg_pool", (x.name,), _sum_scaling(x, out, x.shape[0] * x.shape[1]))


def reduction(name: str, op: str, x: QTensor, out: QTensor, axes: Sequence[int]) -> IntegerNode:
    """`op` is "mean", "sum", "reduce_max" or "reduce_min" (these keep the quantization), over axes that adjoin."""
    attrs: dict[str, Any] = {"axes": [int(a) for a in axes]}
    if op in ("mean", "sum"):
        attrs |= _sum_scaling(x, out, prod(x.shape[a] for a in axes) if op == "mean" else 1)
    return IntegerNode(name, op, (x.name,), attrs)


def _sum_scaling(x: QTensor, out: QTensor, count: int) -> dict[str, Any]:
    """Of a sum that is to be divided by `count`: the division goes into the multiplier, by integers, as in TFLM."""
    multiplier, shift = scalar_multiplier(x.scale / out.scale)
    up = min(count.bit_length() - 1, 32, 31 + shift)
    return {"multiplier": (multiplier << up) // count, "shift": shift - up}


def lut(name: str, x: QTensor, out: QTensor, kind: str, *, alpha: float = 0.0) -> IntegerNode:
    """A function by table: "sigmoid", "tanh", "hard_swish", "elu", "abs" or "leaky_relu" (with `alpha`)."""
    attrs: dict[str, Any] = {"kind": kind}
    if kind == "sigmoid":
        table = tables.sigmoid_table(x.scale, x.zero_point)
    elif kind == "tanh":
        table = tables.tanh_table(x.scale, x.zero_point)
    elif kind == "hard_swish":
        table = tables.hard_swish_table(x.scale, x.zero_point, out.scale, out.zero_point)
    elif kind == "leaky_relu":
        attrs["alpha"] = alpha
        table = tables.leaky_relu_table(x.scale, x.zero_point, out.scale, out.zero_point, alpha)
    elif kind in ("elu", "abs"):
        make = tables.elu_table if kind == "elu" else tables.abs_table
        table = make(x.scale, x.zero_point, out.scale, out.zero_point)
    else:
        raise ValueError(f"there is no table for '{kind}'")
    return IntegerNode(name, "lut", (x.name,), attrs, {"table": table})


def softmax(name: str, x: QTensor) -> IntegerNode:
    """Over the last axis; the output has the quantization `tables.SOFTMAX_OUTPUT`."""
    real = min(x.scale * (1 << (31 - _SOFTMAX_INTEGER_BITS)), (1 << 31) - 1.0)
    multiplier, shift = scalar_multiplier(real)
    diff_min = -tables.input_radius(_SOFTMAX_INTEGER_BITS, shift)
    attrs = {"multiplier": multiplier, "shift": shift, "diff_min": diff_min}
    return IntegerNode(name, "softmax", (x.name,), attrs)


def pool(
    name: str, op: str, x: QTensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> IntegerNode:
    """`op` is "max_pool2d" or "avg_pool2d"; padding counts in neither."""
    attrs = {"kernel": list(kernel), "stride": list(stride), "padding": list(padding)}
    return IntegerNode(name, op, (x.name,), attrs)
