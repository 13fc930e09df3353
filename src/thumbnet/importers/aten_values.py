"""aten operations without weights: elementwise functions, arithmetic, and all that moves numbers about."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx

from thumbnet.importers.aten import Builder, Handler, Ref, Value, per_channel, refuse


def _elementwise(op: str) -> Handler:
    return lambda b, origin, args: b.add(origin, op, [b.value(origin, args[0])])


def _alias(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
    return b.value(origin, args[0])


def _clamp(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
    """clamp(x, low, high) and hardtanh: relu and relu6 only"""
    x, (low, high) = b.value(origin, args[0]), (args[1], args[2])
    if low == 0 and high is None:
        return b.add(origin, "relu", [x])
    rectified = low is None and x in b.by_name and b.by_name[x].op == "relu"
    if (low == 0 or rectified) and high == 6:
        return b.add(origin, "relu6", [x])
    raise refuse(origin, f"A clamp to [{low}, {high}] is not supported; ReLU (0, ∞) and ReLU6 (0, 6) are.")


def _clamp_min(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
    return _clamp(b, origin, [args[0], args[1], None])


def _leaky_relu(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
    return b.add(origin, "leaky_relu", [b.value(origin, args[0])], {"alpha": float(args[1])})


def _softmax(op: str) -> Handler:
    def handle(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
        x = b.value(origin, args[0])
        if b.axis(origin, args[1], len(b.shapes[x])) != 0:
            raise refuse(origin, "Softmax works over the channels (dim=1) only.")
        return b.add(origin, op, [x])

    return handle


def _binary(op: str) -> Handler:
    """Two values become a node; a value and a constant per channel become a batch norm, which folds away."""

    def handle(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
        left, right = args[0], args[1]
        if op in ("add", "sub") and origin.kwargs.get("alpha", 1) != 1:
            raise refuse(origin, "Its factor alpha must be 1; multiply before adding.")
        if isinstance(right, Ref) and op == "div":
            raise refuse(origin, "Division by a computed value is not supported; multiply instead.")
        if isinstance(left, Ref) and isinstance(right, Ref):
            return _two_values(b, origin, op, left, right)
        if isinstance(left, Ref):
            return _affine(b, origin, left, *_scale_offset(op, _array(right)))
        if op == "sub":
            return _rsub(b, origin, [right, left])
        return _affine(b, origin, b.value(origin, right), *_scale_offset(op, _array(left)))

    return handle


def _two_values(b: Builder, origin: fx.Node, op: str, left: Ref, right: Ref) -> Ref:
    shapes = b.shapes[left], b.shapes[right]
    full = max(shapes, key=prod)
    if len(full) == 3 and all(s in (full, (full[0], 1, 1)) for s in shapes):
        return b.add(origin, op, [left, right])
    if shapes[0] == shapes[1]:
        return b.add(origin, op, [left, right])
    raise refuse(origin, f"It combines shapes {shapes[0]} and {shapes[1]}; they must be equal, or one (C, 1, 1).")


def _scale_offset(op: str, c: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """x ∘ c as scale · x + offset."""
    one, zero = np.ones_like(c), np.zeros_like(c)
    return {
        "add": (one, c),
        "sub": (one, -c),
        "mul": (c, zero),
        "div": (one / c if op == "div" else one, zero),
    }[op]


def _rsub(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
    """rsub(x, c) = c − x"""
    c = _array(args[1])
    return _affine(b, origin, b.value(origin, args[0]), -np.ones_like(c), c)


def _neg(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
    return _affine(b, origin, b.value(origin, args[0]), _array(-1.0), _array(0.0))


def _affine(
    b: Builder, origin: fx.Node, x: Ref, scale: npt.NDArray[np.float32], offset: npt.NDArray[np.float32]
) -> Ref:
    if np.all(scale == 1) and np.all(offset == 0):
        return x
    shape = b.shapes[x]
    channel_scale, channel_offset = per_channel(scale, shape), per_channel(offset, shape)
    if channel_scale is None or channel_offset is None:
        raise refuse(origin, f"A constant of shape {scale.shape} against {shape} is not one number per channel.")
    zeros, ones = np.zeros(shape[0], np.float32), np.ones(shape[0], np.float32)
    weights = {"weight": channel_scale, "bias": channel_offset, "mean": zeros, "var": ones}
    return b.add(origin, "batch_norm", [x], {"eps": 0.0}, weights)


def _array(constant: Any) -> npt.NDArray[np.float32]:
    if isinstance(constant, torch.Tensor):
        return constant.detach().cpu().numpy().astype(np.float32)
    return np.array([constant], np.float32)


def _reshape(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
    """view, reshape, flatten, squeeze, unsqueeze: whatever keeps the numbers in their order"""
    x, shape = b.value(origin, args[0]), b.output_shape(origin)
    if shape == b.shapes[x]:
        return x
    if len(shape) == 1:
        return b.add(origin, "flatten", [x])
    return b.add(origin, "reshape", [x], {"shape": list(shape)})


def _permute(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
    x, shape = b.value(origin, args[0]), b.output_shape(origin)
    order = args[1] if isinstance(args[1], list | tuple) else _swapped(len(b.shapes[x]) + 1, args[1], args[2])
    order = [d % (len(b.shapes[x]) + 1) for d in order]
    moving = [d for d in order if d > 0 and b.shapes[x][d - 1] > 1]
    if order[0] != 0 or moving != sorted(moving):
        raise refuse(
            origin,
            "Axes cannot change places (as in a channel shuffle or in attention); keep NCHW throughout.",
        )
    return x if shape == b.shapes[x] else b.add(origin, "reshape", [x], {"shape": list(shape)})


def _swapped(rank: int, first: int, second: int) -> list[int]:
    order = list(range(rank))
    order[first], order[second] = order[second], order[first]
    return order


def _cat(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
    values = [b.value(origin, v) for v in args[0]]
    axis = b.axis(origin, args[1] or 0, len(b.shapes[values[0]]))
    return values[0] if len(values) == 1 else b.add(origin, "concat", values, {"axis": axis})


def _slice(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
    """slice(x, dim, start, end, step); a step over pixels becomes a strided pool of one pixel"""
    x, dim = b.value(origin, args[0]), int(args[1] or 0)
    rank = len(b.shapes[x])
    step = int(args[4] or 1)
    if dim % (rank + 1) == 0 and (args[2] or 0) == 0 and step == 1 and (args[3] is None or args[3] >= b.batch):
        return x
    axis = b.axis(origin, dim, rank)
    start, stop, _ = slice(args[2], args[3]).indices(b.shapes[x][axis])
    x = _cut(b, origin, x, axis, start, stop)
    if step == 1:
        return x
    if rank != 3 or axis == 0:
        raise refuse(origin, f"A step of {step} works over height and width only.")
    stride = [step if axis == k else 1 for k in (1, 2)]
    return b.add(origin, "max_pool2d", [x], {"kernel": [1, 1], "stride": stride, "padding": [0, 0, 0, 0]})


def _cut(b: Builder, origin: fx.Node, x: Ref, axis: int, start: int, stop: int) -> Ref:
    if (start, stop) == (0, b.shapes[x][axis]):
        return x
    return b.add(origin, "slice", [x], {"axis": axis, "start": start, "stop": stop})


def _chunk(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
    x = b.value(origin, args[0])
    axis = b.axis(origin, int(args[2] or 0), len(b.shapes[x]))
    size = -(-b.shapes[x][axis] // int(args[1]))
    return _pieces(b, origin, x, axis, size)


def _split(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
    x = b.value(origin, args[0])
    return _pieces(b, origin, x, b.axis(origin, int(args[2] or 0), len(b.shapes[x])), args[1])


def _pieces(b: Builder, origin: fx.Node, x: Ref, axis: int, size: int | list[int]) -> Value:
    """Slices of `size` each (the last may be smaller), or of the listed sizes."""
    total = b.shapes[x][axis]
    starts = list(range(0, total, size)) if isinstance(size, int) else [sum(size[:k]) for k in range(len(size))]
    stops = [*starts[1:], total]
    return [_cut(b, origin, x, axis, start, stop) for start, stop in zip(starts, stops, strict=True)]


def _pad(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
    """pad(x, pads, mode, value), pads from the last axis forwards"""
    mode, value = (args[2], args[3]) if isinstance(args[2], str) else ("constant", args[2])
    x, pads = b.value(origin, args[0]), [int(p) for p in args[1]]
    if not any(pads):
        return x
    if mode != "constant" or value not in (None, 0) or min(pads) < 0:
        raise refuse(origin, "Only padding with zeros is supported.")
    pads += [0] * (8 - len(pads))
    if len(b.shapes[x]) != 3 or any(pads[6:]):
        raise refuse(origin, "Only images (channels, height, width) can be padded.")
    left, right, top, bottom, front, back = pads[:6]
    if front or back:
        x = _pad_channels(b, origin, x, front, back)
    if not any(pads[:4]):
        return x
    return b.add(origin, "pad", [x], {"padding": [top, left, bottom, right]})


def _pad_channels(b: Builder, origin: fx.Node, x: Ref, front: int, back: int) -> Ref:
    """Zero channels around the others, as a 1×1 convolution: the shortcut "option A" of CIFAR ResNets."""
    channels = b.shapes[x][0]
    weight = np.zeros((front + channels + back, channels, 1, 1), np.float32)
    weight[np.arange(channels) + front, np.arange(channels)] = 1.0
    attrs = {"stride": [1, 1], "padding": [0] * 4, "dilation": [1, 1], "groups": 1, "activation": "none"}
    return b.add(origin, "conv2d", [x], attrs, {"weight": weight})


def _upsample_nearest(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
    x, shape = b.value(origin, args[0]), b.output_shape(origin)
    return b.add(origin, "resize", [x], {"size": list(shape[1:])})


_ALIASES = (
    "dropout",
    "feature_dropout",
    "alias",
    "clone",
    "contiguous",
    "detach",
    "to",
    "_to_copy",
    "lift_fresh",
)
_RESHAPES = ("view", "reshape", "_unsafe_view", "flatten", "squeeze", "unsqueeze", "unflatten", "view_copy")

VALUES: dict[str, Handler] = {
    **{
        op: _elementwise(op if op not in ("hardswish", "hardsigmoid") else f"hard_{op[4:]}")
        for op in ("relu", "relu6", "hardswish", "hardsigmoid", "sigmoid", "tanh", "silu")
    },
    **dict.fromkeys(_ALIASES, _alias),
    **dict.fromkeys(_RESHAPES, _reshape),
    "clamp": _clamp,
    "hardtanh": _clamp,
    "clamp_min": _clamp_min,
    "leaky_relu": _leaky_relu,
    "softmax": _softmax("softmax"),
    "_softmax": _softmax("softmax"),
    "log_softmax": _softmax("log_softmax"),
    "_log_softmax": _softmax("log_softmax"),
    "add": _binary("add"),
    "sub": _binary("sub"),
    "mul": _binary("mul"),
    "div": _binary("div"),
    "rsub": _rsub,
    "neg": _neg,
    "permute": _permute,
    "transpose": _permute,
    "cat": _cat,
    "concat": _cat,
    "slice": _slice,
    "chunk": _chunk,
    "split": _split,
    "split_with_sizes": _split,
    "pad": _pad,
    "constant_pad_nd": _pad,
    "upsample_nearest2d": _upsample_nearest,
}
