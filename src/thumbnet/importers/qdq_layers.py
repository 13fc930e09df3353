"""Operators of a quantized ONNX file that compute without weights: sums, products, pools, means, softmax."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from thumbnet.graph.layout import Layout, LayoutError, order_of, size_of
from thumbnet.importers import quantized
from thumbnet.importers.qdq_functions import Narrowed, applied, function_of
from thumbnet.importers.qdq_operands import Operands
from thumbnet.importers.qdq_values import Array, Floats, Made, Pending, Quantization, Stored
from thumbnet.importers.qdq_weighted import UNIT, Weighted, Weights, scaled
from thumbnet.importers.qdq_windows import Window, window
from thumbnet.integer import build
from thumbnet.integer.graph import QTensor
from thumbnet.integer.tables import SOFTMAX_OUTPUT

_FLOAT: dict[str, Callable[[Floats, Floats], Floats]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Min": np.minimum,
    "Max": np.maximum,
    "Pow": lambda a, b: np.asarray(np.power(a, b), np.float32),
}
_INTEGER = {"Add": "add", "Sub": "sub", "Mul": "mul"}


# --- two operands


def _binary(o: Operands) -> None:
    if len(o.node.inputs) != 2:
        raise o.refuse("It must have two inputs.")
    constants = [k for k in (0, 1) if o.is_constant(k)]
    if constants:
        _with_constant(o, constants[0])
        return
    a, b = o.computed(0), o.computed(1)
    f, g = function_of(o, a), function_of(o, b)
    if f is not None and g is not None and f.source.tensor is g.source.tensor and _alike(f.layout, g.layout):
        with np.errstate(all="ignore"):
            o.done(f.then(o.name, _FLOAT[o.op](f.reals, g.reals)))
        return
    if o.op not in _INTEGER:
        raise o.refuse("Only one of its inputs may be computed, the other must be one constant number.")
    _of_two(o, o.stored(0), o.stored(1))


def _alike(a: Layout, b: Layout) -> bool:
    return a.shape == b.shape and a.key() == b.key()


def _of_two(o: Operands, a: Stored, b: Stored) -> None:
    rank = max(len(a.layout.axes), len(b.layout.axes))
    a, b = (
        replace(x, layout=Layout(((),) * (rank - len(x.layout.axes)) + x.layout.axes, x.layout.stored)) for x in (a, b)
    )
    if a.tensor.bytes < b.tensor.bytes:
        if o.op == "Sub":
            raise o.refuse("Only its second input may have one number per channel.")
        a, b = b, a
    x, y = a.tensor, b.tensor
    if _alike(a.layout, b.layout):
        y = o.builder.reshape(f"{o.name}/same", y, x.shape)
    else:
        channels = _broadcast(o, a.layout, b.layout)
        x = o.builder.reshape(f"{o.name}/image", x, _by_channel(x, channels))
        y = o.builder.reshape(f"{o.name}/channels", y, (1, 1, channels))

    def make(q: Quantization) -> QTensor:
        out = o.tensor(x.shape, q)
        return o.builder.add(replace(quantized.elementwise(_INTEGER[o.op], x, y, out, "none"), clamp=q.clamp))

    o.done(Made(a.layout, make))


def _broadcast(o: Operands, a: Layout, b: Layout) -> int:
    """The number of channels where `b` has one number for each of a's. Raises where it has not."""
    axes = [k for k, axis in enumerate(b.axes) if axis]
    if a.shape == b.shape:
        raise LayoutError("The values of its inputs lie in different orders.")
    if len(axes) != 1 or a.shape[axes[0]] != b.shape[axes[0]]:
        raise o.refuse("Its inputs must have the same shape, or one of them a single number per channel.")
    order = order_of(a.axes[axes[0]], a.trailing(axes[0]))
    if not np.array_equal(order, order_of(b.axes[axes[0]], b.stored)):
        raise LayoutError("The channels of its inputs lie in different orders.")
    return len(order)


def _by_channel(x: QTensor, channels: int) -> tuple[int, ...]:
    return x.shape if len(x.shape) == 3 and x.shape[2] == channels else (1, x.bytes // channels, channels)


def _with_constant(o: Operands, which: int) -> None:
    x, values = o.computed(1 - which), o.reals(which)
    numbers = _per_channel(o, x.layout, values)
    made: Pending | None = None
    if len(numbers) == 1:
        f = _FLOAT[o.op]
        made = applied(o, x, lambda v: f(numbers, v) if which == 0 else f(v, numbers))
    if made is None and len(numbers) == 1 and o.op in ("Min", "Max") and isinstance(x, Pending):
        bound = float(numbers[0])
        made = Narrowed(x, *((bound, np.inf) if o.op == "Max" else (-np.inf, bound)))
    if made is None:
        made = scaled(o, x, *_affine(o, numbers, which))
    if made is None:
        raise o.floating(1 - which)
    o.done(made)


def _per_channel(o: Operands, x: Layout, values: Array) -> Floats:
    """[1], or the numbers for the channels as they lie in memory."""
    flat = values.reshape(-1)
    if flat.size and bool(np.all(flat == flat[0])):
        fits = values.ndim <= len(x.shape) and all(
            v in (1, s) for v, s in zip(values.shape[::-1], x.shape[::-1], strict=False)
        )
        if fits:
            return flat[:1]
    shape = (1,) * (len(x.shape) - values.ndim) + values.shape
    axes = [k for k, d in enumerate(shape) if d > 1]
    if len(shape) != len(x.shape) or len(axes) != 1 or shape[axes[0]] != x.shape[axes[0]]:
        raise o.refuse("A constant operand must be one number, or one per channel.")
    ordered: Floats = flat[order_of(x.axes[axes[0]], x.trailing(axes[0]))]
    return ordered


def _affine(o: Operands, numbers: Floats, which: int) -> tuple[Array, Array]:
    """(gain, offset) of the operation with `numbers` as its operand `which`."""
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    if o.op == "Add":
        return one, numbers
    if o.op == "Sub":
        return (-one, numbers) if which == 0 else (one, -numbers)
    if o.op == "Mul":
        return numbers, zero
    if o.op == "Div" and which == 1 and np.all(numbers != 0):
        return (1 / numbers.astype(np.float64)), zero
    raise o.refuse("Only constants to add, subtract, multiply with or divide by may differ by channel.")


# --- pools


def _image(o: Operands, x: QTensor, layout: Layout) -> QTensor:
    height, width = layout.space()
    return o.builder.reshape(f"{o.name}/input", x, (height, width, layout.shape[1]))


def _window(o: Operands, layout: Layout) -> Window:
    size, flat = layout.space(), len(layout.shape) == 3
    kernel = o.sizes("kernel_shape", [0] * (1 if flat else 2))
    return window(o, size, [1, *kernel] if flat else kernel, flat=flat, pool=True)


def _max_pool(o: Operands) -> None:
    x = o.computed()
    w = _window(o, x.layout)
    if w.dilation != [1, 1] or len([v for v in o.node.outputs if v]) > 1:
        raise o.refuse("Dilations and indices of the largest values are not supported.")
    _maximum(o, x, w.kernel, w.stride, w.reached, w.size)


def _global_max_pool(o: Operands) -> None:
    x = o.computed()
    _maximum(o, x, list(x.layout.space()), [1, 1], [0, 0, 0, 0], (1, 1))


def _maximum(
    o: Operands, x: Stored | Pending, kernel: list[int], stride: list[int], padding: list[int], size: tuple[int, int]
) -> None:
    def move(t: QTensor) -> QTensor:
        t = _image(o, t, x.layout)
        out = o.builder.like(o.name, t, (*size, t.shape[2]))
        return o.builder.add(build.pool(out.name, "max_pool2d", t, kernel, stride, padding))

    o.done(o.moved(x, x.layout.with_space(*size), move))


def _average_pool(o: Operands) -> None:
    """Where padding does not count and the quantization stays, an average pool; else a depthwise convolution."""
    x = o.stored()
    w = _window(o, x.layout)
    if w.dilation != [1, 1]:
        raise o.refuse("Dilations are not supported.")
    counted, padding = o.flag("count_include_pad"), w.reached
    if counted and any(w.beyond):
        raise o.refuse("With ceil_mode, padding must not count.")
    t, layout = _image(o, x.tensor, x.layout), x.layout.with_space(*w.size)
    shape = (*w.size, t.shape[2])

    def make(q: Quantization) -> QTensor:
        if (counted or not any(padding)) and (any(padding) or (t.scale, t.zero_point) != (q.scale, q.zero_point)):
            attrs = {"stride": w.stride, "padding": padding, "dilation": [1, 1]}
            units = np.full((*w.kernel, t.shape[2]), UNIT, np.int8)
            scales = np.array([1 / (UNIT * w.kernel[0] * w.kernel[1])], np.float32)
            weights = Weights("depthwise_conv2d", units, scales, np.zeros(t.shape[2]), attrs)
            return Weighted(o.name, o.builder, t, weights, shape, layout).stored(q).tensor
        out = o.builder.like(o.name, t, shape)
        pooled = o.builder.add(build.pool(out.name, "avg_pool2d", t, w.kernel, w.stride, padding))
        return o.requantized(pooled, q)

    o.done(Made(layout, make))


def _global_average_pool(o: Operands) -> None:
    x = o.stored()
    _mean(o, x, range(2, len(x.layout.axes)), keep=True)


def _reduce_mean(o: Operands) -> None:
    x = o.stored()
    rank = len(x.layout.axes)
    axes = {o.axis(a, rank) for a in o.listed(1, "axes", [])}
    if not axes and not o.flag("noop_with_empty_axes"):
        axes = set(range(rank))
    _mean(o, x, sorted(axes), keep=o.flag("keepdims", True))


def _mean(o: Operands, x: Stored, axes: range | list[int], *, keep: bool) -> None:
    """Over axes that come first in memory, such as height and width."""
    kept = [k for k in range(len(x.layout.axes)) if k not in axes]
    try:
        channels = x.layout.trailing(*kept)
    except LayoutError:
        raise o.refuse("Use the mean over height and width instead.") from None
    count = size_of(channels)
    shape = x.tensor.shape if x.tensor.shape[-1] == count else (x.tensor.bytes // count, 1, count)
    t = o.builder.reshape(f"{o.name}/input", x.tensor, shape if len(shape) == 3 else (1, 1, count))
    left = tuple(axis if k in kept else () for k, axis in enumerate(x.layout.axes) if keep or k in kept)

    def make(q: Quantization) -> QTensor:
        out = o.tensor((1, 1, count), q)
        return o.builder.add(replace(build.global_avg_pool(out.name, t, out), clamp=q.clamp))

    o.done(Made(Layout(left, channels), make))


# --- softmax


def _softmax(o: Operands) -> None:
    x = o.stored()
    rank = len(x.layout.axes)
    axis = o.axis(o.integer("axis", 1 if o.opset < 13 else -1), rank)
    over = range(axis, rank) if o.opset < 13 else (axis,)  # before opset 13: over all axes from there on
    count = size_of(x.layout.trailing(*over))
    shape = (count,) if x.tensor.bytes == count else _by_channel(x.tensor, count)
    t = o.builder.reshape(f"{o.name}/input", x.tensor, shape)

    def make(q: Quantization) -> QTensor:
        out = o.tensor(t.shape, Quantization(*SOFTMAX_OUTPUT))
        made = o.builder.add(quantized.softmax(out.name, t, 1.0))
        return o.requantized(made, q)

    o.done(Made(x.layout, make, Quantization(*SOFTMAX_OUTPUT)))


LAYERS: dict[str, Callable[[Operands], None]] = {
    **dict.fromkeys(_FLOAT, _binary),
    "MaxPool": _max_pool,
    "GlobalMaxPool": _global_max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average_pool,
    "ReduceMean": _reduce_mean,
    "Softmax": _softmax,
}
