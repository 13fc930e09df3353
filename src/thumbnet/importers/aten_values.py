"""aten operations without weights: elementwise functions, arithmetic, and all that moves numbers about."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import fx

from thumbnet.graph.layout import Layout
from thumbnet.importers import values
from thumbnet.importers.aten import AtenBuilder, Computed, Handler, along, origin, refuse
from thumbnet.importers.builder import Floats, Value


def _elementwise(op: str) -> Handler:
    return lambda b, node, args: values.elementwise(b, origin(node), op, b.value(node, args[0]))


def _alias(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    return b.value(node, args[0])


def _clamp(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    """clamp(x, low, high) and hardtanh"""
    if not all(isinstance(v, int | float | None) for v in args[1:3]):
        raise refuse(node, "Its bounds must be numbers.")
    return values.clip(b, origin(node), b.value(node, args[0]), args[1], args[2])


def _clamp_min(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    return _clamp(b, node, [args[0], args[1], None])


def _leaky_relu(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    return values.elementwise(b, origin(node), "leaky_relu", b.value(node, args[0]), {"alpha": float(args[1])})


def _prelu(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    x, slope = b.value(node, args[0]), b.constant(node, args[1])
    return values.prelu(b, origin(node), x, slope.reshape(-1, *[1] * (len(x.shape) - 1)))


def _elu(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    """elu(x, alpha, scale, input_scale)"""
    if any(v not in (None, 1) for v in args[1:4]):
        raise refuse(node, "Only ELU with alpha=1 is supported.")
    return values.elementwise(b, origin(node), "elu", b.value(node, args[0]))


def _softmax(op: str) -> Handler:
    def handle(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
        x = b.value(node, args[0])
        return values.softmax(b, origin(node), x, b.axis(node, args[1], len(x.shape)), op)

    return handle


def _binary(op: str) -> Handler:
    """Two values become a node; a value and a constant per channel become a batch norm, which folds away."""

    def handle(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
        left, right = args[0], args[1]
        if op in ("add", "sub") and node.kwargs.get("alpha", 1) != 1:
            raise refuse(node, "Its factor alpha must be 1; multiply before adding.")
        if isinstance(right, Value) and op == "div":
            raise refuse(node, "Division by a computed value is not supported; multiply instead.")
        if isinstance(left, Value) and isinstance(right, Value):
            return values.binary(b, origin(node), op, left, right)
        if isinstance(left, Value):
            return values.with_constant(b, origin(node), op, left, _array(right))
        return values.with_constant(b, origin(node), op, b.value(node, right), _array(left), constant_first=True)

    return handle


def _rsub(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    """rsub(x, c) = c − x"""
    return values.with_constant(b, origin(node), "sub", b.value(node, args[0]), _array(args[1]), constant_first=True)


def _neg(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    return values.with_constant(b, origin(node), "mul", b.value(node, args[0]), _array(-1.0))


def _square(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    """square(x) and pow(x, 2)"""
    x = b.value(node, args[0])
    if args[1] not in (None, 2):
        raise refuse(node, "Only squares are supported; multiply the value with itself instead.")
    return values.binary(b, origin(node), "mul", x, x)


def _array(constant: Any) -> Floats:
    if isinstance(constant, torch.Tensor):
        return constant.detach().cpu().numpy().astype(np.float32)
    return np.asarray(constant, np.float32)


# --- axes


def _reshape(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    x, shape = b.value(node, args[0]), b.output_shape(node)
    if shape == x.shape:
        return x
    if b.shapes[x.ref] != x.shape or x.layout.stored != tuple(chain(*x.layout.axes)):
        return b.reshape(origin(node), x, shape)
    # in the graph as in the module, under the module's name
    op, attrs = ("flatten", {}) if len(shape) == 1 else ("reshape", {"shape": list(shape)})
    return Value(b.add(origin(node), op, [x.ref], attrs), Layout.row_major(shape))


def _permute(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    x = b.value(node, args[0])
    rank = len(x.shape) + 1
    order = args[1] if isinstance(args[1], list | tuple) else _swapped(rank, args[1], args[2])
    order = [d % rank for d in order]
    if order[0] != 0:
        raise refuse(node, "It moves the batch axis; keep it the first one.")
    return b.permute(x, [d - 1 for d in order[1:]])


def _swapped(rank: int, first: int, second: int) -> list[int]:
    order = list(range(rank))
    order[first], order[second] = order[second], order[first]
    return order


def _expand(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    x = b.value(node, args[0])
    if b.output_shape(node) != x.shape:
        raise refuse(node, "Values cannot be repeated; operations on two values repeat axes of size 1 by themselves.")
    return x


def _pixel_shuffle(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    """pixel_shuffle(x, factor): channels c·r·r become an image r times as high and wide"""
    x, r = b.value(node, args[0]), int(args[1])
    c, h, w = x.shape
    parts = b.permute(b.reshape(origin(node), x, (c // r**2, r, r, h, w)), (0, 3, 1, 4, 2))
    return b.reshape(origin(node), parts, (c // r**2, h * r, w * r))


def _pixel_unshuffle(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    x, r = b.value(node, args[0]), int(args[1])
    c, h, w = x.shape
    parts = b.permute(b.reshape(origin(node), x, (c, h // r, r, w // r, r)), (0, 2, 4, 1, 3))
    return b.reshape(origin(node), parts, (c * r**2, h // r, w // r))


def _channel_shuffle(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    x, groups = b.value(node, args[0]), int(args[1])
    c, *space = x.shape
    parts = b.permute(b.reshape(origin(node), x, (groups, c // groups, *space)), (1, 0, *range(2, len(space) + 2)))
    return b.reshape(origin(node), parts, x.shape)


# --- joining and cutting


def _cat(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    parts = [b.value(node, v) for v in args[0]]
    return values.concat(b, origin(node), parts, b.axis(node, args[1] or 0, len(parts[0].shape)))


def _stack(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    parts = [b.value(node, v) for v in args[0]]
    axis = b.axis(node, args[1] or 0, len(parts[0].shape) + 1)
    single = [b.reshape(origin(node), v, (*v.shape[:axis], 1, *v.shape[axis:])) for v in parts]
    return values.concat(b, origin(node), single, axis)


def _slice(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    """slice(x, dim, start, end, step)"""
    x, dim = b.value(node, args[0]), int(args[1] or 0)
    rank, step = len(x.shape), int(args[4] or 1)
    if dim % (rank + 1) == 0 and (args[2] or 0) == 0 and step == 1 and (args[3] is None or args[3] >= b.batch):
        return x
    axis = b.axis(node, dim, rank)
    start, stop, _ = slice(args[2], args[3]).indices(x.shape[axis])
    return values.cut(b, origin(node), x, axis, start, stop, step)


def _select(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    """select(x, dim, index)"""
    x = b.value(node, args[0])
    return values.select(b, origin(node), x, b.axis(node, int(args[1]), len(x.shape)), int(args[2]))


def _unbind(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    x = b.value(node, args[0])
    axis = b.axis(node, int(args[1] or 0), len(x.shape))
    return [values.select(b, origin(node), x, axis, k) for k in range(x.shape[axis])]


def _chunk(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    x = b.value(node, args[0])
    axis = b.axis(node, int(args[2] or 0), len(x.shape))
    return _pieces(b, node, x, axis, -(-x.shape[axis] // int(args[1])))


def _split(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    x = b.value(node, args[0])
    return _pieces(b, node, x, b.axis(node, int(args[2] or 0), len(x.shape)), args[1])


def _pieces(b: AtenBuilder, node: fx.Node, x: Value, axis: int, size: int | list[int]) -> Computed:
    """Parts of `size` each (the last may be smaller), or of the listed sizes."""
    total = x.shape[axis]
    sizes = [min(size, total - k) for k in range(0, total, size)] if isinstance(size, int) else size
    return [*values.split(b, origin(node), x, axis, sizes)]


def _pad(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    """pad(x, pads, mode, value), pads from the last axis forwards"""
    mode, value = (args[2], args[3]) if isinstance(args[2], str) else ("constant", args[2])
    return _padded(b, node, args, mode, float(value or 0))


def _reflection_pad(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    return _padded(b, node, args, "reflect", 0.0)


def _padded(b: AtenBuilder, node: fx.Node, args: list[Any], mode: str, value: float) -> Computed:
    x, pads = b.value(node, args[0]), [int(p) for p in args[1]]
    given = [(pads[k], pads[k + 1]) for k in range(0, len(pads), 2)][::-1]
    if any(p != (0, 0) for p in given[: -len(x.shape)]):
        raise refuse(node, "The batch axis cannot be padded.")
    given = given[-len(x.shape) :]
    return values.pad(b, origin(node), x, [(0, 0)] * (len(x.shape) - len(given)) + given, value, mode)


def _upsample(mode: str, half_pixel_centers: bool = False) -> Handler:
    """upsample_nearest2d(x, size, …) and upsample_bilinear2d(x, size, align_corners, …), and those of signals"""

    def handle(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
        x, shape = b.value(node, args[0]), b.output_shape(node)
        size = along(list(shape[1:]), len(x.shape))
        align = mode == "bilinear" and bool(args[2])
        half = not align if mode == "bilinear" else half_pixel_centers
        options = {"align_corners": align, "half_pixel_centers": half}
        return values.resize(b, origin(node), x, (size[0], size[1]), mode, **options)

    return handle


_ALIASES = (
    *("dropout", "feature_dropout", "alias", "clone", "contiguous", "detach", "to", "_to_copy", "lift_fresh"),
    *("alpha_dropout", "identity"),
)
_RESHAPES = ("view", "reshape", "_unsafe_view", "flatten", "squeeze", "unsqueeze", "unflatten", "view_copy")

VALUES: dict[str, Handler] = {
    **{
        op: _elementwise(op if op not in ("hardswish", "hardsigmoid") else f"hard_{op[4:]}")
        for op in ("relu", "relu6", "hardswish", "hardsigmoid", "sigmoid", "tanh", "silu", "abs")
    },
    **dict.fromkeys(_ALIASES, _alias),
    **dict.fromkeys(_RESHAPES, _reshape),
    "clamp": _clamp,
    "hardtanh": _clamp,
    "clamp_min": _clamp_min,
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "_prelu_kernel": _prelu,
    "elu": _elu,
    "softmax": _softmax("softmax"),
    "_softmax": _softmax("softmax"),
    "log_softmax": _softmax("log_softmax"),
    "_log_softmax": _softmax("log_softmax"),
    **{op: _binary(op) for op in ("add", "sub", "mul", "div", "maximum", "minimum")},
    "rsub": _rsub,
    "neg": _neg,
    "square": _square,
    "pow": _square,
    "permute": _permute,
    "transpose": _permute,
    "expand": _expand,
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "channel_shuffle": _channel_shuffle,
    "cat": _cat,
    "concat": _cat,
    "stack": _stack,
    "slice": _slice,
    "select": _select,
    "unbind": _unbind,
    "chunk": _chunk,
    "split": _split,
    "split_with_sizes": _split,
    "pad": _pad,
    "constant_pad_nd": _pad,
    "reflection_pad1d": _reflection_pad,
    "reflection_pad2d": _reflection_pad,
    "upsample_nearest1d": _upsample("nearest"),
    "upsample_nearest2d": _upsample("nearest"),
    "_upsample_nearest_exact2d": _upsample("nearest", half_pixel_centers=True),
    "upsample_bilinear2d": _upsample("bilinear"),
}
