"""Operations without weights, as importers ask for them: functions, arithmetic, and all that moves numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from thumbnet.graph.graph import Shape
from thumbnet.graph.layout import Layout
from thumbnet.importers.builder import Builder, Floats, Origin, Value


def elementwise(b: Builder, o: Origin, op: str, x: Value, attrs: Mapping[str, Any] | None = None) -> Value:
    """A function of each number by itself, such as "relu" or "hard_swish"."""
    return Value(b.add(o, op, [x.ref], attrs), x.layout)


def clip(b: Builder, o: Origin, x: Value, low: float | None, high: float | None) -> Value:
    """Numbers below `low` or above `high` (None: no bound) become these. The range must hold 0."""
    low = None if low is None or low <= -3e38 else float(low)
    high = None if high is None or high >= 3e38 else float(high)
    if low is None and high is None:
        return x
    before = b.nodes.get(x.ref)
    rectified = low is None and before is not None and before.op == "relu"
    if (low == 0 or rectified) and high in (None, 6.0):
        return elementwise(b, o, "relu" if high is None else "relu6", x)
    if rectified:
        low = 0.0
    if low is None or high is None or not low <= 0 <= high or low == high:
        raise o.refuse(
            f"A clip to [{low}, {high}] needs two bounds with 0 between them; ReLU and ReLU6 are the cheapest."
        )
    return elementwise(b, o, "clip", x, {"low": low, "high": high})


def prelu(b: Builder, o: Origin, x: Value, slope: Floats) -> Value:
    """Below 0 times `slope`: one number, or one for each channel, broadcast against the source's shape."""
    axis, numbers = varying(o, slope, x.shape)
    ref, x, (slopes,) = b.by_channel(o, x, axis, numbers)
    return Value(b.add(o, "prelu", [ref], {}, {"slope": slopes}), x.layout)


def softmax(b: Builder, o: Origin, x: Value, axis: int, op: str = "softmax") -> Value:
    """`op` may be "log_softmax". Over channels, or over the last axis of rows of numbers."""
    if len(x.shape) == 1:
        return Value(b.add(o, op, [b.vector(o, x)]), x.layout)
    if all(s == 1 for k, s in enumerate(x.shape) if k != axis):
        flat = Value(b.vector(o, x), Layout((x.layout.axes[axis],), x.layout.stored))
        return Value(b.add(o, op, [flat.ref]), x.layout)
    if len(x.shape) == 3:
        ref, x, _ = b.by_channel(o, x, axis)
        return Value(b.add(o, op, [ref]), x.layout)
    if len(x.shape) == 2:
        rows, last = x.layout.axes[1 - axis], x.layout.axes[axis]
        ref = b.arranged(o, x, (rows, last))
        return Value(b.add(o, op, [ref], {"axis": 1}), Layout(x.layout.axes, (*rows, *last)))
    raise o.refuse(f"Softmax works over the channels (dim=1) only, not over axis {axis} of {x.shape}.")


# --- arithmetic


def binary(b: Builder, o: Origin, op: str, x: Value, y: Value) -> Value:
    """`op` is "add", "sub", "mul", "maximum" or "minimum", of two computed values. One must have the result's shape."""
    rank = len(x.shape)
    if len(y.shape) != rank:
        x, y = (b.reshape(o, v, (1,) * (max(rank, len(y.shape)) - len(v.shape)) + v.shape) for v in (x, y))
        rank = len(x.shape)
    try:
        full = np.broadcast_shapes(x.shape, y.shape)
    except ValueError:
        full = ()
    if full not in (x.shape, y.shape):
        raise o.refuse(f"It combines shapes {x.shape} and {y.shape}; one must fit into the other, axis by axis.")
    if x.shape == y.shape and x.layout.key() == y.layout.key():
        second = b.moved(o, "reshape", y.ref, b.shapes[x.ref])
        return Value(b.add(o, op, [x.ref, second]), x.layout)
    if rank in (2, 3):
        last = b.convention(x if x.shape == full else y)
        return b.from_image(b.add(o, op, [b.image(o, x, last), b.image(o, y, last)]), rank, last)
    made = b.add(o, op, [b.plain(o, x), b.plain(o, y)])
    return Value(made, Layout.row_major(full))


def with_constant(b: Builder, o: Origin, op: str, x: Value, constant: Any, *, constant_first: bool = False) -> Value:
    """add, sub, mul, div, maximum or minimum of a value and a constant, which varies along one axis at most.

    It becomes a batch norm, which folds into the convolution before or behind it.
    """
    c = np.asarray(constant, np.float32)
    axis, numbers = varying(o, c, x.shape)
    if op in ("maximum", "minimum"):
        if axis is not None:
            raise o.refuse("Only one number for all channels can bound a value.")
        bound = float(numbers.reshape(-1)[0])
        return clip(b, o, x, bound, None) if op == "maximum" else clip(b, o, x, None, bound)
    if op == "div" and constant_first:
        raise o.refuse("Division by a computed value is not supported; multiply instead.")
    one, zero = np.ones_like(numbers), np.zeros_like(numbers)
    scale, offset = {
        "add": (one, numbers),
        "sub": (-one, numbers) if constant_first else (one, -numbers),
        "mul": (numbers, zero),
        "div": (one / numbers if op == "div" else one, zero),
    }[op]
    return affine(b, o, x, axis, scale, offset)


def affine(b: Builder, o: Origin, x: Value, axis: int | None, scale: Floats, offset: Floats) -> Value:
    """scale · x + offset, with one number for each position along `axis`, or one for all."""
    if np.all(scale == 1) and np.all(offset == 0):
        return x
    ref, x, (gain, bias) = b.by_channel(o, x, axis, scale, offset)
    weights = {"weight": gain, "bias": bias, "mean": np.zeros_like(gain), "var": np.ones_like(gain)}
    return Value(b.add(o, "batch_norm", [ref], {"eps": 0.0}, weights), x.layout)


def varying(o: Origin, c: Floats, shape: Shape) -> tuple[int | None, Floats]:
    """The only axis of `shape` along which a constant varies (None: it does not), and its numbers. The constant may
    have a batch axis of 1 in front."""
    if c.size and np.all(c == c.reshape(-1)[0]):
        return None, c.reshape(-1)[:1]
    if c.ndim == len(shape) + 1 and c.shape[0] == 1:
        c = c[0]
    full = c.reshape((1,) * (len(shape) - c.ndim) + c.shape) if c.ndim <= len(shape) else c
    axes = [k for k, s in enumerate(full.shape) if s > 1]
    if full.ndim != len(shape) or len(axes) != 1 or full.shape[axes[0]] != shape[axes[0]]:
        raise o.refuse(f"A constant of shape {tuple(c.shape)} against {shape} is not one number per channel.")
    return axes[0], full.reshape(-1)


# --- moving


def concat(b: Builder, o: Origin, values: Sequence[Value], axis: int) -> Value:
    if len(values) == 1:
        return values[0]
    rank = len(values[0].shape)
    images = [v for v in values if b.is_image(v)]
    if images:
        last = b.convention(images[0])
        own = _own_axis(last, rank, axis)
        return b.from_image(b.add(o, "concat", [b.image(o, v, last) for v in values], {"axis": own}), rank, last)
    made = b.add(o, "concat", [b.plain(o, v) for v in values], {"axis": axis})
    return Value(made, Layout.row_major(b.shapes[made]))


def cut(b: Builder, o: Origin, x: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
    """Positions start:stop:step along a source axis; `step` ≥ 1, larger ones over height and width only."""
    rank, size = len(x.shape), x.shape[axis]
    stop = min(stop, size)
    if (start, stop, step) == (0, size, 1):
        return x
    if not 0 <= start < stop:
        raise o.refuse(f"It takes nothing: {start} to {stop} of {size}.")
    if rank in (2, 3) and (step > 1 or b.is_image(x)):
        last = b.convention(x)
        own, ref = _own_axis(last, rank, axis), b.image(o, x, last)
        if (start, stop) != (0, size):
            ref = b.add(o, "slice", [ref], {"axis": own, "start": start, "stop": stop})
        if step > 1:
            if own == 0:
                raise o.refuse("Steps work over height and width only, not over channels.")
            stride = [step if own == k else 1 for k in (1, 2)]
            ref = b.add(o, "max_pool2d", [ref], {"kernel": [1, 1], "stride": stride, "padding": [0, 0, 0, 0]})
        return b.from_image(ref, rank, last)
    if step > 1:
        raise o.refuse(f"A step of {step} works over height and width of images only.")
    made = b.add(o, "slice", [b.plain(o, x)], {"axis": axis, "start": start, "stop": stop})
    return Value(made, Layout.row_major(b.shapes[made]))


def select(b: Builder, o: Origin, x: Value, axis: int, index: int) -> Value:
    """One position along an axis, which goes."""
    index = index + x.shape[axis] if index < 0 else index
    taken = cut(b, o, x, axis, index, index + 1)
    return Value(taken.ref, Layout(tuple(a for k, a in enumerate(taken.layout.axes) if k != axis), taken.layout.stored))


def split(b: Builder, o: Origin, x: Value, axis: int, sizes: Sequence[int]) -> list[Value]:
    starts = [sum(sizes[:k]) for k in range(len(sizes))]
    return [cut(b, o, x, axis, start, start + size) for start, size in zip(starts, sizes, strict=True)]


def pad(
    b: Builder, o: Origin, x: Value, pads: Sequence[tuple[int, int]], value: float = 0.0, mode: str = "constant"
) -> Value:
    """(before, after) for each source axis. `mode` is "constant" or "reflect"; channels are padded with zeros only."""
    if not any(chain(*pads)):
        return x
    rank = len(x.shape)
    if rank not in (2, 3):
        raise o.refuse("Only images and signals can be padded.")
    if min(chain(*pads)) < 0:
        raise o.refuse("Negative padding cuts off; take a slice instead.")
    if mode not in ("constant", "reflect") or (mode == "constant" and value != 0):
        raise o.refuse("Only padding with zeros or reflections is supported.")
    last = b.convention(x)
    by_axis = {_own_axis(last, rank, k): p for k, p in enumerate(pads)}
    ref = b.image(o, x, last)
    front, back = by_axis[0]
    if front or back:
        if mode != "constant":
            raise o.refuse("Channels can be padded with zeros only.")
        ref = _pad_channels(b, o, ref, front, back)
    (top, bottom), (left, right) = by_axis.get(1, (0, 0)), by_axis[2]
    if top or bottom or left or right:
        attrs: dict[str, Any] = {"padding": [top, left, bottom, right]}
        ref = b.add(o, "pad", [ref], attrs if mode == "constant" else {**attrs, "mode": mode})
    return b.from_image(ref, rank, last)


def _pad_channels(b: Builder, o: Origin, ref: str, front: int, back: int) -> str:
    """Zero channels around the others, as a 1×1 convolution: the shortcut "option A" of CIFAR ResNets."""
    channels = b.shapes[ref][0]
    weight = np.zeros((front + channels + back, channels, 1, 1), np.float32)
    weight[np.arange(channels) + front, np.arange(channels)] = 1.0
    attrs = {"stride": [1, 1], "padding": [0] * 4, "dilation": [1, 1], "groups": 1, "activation": "none"}
    return b.add(o, "conv2d", [ref], attrs, {"weight": weight})


def resize(
    b: Builder,
    o: Origin,
    x: Value,
    size: tuple[int, int],
    mode: str,
    *,
    align_corners: bool = False,
    half_pixel_centers: bool = False,
) -> Value:
    """`mode` is "nearest" or "bilinear"; the two options are TFLite's."""
    if (align_corners or half_pixel_centers) and size == b.shapes[b.image(o, x)][1:]:
        return x
    attrs = {
        "size": list(size),
        "mode": mode,
        "align_corners": align_corners,
        "half_pixel_centers": half_pixel_centers,
    }
    return b.from_image(b.add(o, "resize", [b.image(o, x)], attrs), len(x.shape))


def _own_axis(channels_last: bool, rank: int, axis: int) -> int:
    """The axis of the graph's image (C, H, W) for an axis of the source's image or signal."""
    own = {3: (1, 2, 0), 2: (2, 0)} if channels_last else {3: (0, 1, 2), 2: (0, 2)}
    return own[rank][axis]
