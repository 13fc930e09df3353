"""TFLite's operators that compute: convolutions, dense layers, sums, products, pools, activations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from thumbnet.importers import quantized
from thumbnet.importers.tflite_operands import Operands, Supported, weight_bits, weight_scales, without_batch
from thumbnet.integer import build
from thumbnet.integer.graph import QTensor
from thumbnet.integer.reductions import EXTREMES, blocks
from thumbnet.integer.tables import SIGMOID_OUTPUT, SOFTMAX_OUTPUT, TANH_OUTPUT


def _bias(o: Operands, channels: int, k: int = 2) -> npt.NDArray[np.int32] | None:
    if o.file(k) is None:
        return None
    bias = o.constant(k, "int32").reshape(-1)
    if len(bias) != channels:
        raise o.broken(f"has {len(bias)} biases for {channels} channels")
    return bias


def _conv2d(o: Operands) -> None:
    x, weight = o.image(), o.constant(1, "int8")
    if weight.ndim != 4 or not weight.size or x.shape[2] % weight.shape[3]:
        raise o.broken(f"has weights {list(weight.shape)} for an input {list(x.shape)}")
    groups = x.shape[2] // weight.shape[3]
    if weight.shape[0] % groups:
        raise o.broken(f"has {weight.shape[0]} channels in {groups} groups")
    _convolution(o, "conv2d", x, weight, weight.shape[1:3], weight.shape[0], 0, {"groups": groups})


def _depthwise_conv2d(o: Operands) -> None:
    x, weight = o.image(), o.constant(1, "int8")
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
    bits = weight_bits(o.required(1))
    attrs = {"stride": list(stride), "padding": padding, "dilation": list(dilation), **more, **bits}
    scales, bias = weight_scales(o.required(1), axis, o), _bias(o, channels)
    out = o.output((*size, channels))
    o.done(o.builder.add(quantized.weighted(op, x, out, weight, bias, scales, o.activation_name, attrs)))


def _conv_transpose2d(o: Operands) -> None:
    """The first input gives the output's shape, which the file holds as well."""
    x, weight = o.image(2), o.constant(1, "int8")
    if weight.ndim != 4 or not weight.size or x.shape[2] != weight.shape[3]:
        raise o.broken(f"has weights {list(weight.shape)} for an input {list(x.shape)}")
    channels, *kernel, _ = weight.shape
    stride = o.pair("StrideH", "StrideW")
    size = without_batch(o.content.tensors[o.operator.outputs[0]], o.where)
    if len(size) != 3:
        raise o.broken(f"gives {list(size)}")
    # SAME is that of the convolution which it turns around
    padding = o.window(size, kernel, stride)[0][:2] if o.same_padding else [0, 0]
    scales, bias = weight_scales(o.required(1), 0, o), _bias(o, channels, 3)
    out = o.output((*size[:2], channels))
    attrs = {"stride": list(stride), "padding": padding}
    o.done(
        o.builder.add(quantized.weighted("conv_transpose2d", x, out, weight, bias, scales, o.activation_name, attrs))
    )


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
    bits = weight_bits(o.required(1))
    if rows == 1 and len(scales) == 1:
        x = o.builder.reshape(f"{o.name}/flat", x, (count,))
        node = quantized.weighted("dense", x, o.output((channels,)), weight, bias, scales, o.activation_name, bits)
    else:
        x = o.builder.reshape(f"{o.name}/rows", x, (1, rows, count))
        attrs = {"stride": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1], "groups": 1, **bits}
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
        a, b, out = o.input(0), o.input(1), o.output()
        _compares_alike(o, op, out, a, b)
        o.done(o.builder.add(quantized.elementwise(op, a, b, out, _activation(o, op))))

    return convert


def _with_constant(o: Operands, op: str, which: int) -> None:
    x, t, values = o.input(1 - which), o.required(which), o.constant(which, "int8")
    if len(t.scales) != 1 or not values.size:
        raise o.broken("has a constant without a scale")
    shape = [*values.shape] or [1]
    values = values.reshape(shape[1:] if len(shape) > 1 and shape[0] == 1 else shape)  # without the batch axis
    constant = o.builder.checked("constant", values.shape, float(t.scales[0]), int(t.zero_points[0]))
    out = o.output()
    _compares_alike(o, op, out, x, constant)
    o.done(
        o.builder.add(
            quantized.with_constant(op, x, constant, values, out, _activation(o, op), constant_first=which == 0)
        )
    )


def _activation(o: Operands, op: str) -> str:
    return o.activation_name if op in ("add", "sub", "mul") else "none"


def _compares_alike(o: Operands, op: str, out: QTensor, *operands: QTensor) -> None:
    """maximum and minimum compare stored values."""
    if op in ("maximum", "minimum"):
        o.same_quantization(out, *operands)


# --- pools


def _pool(op: str) -> Callable[[Operands], None]:
    def convert(o: Operands) -> None:
        x, stride, kernel = o.image(), o.pair("StrideH", "StrideW"), o.pair("FilterHeight", "FilterWidth")
        padding, made = o.window(x.shape, kernel, stride)
        out = o.output((*made, x.shape[2]))
        o.same_quantization(out, x)
        node = build.pool(out.name, op, x, kernel, stride, padding)
        o.done(o.builder.add(replace(node, clamp=quantized.clamp_of(o.activation_name, out))))

    return convert


_ADJOINING = "Over axes that adjoin, such as height and width, or channels; kept or not."


def _reduction(op: str) -> Callable[[Operands], None]:
    def convert(o: Operands) -> None:
        x, rank = o.input(), len(o.required(0).shape)
        axes = sorted({o.stored_axis(a) for a in o.integers(1) if a % rank} if rank else set())
        if blocks(axes, x.shape) is None:
            raise o.refuse("Its axes must adjoin; reduce over height and width, over one of them, or over channels.")
        images = len(x.shape) == 3 and axes and axes[-1] < 2 and all(x.shape[k] == 1 for k in {0, 1} - set(axes))
        if op == "mean" and images:
            out = o.output((1, 1, x.shape[2]))
            o.done(o.builder.add(build.global_avg_pool(out.name, x, out)))
            return
        out = o.output([1 if k in axes else n for k, n in enumerate(x.shape)])
        if op in EXTREMES:
            o.same_quantization(out, x)
        o.done(o.builder.add(build.reduction(out.name, op, x, out, axes)))

    return convert


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


def _relu_n1_to_1(o: Operands) -> None:
    """By table: no formula of its own is worth a kernel."""
    x = o.input()
    out = o.output(x.shape)
    o.done(o.builder.add(quantized.clamped_table(out.name, x, out, "relu_n1_to_1")))


def _dequantize(o: Operands) -> None:
    raise o.refuse("It is supported where the model ends; quantize all of the model.")


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


def _elu(o: Operands) -> None:
    x = o.input()
    out = o.output(x.shape)
    o.done(o.builder.add(build.lut(out.name, x, out, "elu")))


def _abs(o: Operands) -> None:
    x = o.input()
    out = o.output(x.shape)
    o.done(o.builder.add(quantized.absolute(out.name, x, out)))


def _softmax(o: Operands) -> None:
    x = o.input()
    out = o.output(x.shape)
    _prescribed(o, out, *SOFTMAX_OUTPUT)
    o.done(o.builder.add(quantized.softmax(out.name, x, float(o.option("Beta")))))


_PAIR = "One operand as large as the output; the other the same, or one number for all, each channel or each pixel. "
_PAIR += "Either may be a constant."

LAYERS: dict[str, Supported] = {
    "CONV_2D": Supported(_conv2d, "Any kernel, stride, dilation and groups; constant weights."),
    "DEPTHWISE_CONV_2D": Supported(_depthwise_conv2d, "As CONV_2D; any depth multiplier."),
    "TRANSPOSE_CONV": Supported(_conv_transpose2d, "Any kernel and stride; constant weights."),
    "FULLY_CONNECTED": Supported(
        _dense, "Per tensor or per channel, any number of rows; constant weights, not shuffled."
    ),
    "ADD": Supported(_elementwise("add"), _PAIR),
    "SUB": Supported(_elementwise("sub"), _PAIR),
    "MUL": Supported(_elementwise("mul"), _PAIR),
    "MAXIMUM": Supported(_elementwise("maximum"), f"{_PAIR} Operands and output share their quantization."),
    "MINIMUM": Supported(_elementwise("minimum"), f"{_PAIR} Operands and output share their quantization."),
    "PRELU": Supported(_elementwise("prelu"), "One slope for all, for each channel or for each pixel."),
    "MAX_POOL_2D": Supported(_pool("max_pool2d")),
    "AVERAGE_POOL_2D": Supported(_pool("avg_pool2d")),
    "MEAN": Supported(_reduction("mean"), _ADJOINING),
    "SUM": Supported(_reduction("sum"), _ADJOINING),
    "REDUCE_MAX": Supported(_reduction("reduce_max"), _ADJOINING),
    "REDUCE_MIN": Supported(_reduction("reduce_min"), _ADJOINING),
    "RELU": Supported(_relu),
    "RELU6": Supported(_relu6, "The output is quantized as the input."),
    "RELU_N1_TO_1": Supported(_relu_n1_to_1, "TensorFlow Lite Micro has none: not compared with it."),
    "QUANTIZE": Supported(
        _quantize,
        "From int8 to int8; where the model begins from float32 or uint8, where it ends to uint8 (see above).",
    ),
    "DEQUANTIZE": Supported(_dequantize, "Where the model ends (see above)."),
    "LOGISTIC": Supported(_sigmoid, "Output scale 1/256, zero point −128."),
    "TANH": Supported(_tanh, "Output scale 1/128, zero point 0."),
    "HARD_SWISH": Supported(_hard_swish),
    "LEAKY_RELU": Supported(_leaky_relu),
    "ELU": Supported(_elu),
    "ABS": Supported(_abs),
    "SOFTMAX": Supported(_softmax, "Over the last axis; any beta. `--softmax drop` leaves it to the application."),
}
