"""TFLite's operators that compute: convolutions, dense layers, sums, products, pools, activations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from thumbnet.importers import quantized
from thumbnet.importers.tflite_operands import Operands, weight_scales
from thumbnet.integer import build
from thumbnet.integer.graph import QTensor
from thumbnet.integer.tables import SIGMOID_OUTPUT, SOFTMAX_OUTPUT, TANH_OUTPUT

_IMAGE = "It works on [1, height, width, channels] only; reshape the tensor before it."


def _image(o: Operands, k: int = 0) -> QTensor:
    x = o.input(k)
    if len(x.shape) != 3:
        raise o.refuse(_IMAGE)
    return x


def _bias(o: Operands, channels: int) -> npt.NDArray[np.int32] | None:
    if o.file(2) is None:
        return None
    bias = o.constant(2, "int32").reshape(-1)
    if len(bias) != channels:
        raise o.broken(f"has {len(bias)} biases for {channels} channels")
    return bias


def _conv2d(o: Operands) -> None:
    x, weight = _image(o), o.constant(1, "int8")
    if weight.ndim != 4 or not weight.size or x.shape[2] % weight.shape[3]:
        raise o.broken(f"has weights {list(weight.shape)} for an input {list(x.shape)}")
    groups = x.shape[2] // weight.shape[3]
    if weight.shape[0] % groups:
        raise o.broken(f"has {weight.shape[0]} channels in {groups} groups")
    _convolution(o, "conv2d", x, weight, weight.shape[1:3], weight.shape[0], 0, {"groups": groups})


def _depthwise_conv2d(o: Operands) -> None:
    x, weight = _image(o), o.constant(1, "int8")
    if weight.ndim != 4 or not weight.size or weight.shape[0] != 1 or weight.shape[3] % x.shape[2]:
        raise o.broken(f"has weights {list(weight.shape)} for an input {list(x.shape)}")
    _convolution(o, "depthwise_conv2d", x, weight[0], weight.shape[1:3], weight.shape[3], 3, {})


def _convolution(
    o: Operands,
    op: str,
    x: QTensor,
    weight: npt.NDArray[np.int8],
    kernel: tuple[int, ...],
    channels: int,
    axis: int,
    more: dict[str, int],
) -> None:
    stride, dilation = o.pair("StrideH", "StrideW"), o.pair("DilationHFactor", "DilationWFactor")
    reach = [dilation[i] * (kernel[i] - 1) + 1 for i in (0, 1)]
    padding, size = o.window(x.shape, reach, stride)
    attrs = {"stride": list(stride), "padding": padding, "dilation": list(dilation), **more}
    scales, bias = weight_scales(o.required(1), axis, o), _bias(o, channels)
    out = o.output((*size, channels))
    o.done(o.builder.add(quantized.weighted(op, x, out, weight, bias, scales, o.activation_name, attrs)))


def _dense(o: Operands) -> None:
    """Several rows, or a scale for each output, make it a 1×1 convolution; its arithmetic is the same."""
    x, weight = o.input(), o.constant(1, "int8")
    if o.option("WeightsFormat") != 0:
        raise o.refuse("Its weights are shuffled; convert the model without that.")
    if weight.ndim != 2 or not weight.size or math.prod(x.shape) % weight.shape[1]:
        raise o.broken(f"has weights {list(weight.shape)} for an input {list(x.shape)}")
    channels, count = weight.shape
    rows = math.prod(x.shape) // count
    scales, bias = weight_scales(o.required(1), 0, o), _bias(o, channels)
    if bool(np.all(scales == scales[0])):
        scales = scales[:1]
    if rows == 1 and len(scales) == 1:
        x = o.builder.reshape(f"{o.name}/flat", x, (count,))
        node = quantized.weighted("dense", x, o.output((channels,)), weight, bias, scales, o.activation_name, {})
    else:
        x = o.builder.reshape(f"{o.name}/rows", x, (1, rows, count))
        attrs = {"stride": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1], "groups": 1}
        weight, out = weight.reshape(channels, 1, 1, count), o.output((1, rows, channels), regrouped=True)
        node = quantized.weighted("conv2d", x, out, weight, bias, scales, o.activation_name, attrs)
    o.done(o.builder.add(node))


# --- sums and products


def _elementwise(op: str) -> Callable[[Operands], None]:
    def convert(o: Operands) -> None:
        constants = [k for k in (0, 1) if o.is_constant(k)]
        if constants:
            _with_constant(o, op, constants[0])
            return
        a, b = o.input(0), o.input(1)
        if a.bytes < b.bytes:
            if op == "sub":
                raise o.refuse("Only its second input may have one number per channel.")
            a, b = b, a
        if a.shape != b.shape:
            if len(a.shape) != 3 or b.bytes != b.shape[-1] or b.bytes != a.shape[2]:
                raise o.refuse("Its inputs must have the same shape, or one of them a single number per channel.")
            b = o.builder.reshape(f"{o.name}/channels", b, (1, 1, b.bytes))
        o.done(o.builder.add(quantized.elementwise(op, a, b, o.output(a.shape), o.activation_name)))

    return convert


def _with_constant(o: Operands, op: str, which: int) -> None:
    x, t, values = o.input(1 - which), o.required(which), o.constant(which, "int8")
    if len(t.scales) != 1 or not values.size:
        raise o.broken("has a constant without a scale")
    if values.size != 1 and values.size != values.shape[-1]:
        raise o.refuse("A constant operand must be one number, or one per channel.")
    constant = o.builder.checked("constant", (values.size,), float(t.scales[0]), int(t.zero_points[0]))
    out = o.output(x.shape)
    o.done(
        o.builder.add(
            quantized.with_constant(op, x, constant, values, out, o.activation_name, constant_first=which == 0)
        )
    )


# --- pools


def _pool(op: str) -> Callable[[Operands], None]:
    def convert(o: Operands) -> None:
        outer = o.padded.get(o.required(0).index) if op == "max_pool2d" else None
        x = o.values[o.required(0).index] if outer else _image(o)
        stride, kernel = o.pair("StrideH", "StrideW"), o.pair("FilterHeight", "FilterWidth")
        size = (x.shape[0] + outer[0] + outer[2], x.shape[1] + outer[1] + outer[3]) if outer else x.shape[:2]
        padding, made = o.window(size, kernel, stride)
        if outer:
            if any(padding) or max(outer[0], outer[2]) >= kernel[0] or max(outer[1], outer[3]) >= kernel[1]:
                raise o.refuse("Its padding of −128 is wider than its kernel.")
            padding = list(outer)
        out = o.output((*made, x.shape[2]))
        o.same_quantization(out, x)
        node = build.pool(out.name, op, x, kernel, stride, padding)
        o.done(o.builder.add(replace(node, clamp=quantized.clamp_of(o.activation_name, out))))

    return convert


def _mean(o: Operands) -> None:
    x, file_input = o.input(), o.required(0)
    axes = {a % len(file_input.shape) for a in o.integers(1) if -8 <= a < 8}
    over = {1, 2} if len(file_input.shape) == 4 else {1} if len(file_input.shape) == 3 else set()
    if not over or axes != over:
        raise o.refuse("Use the mean over height and width (axes 1 and 2) instead.")
    out = o.output((1, 1, x.shape[2]))
    o.done(o.builder.add(build.global_avg_pool(out.name, x, out)))


# --- activations


def _relu(o: Operands) -> None:
    x = o.input()
    out = o.output(x.shape)
    o.done(o.builder.add(build.relu(out.name, x, out)))


def _relu6(o: Operands) -> None:
    """TFLM does not rescale here: the output must be quantized as the input."""
    x = o.input()
    out = o.output(x.shape)
    o.same_quantization(out, x)
    o.done(o.builder.add(build.relu(out.name, x, out, activation="relu6")))


def _quantize(o: Operands) -> None:
    x = o.input()
    out = o.output(x.shape)
    o.done(o.builder.add(build.requantize(out.name, x, out)))


def _prescribed(o: Operands, out: QTensor, scale: float, zero_point: int) -> None:
    if (out.scale, out.zero_point) != (scale, zero_point):
        raise o.broken(f"gives the scale {out.scale:g} and zero point {out.zero_point}, not {scale:g} and {zero_point}")


def _sigmoid(o: Operands) -> None:
    x = o.input()
    out = o.output(x.shape)
    _prescribed(o, out, *SIGMOID_OUTPUT)
    o.done(o.builder.add(build.lut(out.name, x, out, "sigmoid")))


def _tanh(o: Operands) -> None:
    x = o.input()
    out = o.output(x.shape)
    _prescribed(o, out, *TANH_OUTPUT)
    o.done(o.builder.add(build.lut(out.name, x, out, "tanh")))


def _hard_swish(o: Operands) -> None:
    x = o.input()
    out = o.output(x.shape)
    o.done(o.builder.add(quantized.hard_swish(out.name, x, out)))


def _leaky_relu(o: Operands) -> None:
    x = o.input()
    out = o.output(x.shape)
    o.done(o.builder.add(quantized.leaky_relu(out.name, x, out, float(o.option("Alpha")))))


def _softmax(o: Operands) -> None:
    x = o.input()
    out = o.output(x.shape)
    _prescribed(o, out, *SOFTMAX_OUTPUT)
    o.done(o.builder.add(quantized.softmax(out.name, x, float(o.option("Beta")))))


LAYERS: dict[str, Callable[[Operands], None]] = {
    "CONV_2D": _conv2d,
    "DEPTHWISE_CONV_2D": _depthwise_conv2d,
    "FULLY_CONNECTED": _dense,
    "ADD": _elementwise("add"),
    "SUB": _elementwise("sub"),
    "MUL": _elementwise("mul"),
    "MAX_POOL_2D": _pool("max_pool2d"),
    "AVERAGE_POOL_2D": _pool("avg_pool2d"),
    "MEAN": _mean,
    "RELU": _relu,
    "RELU6": _relu6,
    "QUANTIZE": _quantize,
    "LOGISTIC": _sigmoid,
    "TANH": _tanh,
    "HARD_SWISH": _hard_swish,
    "LEAKY_RELU": _leaky_relu,
    "SOFTMAX": _softmax,
}
