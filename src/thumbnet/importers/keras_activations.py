"""Keras's activations: layers, functions that other layers carry, and functions of several of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from thumbnet.importers import values
from thumbnet.importers.builder import Value
from thumbnet.importers.keras_backend import hard_sigmoid_of_keras_2, keras_module
from thumbnet.importers.keras_call import Call, Handler, numbers

_PLAIN = {
    **{n: n for n in ("relu", "relu6", "sigmoid", "tanh", "silu", "hard_sigmoid")},
    "hard_silu": "hard_swish",
}
_NEAREST = "Use relu, relu6, leaky_relu, silu, hard_silu, sigmoid, tanh or softmax instead."


def activated(c: Call, x: Value) -> Value:
    """The layer's own activation, if it has one."""
    return function(c, x, c.op.activation)


def function(c: Call, x: Value, found: Any) -> Value:
    """An activation as layers hold it: a function of Keras, or a layer."""
    keras = keras_module()
    name = getattr(found, "__name__", type(found).__name__)
    if isinstance(found, keras.layers.Layer):
        handler = ACTIVATIONS.get(name)
        if handler is None:
            raise c.origin.refuse(f"Its activation '{name}' is not supported. {_NEAREST}")
        made = handler(Call(c.b, c.part("activation"), found, (x,), {}, c.shapes))
        assert isinstance(made, Value)
        return made
    if found is hard_sigmoid_of_keras_2:
        return _old_hard_sigmoid(c, x)
    if getattr(keras.activations, name, None) is not found:
        raise c.origin.refuse(f"Its activation '{name}' is no function of Keras. {_NEAREST}")
    return named(c, x, name)


def named(c: Call, x: Value, name: str, *, axis: int = -1, alpha: float | None = None) -> Value:
    if name == "linear":
        return x
    if name in _PLAIN:
        return values.elementwise(c.b, c.part("activation"), _PLAIN[name], x)
    if name in ("softmax", "log_softmax"):
        return values.softmax(c.b, c.part("activation"), x, c.axis(axis, len(x.shape)), name)
    if name == "leaky_relu":
        return _leaky(c, x, 0.2 if alpha is None else alpha)
    if name == "elu" and alpha in (None, 1.0):
        return values.elementwise(c.b, c.part("activation"), "elu", x)
    raise c.origin.refuse(f"Its activation '{name}' is not supported. {_NEAREST}")


def _leaky(c: Call, x: Value, slope: float) -> Value:
    return values.elementwise(c.b, c.part("activation"), "leaky_relu", x, {"alpha": slope})


def _old_hard_sigmoid(c: Call, x: Value) -> Value:
    """0.2 · x + 0.5 between 0 and 1."""
    x = values.affine(c.b, c.part("slope"), x, None, np.array([0.2], np.float32), np.array([0.5], np.float32))
    return values.clip(c.b, c.part("activation"), x, 0.0, 1.0)


def _relu(c: Call) -> Value:
    slope, most = float(c.op.negative_slope or 0), c.op.max_value
    if c.op.threshold:
        raise c.origin.refuse("A threshold other than 0 is not supported.")
    if slope == 0:
        return values.clip(c.b, c.origin, c.x, 0.0, None if most is None else float(most))
    if most is not None:
        raise c.origin.refuse("It cannot have both a negative slope and a maximum.")
    return values.elementwise(c.b, c.origin, "leaky_relu", c.x, {"alpha": slope})


def _prelu(c: Call) -> Value:
    """One slope for each channel; `shared_axes` must be all others, unless all slopes along them are equal."""
    return values.prelu(c.b, c.origin, c.x, numbers(c.op.alpha))


def _elu(c: Call) -> Value:
    if float(c.op.alpha) != 1:
        raise c.origin.refuse("Only an alpha of 1 is supported.")
    return values.elementwise(c.b, c.origin, "elu", c.x)


def _softmax(c: Call) -> Value:
    axis = c.op.axis
    if isinstance(axis, list | tuple):
        if len(axis) != 1:
            raise c.origin.refuse("Softmax works over one axis.")
        axis = axis[0]
    return values.softmax(c.b, c.origin, c.x, c.axis(int(axis), len(c.x.shape)))


ACTIVATIONS: dict[str, Handler] = {
    "Activation": lambda c: activated(c, c.x),
    "ReLU": _relu,
    "LeakyReLU": lambda c: values.elementwise(c.b, c.origin, "leaky_relu", c.x, {"alpha": float(c.op.negative_slope)}),
    "PReLU": _prelu,
    "ELU": _elu,
    "Softmax": _softmax,
}
