"""Operations with weights or windows, as importers ask for them: convolutions, dense layers, norms, pools, reductions.

Weights come in PyTorch's layouts, paddings as (top, left, bottom, right), all pairs as (height, width). A signal is an
image of height 1: its kernel is (1, k).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from thumbnet.graph.layout import Layout, order_of
from thumbnet.importers.builder import Builder, Floats, Origin, Value

Pair = Sequence[int]


def convolution(
    b: Builder,
    o: Origin,
    x: Value,
    weight: Floats,
    bias: Floats | None,
    *,
    stride: Pair = (1, 1),
    padding: Sequence[int] = (0, 0, 0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Value:
    """`weight` is [O, I/groups, kh, kw]."""
    ref = b.image(o, x)
    attrs: dict[str, Any] = {"stride": _ints(stride), "padding": _ints(padding), "dilation": _ints(dilation)}
    attrs["activation"] = "none"
    weights = _weights(weight, bias)
    if groups > 1 and groups == b.shapes[ref][0]:
        return b.from_image(b.add(o, "depthwise_conv2d", [ref], attrs, weights), len(x.shape))
    return b.from_image(b.add(o, "conv2d", [ref], {**attrs, "groups": groups}, weights), len(x.shape))


def transposed_convolution(
    b: Builder,
    o: Origin,
    x: Value,
    weight: Floats,
    bias: Floats | None,
    *,
    stride: Pair,
    padding: Sequence[int],
    groups: int = 1,
) -> Value:
    """`weight` is [I, O/groups, kh, kw]; `padding` is what is cut off the full output; behind, negative where rows and
    columns are added. Groups are spread into a dense kernel.
    """
    if groups > 1:
        spread = np.zeros((weight.shape[0], weight.shape[1] * groups, *weight.shape[2:]), np.float32)
        inputs, outputs = weight.shape[0] // groups, weight.shape[1]
        for g in range(groups):
            rows = slice(g * inputs, (g + 1) * inputs)
            spread[rows, g * outputs : (g + 1) * outputs] = weight[rows]
        weight = spread
    attrs = {"stride": _ints(stride), "padding": _ints(padding), "activation": "none"}
    weights = _weights(weight.transpose(1, 0, 2, 3), bias)
    return b.from_image(b.add(o, "conv_transpose2d", [b.image(o, x)], attrs, weights), len(x.shape))


def dense(b: Builder, o: Origin, x: Value, weight: Floats, bias: Floats | None) -> Value:
    """`weight` is [O, I], over the last axis; over several positions it is a convolution of one pixel."""
    if x.shape[-1:] != weight.shape[1:]:
        raise o.refuse(f"Its weights {list(weight.shape)} do not fit a value of shape {x.shape}.")
    if len(x.shape) == 1:
        ref = b.vector(o, x)
        weight = weight[:, order_of(x.layout.axes[0], x.layout.stored)]
        made = b.add(o, "dense", [ref], {"activation": "none"}, _weights(weight, bias))
        return Value(made, Layout.row_major(b.shapes[made]))
    if all(s == 1 for s in x.shape[:-1]):
        flat = dense(b, o, b.reshape(o, x, x.shape[-1:]), weight, bias)
        return b.reshape(o, flat, (*x.shape[:-1], *flat.shape))
    if len(x.shape) > 3:
        raise o.refuse("A dense layer works on vectors, on rows of vectors, and on images.")
    kernel = weight[:, :, None, None]
    attrs = {"stride": [1, 1], "padding": [0] * 4, "dilation": [1, 1], "groups": 1, "activation": "none"}
    made = b.add(o, "conv2d", [b.image(o, x, channels_last=True)], attrs, _weights(kernel, bias))
    return b.from_image(made, len(x.shape), channels_last=True)


def batch_norm(
    b: Builder, o: Origin, x: Value, axis: int, weight: Floats, bias: Floats, mean: Floats, var: Floats, eps: float
) -> Value:
    """Per position along `axis`: weight · (x − mean) / √(var + eps) + bias."""
    ref, x, numbers = b.by_channel(o, x, axis, weight, bias, mean, var)
    weights = dict(zip(("weight", "bias", "mean", "var"), numbers, strict=True))
    return Value(b.add(o, "batch_norm", [ref], {"eps": float(eps)}, weights), x.layout)


# --- windows without weights


def pool(
    b: Builder,
    o: Origin,
    x: Value,
    op: str,
    *,
    kernel: Pair,
    stride: Pair,
    padding: Sequence[int] = (0, 0, 0, 0),
    count_include_pad: bool = False,
) -> Value:
    """`op` is "max_pool2d" or "avg_pool2d"."""
    ref = b.image(o, x)
    attrs: dict[str, Any] = {"kernel": _ints(kernel), "stride": _ints(stride), "padding": _ints(padding)}
    whole = attrs["kernel"] == list(b.shapes[ref][1:]) and not any(padding)
    if op == "avg_pool2d" and whole:  # and so free of the image's size
        return b.from_image(b.add(o, "global_avg_pool", [ref], {"keepdims": True}), len(x.shape))
    if op == "avg_pool2d":
        attrs["count_include_pad"] = count_include_pad
    return b.from_image(b.add(o, op, [ref], attrs), len(x.shape))


def same_padding(size: Pair, kernel: Pair, stride: Pair, dilation: Pair = (1, 1)) -> list[int]:
    """TensorFlow's SAME, as ONNX's SAME_UPPER: (top, left, bottom, right), the odd one behind."""
    before, after = [], []
    for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
        total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        before.append(total // 2)
        after.append(total - total // 2)
    return before + after


def ceil_padding(size: Pair, kernel: Pair, stride: Pair, padding: Sequence[int]) -> list[int]:
    """`padding` with as much more behind as a pool needs that rounds its size up, as PyTorch and ONNX do: the last
    window begins inside the image or its leading padding."""
    made = list(padding)
    for k in (0, 1):
        reach = size[k] + padding[k] + padding[k + 2] - kernel[k]
        steps = -(-reach // stride[k])
        if steps * stride[k] >= size[k] + padding[k]:
            steps -= 1
        made[k + 2] += max(0, steps * stride[k] - reach)
    return made


def reduction(b: Builder, o: Origin, x: Value, kind: str, axes: Sequence[int], keepdims: bool) -> Value:
    """`kind` is "mean", "sum", "max" or "min", over source axes (counted without the batch, not negative)."""
    still = all(x.shape[a] == 1 for a in axes)  # nothing to compute, whatever the order
    if not still and len(x.shape) in (2, 3):
        last = b.convention(x)
        x = b.from_image(b.image(o, x, last), len(x.shape), last)
    elif not still:
        x = Value(b.plain(o, x), Layout(x.layout.axes, tuple(p for a in x.layout.axes for p in a)))
    gone = [p for a in axes for p in x.layout.axes[a]]
    kept = tuple(() if k in axes else parts for k, parts in enumerate(x.layout.axes))
    left = kept if keepdims else tuple(parts for k, parts in enumerate(kept) if k not in axes)
    if still:
        return Value(x.ref, Layout(left, x.layout.stored))
    ref, own = x.ref, list(axes)
    if len(x.shape) in (2, 3):
        own = [k for k, s in enumerate(b.shapes[ref]) if s > 1 and any(p in gone for p in _axis_parts(b, x, k))]
    stored = tuple(p for p in x.layout.stored if p not in gone)
    image = len(b.shapes[ref]) == 3
    if kind == "mean" and image and set(own) == {k for k in (1, 2) if b.shapes[ref][k] > 1}:
        made = b.add(o, "global_avg_pool", [ref], {"keepdims": keepdims})
    else:
        op = kind if kind in ("mean", "sum") else f"reduce_{kind}"
        made = b.add(o, op, [ref], {"axes": own, "keepdims": True})
    return Value(made, Layout(left, stored))


def _axis_parts(b: Builder, x: Value, axis: int) -> tuple[Any, ...]:
    """Parts of an axis of the graph's image (C, H, W), each axis of which has at most one."""
    sizes, at = b.shapes[x.ref], 0
    for k in range(axis):
        at += sizes[k] > 1
    return x.layout.stored[at : at + (sizes[axis] > 1)]


def _weights(weight: Floats, bias: Floats | None) -> dict[str, Floats]:
    made = {"weight": np.ascontiguousarray(weight, np.float32)}
    if bias is not None:
        made["bias"] = np.ascontiguousarray(bias, np.float32).reshape(-1)
    return made


def _ints(values: Sequence[int]) -> list[int]:
    return [int(v) for v in values]
