"""TFLite's operators that compute, on real numbers: convolutions, dense layers, arithmetic, pools, functions."""

from __future__ import annotations

from math import prod

import numpy as np

from thumbnet.importers import layers, values
from thumbnet.importers.builder import Floats, Value
from thumbnet.importers.patterns import product, scaled
from thumbnet.importers.tflite_values import Convert, FloatOperator


def _weights(o: FloatOperator, rank: int) -> Floats:
    weight = o.reals(1)
    if weight.ndim != rank or not weight.size:
        raise o.broken(f"has weights of shape {list(weight.shape)}")
    return weight


def _image(o: FloatOperator, k: int = 0) -> Value:
    x = o.computed(k)
    if len(x.shape) != 3:
        raise o.refuse("It works on [1, height, width, channels] only; reshape the tensor before it.")
    return x


def _conv2d(o: FloatOperator) -> None:
    x, weight = _image(o), _weights(o, 4)  # [O, kh, kw, I / groups]
    if x.shape[2] % weight.shape[3]:
        raise o.broken(f"has weights {list(weight.shape)} for an input {list(x.shape)}")
    _convolved(o, x, weight.transpose(0, 3, 1, 2), x.shape[2] // weight.shape[3])


def _depthwise_conv2d(o: FloatOperator) -> None:
    x, weight = _image(o), _weights(o, 4)  # [1, kh, kw, O]
    if weight.shape[0] != 1 or weight.shape[3] % x.shape[2]:
        raise o.broken(f"has weights {list(weight.shape)} for an input {list(x.shape)}")
    _convolved(o, x, weight.transpose(3, 0, 1, 2), x.shape[2])


def _convolved(o: FloatOperator, x: Value, weight: Floats, groups: int) -> None:
    stride, dilation = o.pair("StrideH", "StrideW"), o.pair("DilationHFactor", "DilationWFactor")
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    padding, _ = o.window(x.shape, reach, stride)
    bias = o.bias(2, len(weight))
    made = layers.convolution(
        o.builder, o.origin, x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    o.done(o.activated(made))


def _conv_transpose2d(o: FloatOperator) -> None:
    """The output's size is in the file; SAME is that of the convolution which this turns around."""
    x, weight = _image(o, 2), _weights(o, 4)  # [O, kh, kw, I]
    if x.shape[2] != weight.shape[3]:
        raise o.broken(f"has weights {list(weight.shape)} for an input {list(x.shape)}")
    stride, out = o.pair("StrideH", "StrideW"), o.content.tensors[o.operator.outputs[0]].shape
    if len(out) != 4:
        raise o.broken(f"gives {list(out)}")
    kernel = weight.shape[1:3]
    before = o.window(out[1:3], kernel, stride)[0][:2] if o.same_padding else [0, 0]
    after = [(x.shape[k] - 1) * stride[k] + kernel[k] - before[k] - out[k + 1] for k in (0, 1)]
    made = layers.transposed_convolution(
        o.builder, o.origin, x, weight.transpose(3, 0, 1, 2), o.bias(3, len(weight)),
        stride=stride, padding=[*before, *after],
    )  # fmt: skip
    o.done(o.activated(made) if "FusedActivationFunction" in o.operator.options else made)


def _dense(o: FloatOperator) -> None:
    x, weight = o.computed(), _weights(o, 2)
    if o.option("WeightsFormat") != 0:
        raise o.refuse("Its weights are shuffled; convert the model without that.")
    channels, count = weight.shape
    if prod(x.shape) % count:
        raise o.broken(f"has weights {list(weight.shape)} for an input {list(x.shape)}")
    rows = prod(x.shape) // count
    x = o.builder.reshape(o.part("rows"), x, (count,) if rows == 1 else (rows, count))
    o.done(o.activated(layers.dense(o.builder, o.origin, x, weight, o.bias(2, channels))))


# --- arithmetic


def _binary(op: str) -> Convert:
    def convert(o: FloatOperator) -> None:
        constants = [k for k in (0, 1) if o.is_number(k)]
        if len(constants) == 2:
            raise o.refuse("One of its inputs must be computed.")
        if constants:
            made = _with_constant(o, op, constants[0])
        elif op == "div":
            raise o.refuse("Division by a computed value is not supported; multiply with the reciprocal instead.")
        elif op == "mul":
            made = product(o.builder, o.origin, o.computed(0), o.computed(1))
        else:
            made = values.binary(o.builder, o.origin, op, o.computed(0), o.computed(1))
        o.done(o.activated(made) if "FusedActivationFunction" in o.operator.options else made)

    return convert


def _with_constant(o: FloatOperator, op: str, which: int) -> Value:
    x, c = o.computed(1 - which), o.reals(which)
    if op == "mul" and c.size == 1:
        return scaled(o.builder, o.origin, x, float(c.reshape(-1)[0]))
    return values.with_constant(o.builder, o.origin, op, x, c, constant_first=which == 0)


def _negative(o: FloatOperator) -> None:
    o.done(values.with_constant(o.builder, o.origin, "mul", o.computed(), -1.0))


def _square(o: FloatOperator) -> None:
    o.done(values.binary(o.builder, o.origin, "mul", o.computed(), o.computed()))


# --- pools and reductions


def _pool(op: str) -> Convert:
    def convert(o: FloatOperator) -> None:
        x, stride, kernel = _image(o), o.pair("StrideH", "StrideW"), o.pair("FilterHeight", "FilterWidth")
        padding, _ = o.window(x.shape, kernel, stride)
        made = layers.pool(o.builder, o.origin, x, op, kernel=kernel, stride=stride, padding=padding)
        o.done(o.activated(made))

    return convert


def _reduction(kind: str) -> Convert:
    def convert(o: FloatOperator) -> None:
        x, shape = o.computed(), o.required(0).shape
        named = {a % len(shape) for a in o.integers(1)} if shape else set()
        axes = sorted({o.axis(a) for a in named if shape[a] > 1})
        o.done(layers.reduction(o.builder, o.origin, x, kind, axes, True))

    return convert


# --- functions


def _function(op: str) -> Convert:
    return lambda o: o.done(values.elementwise(o.builder, o.origin, op, o.computed()))


def _relu_n1_to_1(o: FloatOperator) -> None:
    o.done(values.clip(o.builder, o.origin, o.computed(), -1.0, 1.0))


def _leaky_relu(o: FloatOperator) -> None:
    alpha = float(o.option("Alpha"))
    o.done(values.elementwise(o.builder, o.origin, "leaky_relu", o.computed(), {"alpha": alpha}))


def _prelu(o: FloatOperator) -> None:
    o.done(values.prelu(o.builder, o.origin, o.computed(), o.reals(1)))


def _softmax(op: str) -> Convert:
    def convert(o: FloatOperator) -> None:
        x = o.computed()
        beta = float(o.option("Beta")) if op == "softmax" else 1.0
        if beta != 1:
            x = values.with_constant(o.builder, o.part("beta"), "mul", x, np.float32(beta))
        o.done(values.softmax(o.builder, o.origin, x, len(x.shape) - 1, op))

    return convert


def _dequantize(o: FloatOperator) -> None:
    """Of a constant (float16, or int8) the numbers; of a computed value nothing."""
    if o.is_number(0):
        o.constants[o.operator.outputs[0]] = o.reals(0)
    else:
        o.done(o.computed())


COMPUTING: dict[str, Convert] = {
    "CONV_2D": _conv2d,
    "DEPTHWISE_CONV_2D": _depthwise_conv2d,
    "TRANSPOSE_CONV": _conv_transpose2d,
    "FULLY_CONNECTED": _dense,
    **{k: _binary(k.lower()) for k in ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM")},
    "NEG": _negative,
    "SQUARE": _square,
    "MAX_POOL_2D": _pool("max_pool2d"),
    "AVERAGE_POOL_2D": _pool("avg_pool2d"),
    "MEAN": _reduction("mean"),
    "SUM": _reduction("sum"),
    "REDUCE_MAX": _reduction("max"),
    "REDUCE_MIN": _reduction("min"),
    **{k: _function(k.lower()) for k in ("RELU", "RELU6", "TANH", "HARD_SWISH", "ELU", "ABS")},
    "LOGISTIC": _function("sigmoid"),
    "RELU_N1_TO_1": _relu_n1_to_1,
    "LEAKY_RELU": _leaky_relu,
    "PRELU": _prelu,
    "SOFTMAX": _softmax("softmax"),
    "LOG_SOFTMAX": _softmax("log_softmax"),
    **dict.fromkeys(("QUANTIZE", "DEQUANTIZE"), _dequantize),
}
