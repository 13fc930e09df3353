"""Operations of `keras.ops` between layers, as functional models hold them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from thumbnet.importers import layers, values
from thumbnet.importers.builder import Value
from thumbnet.importers.keras_activations import named
from thumbnet.importers.keras_call import Call, Handler, constant
from thumbnet.importers.patterns import product, scaled


def _binary(op: str) -> Handler:
    def convert(c: Call) -> Value:
        a, b = c.arguments("x1", "x2")
        if isinstance(a, Value) and isinstance(b, Value):
            if op == "div":
                raise c.origin.refuse("Division by a computed value is not supported; multiply instead.")
            return product(c.b, c.origin, a, b) if op == "mul" else values.binary(c.b, c.origin, op, a, b)
        if isinstance(a, Value):
            if op in ("mul", "div") and constant(b).size == 1:
                factor = float(constant(b).reshape(-1)[0])
                return scaled(c.b, c.origin, a, factor if op == "mul" else 1 / factor)
            return values.with_constant(c.b, c.origin, op, a, constant(b))
        if not isinstance(b, Value):
            raise c.origin.refuse("One of its inputs must be computed from the network's input.")
        return values.with_constant(c.b, c.origin, op, b, constant(a), constant_first=True)

    return convert


def _activation(name: str) -> Handler:
    def convert(c: Call) -> Value:
        alpha = getattr(c.op, "negative_slope", getattr(c.op, "alpha", None))
        axis = getattr(c.op, "axis", -1)
        if not isinstance(axis, int):
            raise c.origin.refuse("It works over one axis.")
        return named(c, c.x, name, axis=axis, alpha=None if alpha is None else float(alpha))

    return convert


def _negative(c: Call) -> Value:
    return values.with_constant(c.b, c.origin, "mul", c.x, np.float32(-1))


def _square(c: Call) -> Value:
    return values.binary(c.b, c.origin, "mul", c.x, c.x)


def _clip(c: Call) -> Value:
    low, high = (None if v is None else float(v) for v in (c.op.x_min, c.op.x_max))
    return values.clip(c.b, c.origin, c.x, low, high)


def _reduce(kind: str) -> Handler:
    def convert(c: Call) -> Value:
        if getattr(c.op, "initial", None) is not None:
            raise c.origin.refuse("An initial value is not supported.")
        return layers.reduction(c.b, c.origin, c.x, kind, c.axes(c.op.axis, len(c.x.shape)), bool(c.op.keepdims))

    return convert


# --- moving


def _concatenate(c: Call) -> Value:
    given = c.values
    return values.concat(c.b, c.origin, given, c.axis(int(c.op.axis), len(given[0].shape)))


def _reshape(c: Call) -> Value:
    """To whatever shape Keras has found; the batch must have stayed."""
    wanted = getattr(c.op, "newshape", None)
    if wanted is not None and (not len(wanted) or (wanted[0] not in (None, -1) and len(wanted) == 1)):
        raise c.origin.refuse("The batch axis must stay as it is.")
    return c.b.reshape(c.origin, c.x, c.shapes[0])


def _transpose(c: Call) -> Value:
    order = c.op.axes
    if order is None or int(order[0]) != 0:
        raise c.origin.refuse("The batch axis must stay the first.")
    return c.b.permute(c.x, [c.axis(int(a), len(c.x.shape)) for a in order[1:]])


def _get_item(c: Call) -> Value:
    x, key = c.arguments("x", "key")
    if not isinstance(x, Value):
        raise c.origin.refuse("It must take from a computed value.")
    keys = list(key) if isinstance(key, list | tuple) else [key]
    if Ellipsis in keys:
        at = keys.index(Ellipsis)
        given = sum(k is not None for k in keys) - 1
        keys[at : at + 1] = [slice(None)] * (len(x.shape) + 1 - given)
    if not keys or keys[0] != slice(None):
        raise c.origin.refuse("The batch axis must stay as it is.")
    axis = 0
    for k in keys[1:]:
        if k is None:
            x = c.b.reshape(c.origin, x, (*x.shape[:axis], 1, *x.shape[axis:]))
            axis += 1
        elif isinstance(k, slice):
            start, stop, step = k.indices(x.shape[axis])
            if step < 1:
                raise c.origin.refuse("Reversing an axis is not supported.")
            x = values.cut(c.b, c.origin, x, axis, start, stop, step)
            axis += 1
        elif isinstance(k, int):
            x = values.select(c.b, c.origin, x, axis, k)
        else:
            raise c.origin.refuse("Only fixed positions and ranges can be taken.")
    return x


def _pad(c: Call) -> Value:
    pairs = [(int(p[0]), int(p[1])) for p in c.op.pad_width]
    pairs = pairs * (len(c.x.shape) + 1) if len(pairs) == 1 else pairs
    value = c.arguments("x", "constant_values")[1]
    if any(pairs[0]):
        raise c.origin.refuse("The batch axis must stay as it is.")
    return values.pad(c.b, c.origin, c.x, pairs[1:], float(value or 0), c.op.mode)


def _split(c: Call) -> list[Value]:
    axis, parts = c.axis(int(c.op.axis), len(c.x.shape)), c.op.indices_or_sections
    size = c.x.shape[axis]
    if isinstance(parts, int):
        sizes = [size // parts] * parts
    else:
        edges = [0, *(int(p) for p in parts), size]
        sizes = [b - a for a, b in pairwise(edges)]
    return values.split(c.b, c.origin, c.x, axis, sizes)


def _all(handler: Callable[[Call], Any], *names: str) -> dict[str, Handler]:
    return dict.fromkeys(names, handler)


OPERATIONS: dict[str, Handler] = {
    "Add": _binary("add"),
    "Subtract": _binary("sub"),
    "Multiply": _binary("mul"),
    "Divide": _binary("div"),
    "TrueDivide": _binary("div"),
    "Maximum": _binary("maximum"),
    "Minimum": _binary("minimum"),
    "Negative": _negative,
    "Square": _square,
    "Absolute": lambda c: values.elementwise(c.b, c.origin, "abs", c.x),
    "Clip": _clip,
    **{n: _activation(n.lower()) for n in ("Relu", "Relu6", "Sigmoid", "Tanh", "Silu", "Elu", "Softmax")},
    "LeakyRelu": _activation("leaky_relu"),
    "HardSigmoid": _activation("hard_sigmoid"),
    "HardSilu": _activation("hard_silu"),
    "LogSoftmax": _activation("log_softmax"),
    "Mean": _reduce("mean"),
    "Sum": _reduce("sum"),
    **dict.fromkeys(("Max", "Amax"), _reduce("max")),
    **dict.fromkeys(("Min", "Amin"), _reduce("min")),
    "Concatenate": _concatenate,
    **_all(_reshape, "Reshape", "Squeeze", "ExpandDims"),
    "Transpose": _transpose,
    "GetItem": _get_item,
    "Pad": _pad,
    "Split": _split,
}
