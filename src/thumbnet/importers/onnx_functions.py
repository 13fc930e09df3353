"""Nodes of float ONNX files that compute number by number, and softmax."""

from __future__ import annotations

import math
from functools import partial, reduce

import numpy as np

from thumbnet.importers import patterns, values
from thumbnet.importers.builder import Value
from thumbnet.importers.onnx_operands import Handler, Operation, Results

_SOFTMAX_BY_AXIS = 13  # before, softmax took all axes from the given one on as one
_BINARY = {"Add": "add", "Sum": "add", "Mean": "add", "Sub": "sub", "Max": "maximum", "Min": "minimum"}


def _function(op: str) -> Handler:
    return lambda o: values.elementwise(o.builder, o.origin, op, o.computed())


def _leaky_relu(o: Operation) -> Value:
    return values.elementwise(o.builder, o.origin, "leaky_relu", o.computed(), {"alpha": o.number("alpha", 0.01)})


def _elu(o: Operation) -> Value:
    if o.number("alpha", 1.0) != 1.0:
        raise o.refuse("ELU with an alpha other than 1 is not supported; LeakyRelu takes any.")
    return values.elementwise(o.builder, o.origin, "elu", o.computed())


def _prelu(o: Operation) -> Value:
    x = o.computed()
    return values.prelu(o.builder, o.origin, x, o.fits(o.floats(1), x))


def _clip(o: Operation) -> Value:
    low, high = o.scalar(1, -math.inf), o.scalar(2, math.inf)
    return values.clip(o.builder, o.origin, o.computed(), low, high)


def _hard_sigmoid(o: Operation) -> Value:
    x, alpha, beta = o.computed(), o.number("alpha", 0.2), o.number("beta", 0.5)
    if np.isclose(alpha, 1 / 6, rtol=1e-5) and beta == 0.5:
        return values.elementwise(o.builder, o.origin, "hard_sigmoid", x)
    line = values.affine(o.builder, o.origin, x, None, np.full(1, alpha, np.float32), np.full(1, beta, np.float32))
    return values.clip(o.builder, o.origin, line, 0.0, 1.0)


def _swish(o: Operation) -> Value:
    if o.number("alpha", 1.0) != 1.0:
        raise o.refuse("Swish with an alpha other than 1 is not supported.")
    return values.elementwise(o.builder, o.origin, "silu", o.computed())


def _softmax(op: str) -> Handler:
    def convert(o: Operation) -> Value:
        b, x = o.builder, o.computed()
        flattening = o.opset < _SOFTMAX_BY_AXIS
        axis = o.sample_axis(o.integer("axis", 1 if flattening else -1), x)
        if flattening and any(d != 1 for d in x.shape[axis + 1 :]):
            rows = math.prod(x.shape[:axis])
            flat = b.reshape(o.origin, x, (rows, x.shape[axis] * math.prod(x.shape[axis + 1 :])))
            return b.reshape(o.origin, values.softmax(b, o.origin, flat, 1, op), x.shape)
        return values.softmax(b, o.origin, x, axis, op)

    return convert


# --- arithmetic


def _arithmetic(o: Operation) -> Value:
    """Of two values, or of more for the operations that take so many; constants broadcast to them."""
    count = len(o.node.inputs)
    if not (count == 2 or (count >= 1 and o.op in ("Max", "Min", "Sum", "Mean"))):
        raise o.broken(f"has {count} inputs")
    if count == 2 and o.op not in ("Sum", "Mean") and not (o.is_constant(0) and o.is_constant(1)):
        return _pair(o)
    made = reduce(partial(_combined, o), o.computed_all())
    if o.op == "Mean":
        made = values.with_constant(o.builder, o.origin, "mul", made, 1 / count)
    return made


def _pair(o: Operation) -> Value:
    if not o.is_constant(0) and not o.is_constant(1):
        return _combined(o, o.computed(0), o.computed(1))
    k = 0 if o.is_constant(0) else 1
    x, first = o.computed(1 - k), k == 0
    constant = o.fits(o.reals(k), x)
    op = {"Mul": "mul", "Div": "div"}.get(o.op) or _BINARY[o.op]
    if op == "div" and not first:
        if np.any(constant == 0):
            raise o.broken("divides by 0")
        op, constant = "mul", (1 / constant).astype(np.float32)
    if op == "mul" and constant.size and np.all(constant == constant.reshape(-1)[0]):
        return patterns.scaled(o.builder, o.origin, x, float(constant.reshape(-1)[0]))
    return values.with_constant(o.builder, o.origin, op, x, constant, constant_first=first)


def _combined(o: Operation, x: Value, y: Value) -> Value:
    """Two computed values."""
    if len(x.shape) != len(y.shape):
        raise o.refuse(f"It combines {o.told(x)} and {o.told(y)}; reshape one so that both have as many axes.")
    if o.op == "Div":
        raise o.refuse("Division by a computed value is not supported; multiply instead.")
    if o.op == "Mul":
        return patterns.product(o.builder, o.origin, x, y)
    return values.binary(o.builder, o.origin, _BINARY[o.op], x, y)


def _pow(o: Operation) -> Value:
    x, exponent = o.computed(), o.scalar(1, 1.0)
    if exponent not in (1.0, 2.0):
        raise o.refuse("Only squares are supported.")
    return x if exponent == 1.0 else values.binary(o.builder, o.origin, "mul", x, x)


def _neg(o: Operation) -> Value:
    return values.with_constant(o.builder, o.origin, "mul", o.computed(), -1.0)


def _same(o: Operation) -> Results:
    return o.value(0)


def _dropout(o: Operation) -> Results:
    """Nothing at inference. Raises `UnsupportedOpError` where it is to drop, or its mask is read."""
    if any(o.node.outputs[1:]) or (o.has(2) and bool(np.any(o.constant(2)))):
        raise o.refuse("Export the model for inference (model.eval()).")
    return o.value(0)


def _cast(o: Operation) -> Value:
    if o.integer("to") != 1:
        raise o.refuse("Values are computed in float32; leave out casts to other types.")
    return o.computed()


FUNCTIONS: dict[str, Handler] = {
    "Relu": _function("relu"),
    "HardSwish": _function("hard_swish"),
    "Sigmoid": _function("sigmoid"),
    "Tanh": _function("tanh"),
    "Abs": _function("abs"),
    "LeakyRelu": _leaky_relu,
    "Elu": _elu,
    "PRelu": _prelu,
    "Clip": _clip,
    "HardSigmoid": _hard_sigmoid,
    "Swish": _swish,
    "Softmax": _softmax("softmax"),
    "LogSoftmax": _softmax("log_softmax"),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean"), _arithmetic),
    "Pow": _pow,
    "Neg": _neg,
    "Identity": _same,
    "Dropout": _dropout,
    "Cast": _cast,
}
