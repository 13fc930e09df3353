"""Nodes of an ONNX graph whose inputs are all constants, computed at once: exporters leave many around shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from thumbnet.importers.onnx_tensors import DTYPES, Array

MAX_COMPUTED = 1 << 16  # elements that an operation may make of fewer
_DAMAGED = (ValueError, IndexError, TypeError, KeyError, OverflowError, ZeroDivisionError)

Attributes = Mapping[str, Any]
Folder = Callable[[Sequence[Array], Attributes], Array]


class NotFoldedError(Exception):
    """The operation is none of those that are computed here."""


def folded(op: str, inputs: Sequence[Array], attributes: Attributes) -> Array:
    """The output of a node with constant inputs (those left out are empty arrays).

    Raises `NotFoldedError` for an operation that is not computed here, `ValueError` where its inputs do not fit it.
    """
    if op not in _FOLDERS:
        raise NotFoldedError(op)
    try:
        with np.errstate(all="ignore"):
            return np.asarray(_FOLDERS[op](inputs, attributes))
    except _DAMAGED as e:
        raise ValueError(f"cannot be computed ({type(e).__name__})") from e


def _constant(inputs: Sequence[Array], attributes: Attributes) -> Array:
    if isinstance(value := attributes.get("value"), np.ndarray):
        return value
    for name, dtype in (("float", np.float32), ("int", np.int64)):
        for key in (f"value_{name}", f"value_{name}s"):
            if key in attributes:
                return np.asarray(attributes[key], dtype)
    raise ValueError("a Constant without a value")


def _filled(inputs: Sequence[Array], attributes: Attributes) -> Array:
    shape = [int(d) for d in inputs[0]]
    value = attributes.get("value", np.zeros(1, np.float32))
    _bounded(shape)
    return np.full(shape, value.reshape(-1)[0])


def _bounded(shape: Sequence[int]) -> None:
    if any(d < 0 for d in shape) or math.prod(shape) > MAX_COMPUTED:
        raise ValueError(f"too many elements: {list(shape)}")


def _arithmetic(f: Callable[[Array, Array], Array]) -> Folder:
    def fold(inputs: Sequence[Array], attributes: Attributes) -> Array:
        a, b = inputs
        shape = np.broadcast_shapes(a.shape, b.shape)
        if math.prod(shape) > max(a.size, b.size):
            _bounded(shape)
        return f(a, b).astype(a.dtype)

    return fold


def _function(f: Callable[[Array], Array]) -> Folder:
    return lambda inputs, attributes: np.asarray(f(inputs[0])).astype(inputs[0].dtype)


def _compared(f: Callable[[Array, Array], Array]) -> Folder:
    def fold(inputs: Sequence[Array], attributes: Attributes) -> Array:
        a, b = inputs
        _bounded(np.broadcast_shapes(a.shape, b.shape))
        return np.asarray(f(a, b))

    return fold


def _chosen(inputs: Sequence[Array], attributes: Attributes) -> Array:
    _bounded(np.broadcast_shapes(*(x.shape for x in inputs)))
    return np.where(*inputs)


def _product(inputs: Sequence[Array], attributes: Attributes) -> Array:
    x = inputs[0]
    made = np.prod(x, axis=_axes(inputs, attributes), keepdims=bool(attributes.get("keepdims", 1)))
    return np.asarray(made, x.dtype)


def _expanded(inputs: Sequence[Array], attributes: Attributes) -> Array:
    x, shape = inputs
    full = np.broadcast_shapes(x.shape, tuple(int(d) for d in shape))
    _bounded(full)
    return np.broadcast_to(x, full)


def _range(inputs: Sequence[Array], attributes: Attributes) -> Array:
    start, stop, step = (x.reshape(-1)[0] for x in inputs)
    _bounded([max(0, math.ceil((float(stop) - float(start)) / float(step)))])
    return np.arange(start, stop, step, dtype=inputs[0].dtype)


def _divided(a: Array, b: Array) -> Array:
    return a / b if np.issubdtype(a.dtype, np.floating) else np.trunc(a / b)


def _axes(inputs: Sequence[Array], attributes: Attributes) -> tuple[int, ...] | None:
    if len(inputs) > 1 and inputs[1].size:
        return tuple(int(a) for a in inputs[1].reshape(-1))
    return tuple(attributes["axes"]) if "axes" in attributes else None


def _unsqueezed(inputs: Sequence[Array], attributes: Attributes) -> Array:
    axes = _axes(inputs, attributes)
    return np.expand_dims(inputs[0], axes) if axes is not None else inputs[0]


def _sliced(inputs: Sequence[Array], attributes: Attributes) -> Array:
    x, starts, ends, axes, steps = (*inputs, *[np.zeros(0, np.int64)] * (5 - len(inputs)))[:5]
    cuts = [slice(None)] * x.ndim
    for k, (start, end) in enumerate(zip(starts, ends, strict=True)):
        step = int(steps[k]) if steps.size else 1
        stop = None if step < 0 and end < -x.shape[int(axes[k]) if axes.size else k] else int(end)
        cuts[int(axes[k]) if axes.size else k] = slice(int(start), stop, step)
    return x[tuple(cuts)]


def _gathered(inputs: Sequence[Array], attributes: Attributes) -> Array:
    x, indices = inputs
    axis = int(attributes.get("axis", 0))
    _bounded((*indices.shape, x.size // x.shape[axis]))
    return np.take(x, indices, axis=axis)


def _reshaped(inputs: Sequence[Array], attributes: Attributes) -> Array:
    x, shape = inputs
    return x.reshape([x.shape[k] if d == 0 else int(d) for k, d in enumerate(shape)])


def _transposed(inputs: Sequence[Array], attributes: Attributes) -> Array:
    return inputs[0].transpose(attributes.get("perm"))


def _cast(inputs: Sequence[Array], attributes: Attributes) -> Array:
    return inputs[0].astype(DTYPES[attributes["to"]])


_FOLDERS: dict[str, Folder] = {
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "Add": _arithmetic(np.add),
    "Sub": _arithmetic(np.subtract),
    "Mul": _arithmetic(np.multiply),
    "Div": _arithmetic(_divided),
    "Max": _arithmetic(np.maximum),
    "Min": _arithmetic(np.minimum),
    "Pow": _arithmetic(np.power),
    "Mod": _arithmetic(np.mod),
    "Neg": _function(np.negative),
    "Abs": _function(np.abs),
    "Sqrt": _function(np.sqrt),
    "Exp": _function(np.exp),
    "Reciprocal": _function(lambda x: 1 / x),
    "Floor": _function(np.floor),
    "Ceil": _function(np.ceil),
    "Not": _function(np.logical_not),
    "Equal": _compared(np.equal),
    "And": _compared(np.logical_and),
    "Or": _compared(np.logical_or),
    "Less": _compared(np.less),
    "Greater": _compared(np.greater),
    "Where": _chosen,
    "ReduceProd": _product,
    "Expand": _expanded,
    "Range": _range,
    "Concat": lambda x, a: np.concatenate(x, axis=a["axis"]),
    "Gather": _gathered,
    "Slice": _sliced,
    "Cast": _cast,
    "Reshape": _reshaped,
    "Transpose": _transposed,
    "Unsqueeze": _unsqueezed,
    "Squeeze": lambda x, a: np.squeeze(x[0], _axes(x, a)),
    "Identity": lambda x, a: x[0],
}
