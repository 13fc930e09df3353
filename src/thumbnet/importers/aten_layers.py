"""aten operations with weights or windows: convolutions, dense layers, batch norms, pools."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx

from thumbnet.importers.aten import Builder, Handler, Ref, Value, arguments, op_name, pair, refuse


def _conv2d(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
    """conv2d(x, weight, bias, stride, padding, dilation, groups); padding may be the text "same" or
    "valid".
    """
    x, stride, dilation = b.value(origin, args[0]), pair(args[3], 1), pair(args[5], 1)
    weight = b.constant(origin, args[1])
    if isinstance(args[4], str):
        padding = _named_padding(args[4], (weight.shape[2], weight.shape[3]), dilation)
    else:
        padding = pair(args[4], 0) * 2
    bias = None if args[2] is None else b.constant(origin, args[2])
    return _convolution_node(b, origin, x, weight, bias, stride, padding, dilation, int(args[6]))


def _convolution(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
    """convolution(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups)"""
    if args[6]:
        raise refuse(origin, "Use a nearest resize followed by a convolution instead of a transposed one.")
    if len(args[3]) != 2:
        raise refuse(origin, "Only 2-D convolutions work; give a 1-D signal a height of 1.")
    return _conv2d(b, origin, [*args[:6], args[8]])


def _named_padding(name: str, kernel: tuple[int, int], dilation: list[int]) -> list[int]:
    if name == "valid":
        return [0, 0, 0, 0]
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    top, left = total[0] // 2, total[1] // 2
    return [top, left, total[0] - top, total[1] - left]


def _convolution_node(
    b: Builder,
    origin: fx.Node,
    x: Ref,
    weight: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32] | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Ref:
    attrs: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "activation": "none"}
    weights = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    if weight.ndim != 4 or len(b.shapes[x]) != 3:
        raise refuse(origin, "Only 2-D convolutions over (channels, height, width) work.")
    if groups > 1 and groups == b.shapes[x][0]:
        return b.add(origin, "depthwise_conv2d", [x], attrs, weights)
    return b.add(origin, "conv2d", [x], {**attrs, "groups": groups}, weights)


def _dense(b: Builder, origin: fx.Node, x: Ref, weight: npt.NDArray[np.float32], bias: Any) -> Value:
    if len(b.shapes[x]) != 1:
        raise refuse(origin, f"A dense layer works on vectors, not on {b.shapes[x]}; flatten before it.")
    weights = {"weight": weight}
    if bias is not None:
        weights["bias"] = b.constant(origin, bias).reshape(-1)
    return b.add(origin, "dense", [x], {"activation": "none"}, weights)


def _linear(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
    return _dense(b, origin, b.value(origin, args[0]), b.constant(origin, args[1]), args[2])


def _addmm(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
    """addmm(bias, x, weightᵀ)"""
    if arguments(origin, 5)[3:5] not in ([1, 1], [None, None]):
        raise refuse(origin, "Its factors alpha and beta must be 1; use nn.Linear.")
    weight = np.ascontiguousarray(b.constant(origin, args[2]).T)
    return _dense(b, origin, b.value(origin, args[1]), weight, args[0])


def _mm(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
    weight = b.constant(origin, args[1])
    if weight.ndim != 2:
        raise refuse(origin, "Only the product of a vector with a fixed matrix works; use nn.Linear.")
    return _dense(b, origin, b.value(origin, args[0]), np.ascontiguousarray(weight.T), None)


def _batch_norm(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
    """batch_norm(x, weight, bias, mean, var, training, momentum, eps, …)"""
    if args[5]:
        raise refuse(origin, "It uses the statistics of the batch; call model.eval() before exporting.")
    return _batch_norm_node(b, origin, args[:5], float(args[7]))


def _batch_norm_no_training(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
    """_native_batch_norm_legit_no_training(x, weight, bias, mean, var, momentum, eps)"""
    return [_batch_norm_node(b, origin, args[:5], float(args[6])), torch.empty(0), torch.empty(0)]


def _batch_norm_node(b: Builder, origin: fx.Node, args: list[Any], eps: float) -> Ref:
    x = b.value(origin, args[0])
    channels = b.shapes[x][0]
    defaults = (1.0, 0.0, None, None)
    weights = {}
    for key, argument, default in zip(("weight", "bias", "mean", "var"), args[1:], defaults, strict=True):
        if argument is None and default is None:
            raise refuse(origin, "It has no running statistics; train it with track_running_stats=True.")
        given = np.full(channels, default, np.float32) if argument is None else b.constant(origin, argument)
        weights[key] = given
    return b.add(origin, "batch_norm", [x], {"eps": eps}, weights)


def _max_pool2d(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
    """max_pool2d(x, kernel, stride, padding, dilation, ceil_mode)"""
    x, kernel = b.value(origin, args[0]), pair(args[1])
    if pair(args[4], 1) != [1, 1]:
        raise refuse(origin, "Dilated pools are not supported; use dilation=1.")
    return _pool(b, origin, x, "max_pool2d", kernel, pair(args[2], kernel), pair(args[3], 0), {})


def _max_pool2d_with_indices(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
    return [_max_pool2d(b, origin, args), torch.empty(0)]


def _avg_pool2d(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
    """avg_pool2d(x, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override)"""
    x, kernel, padding = b.value(origin, args[0]), pair(args[1]), pair(args[3], 0)
    if args[6] is not None:
        raise refuse(origin, "divisor_override is not supported; scale the result instead.")
    if kernel == list(b.shapes[x][1:]) and not any(padding):
        return b.add(origin, "global_avg_pool", [x], {"keepdims": True})  # and so free of the image size
    return _pool(
        b,
        origin,
        x,
        "avg_pool2d",
        kernel,
        pair(args[2], kernel),
        padding,
        {"count_include_pad": bool(args[5])},
    )


def _pool(
    b: Builder,
    origin: fx.Node,
    x: Ref,
    op: str,
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    extra: dict[str, Any],
) -> Ref:
    if len(b.shapes[x]) != 3:
        raise refuse(origin, "Only 2-D pools over (channels, height, width) work.")
    expected = b.output_shape(origin) if op_name(origin) != "max_pool2d_with_indices" else None
    name = b.add(origin, op, [x], {"kernel": kernel, "stride": stride, "padding": padding * 2, **extra})
    if expected is not None and b.shapes[name] != expected:
        raise refuse(origin, f"ceil_mode changes the result from {b.shapes[name]} to {expected}; use ceil_mode=False.")
    return name


def _adaptive_avg_pool2d(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
    x = b.value(origin, args[0])
    size = [s if s is not None else b.shapes[x][k + 1] for k, s in enumerate(pair(args[1]))]
    if size == [1, 1]:
        return b.add(origin, "global_avg_pool", [x], {"keepdims": True})
    kernel = _adaptive_kernel(b, origin, x, size)
    return _pool(b, origin, x, "avg_pool2d", kernel, kernel, [0, 0], {"count_include_pad": False})


def _adaptive_max_pool2d(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
    x = b.value(origin, args[0])
    kernel = _adaptive_kernel(b, origin, x, pair(args[1]))
    attrs = {"kernel": kernel, "stride": kernel, "padding": [0, 0, 0, 0]}
    return [b.add(origin, "max_pool2d", [x], attrs), torch.empty(0)]


def _adaptive_kernel(b: Builder, origin: fx.Node, x: Ref, size: list[int]) -> list[int]:
    _, height, width = b.shapes[x]
    if height % size[0] or width % size[1]:
        raise refuse(
            origin,
            f"Adaptive pooling of {height}×{width} to {size[0]}×{size[1]} has windows of unequal size; "
            "pool to 1×1 or to a divisor.",
        )
    return [height // size[0], width // size[1]]


def _mean(b: Builder, origin: fx.Node, args: list[Any]) -> Value:
    """mean(x, dims, keepdim): over height and width only"""
    x = b.value(origin, args[0])
    rank = len(b.shapes[x])
    axes = {b.axis(origin, d, rank) for d in (args[1] or range(rank + 1))}
    spatial = {k for k in range(1, rank) if b.shapes[x][k] > 1}
    if rank != 3 or 0 in axes or not spatial <= axes:
        raise refuse(origin, "Only the mean over height and width of an image works.")
    keep = bool(args[2])
    pooled = b.add(origin, "global_avg_pool", [x], {"keepdims": keep})
    if b.shapes[pooled] != b.output_shape(origin):
        return b.add(origin, "reshape", [pooled], {"shape": list(b.output_shape(origin))})
    return pooled


LAYERS: dict[str, Handler] = {
    "conv2d": _conv2d,
    "convolution": _convolution,
    "linear": _linear,
    "addmm": _addmm,
    "mm": _mm,
    "matmul": _mm,
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm_no_training,
    "max_pool2d": _max_pool2d,
    "max_pool2d_with_indices": _max_pool2d_with_indices,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "_adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "adaptive_max_pool2d": _adaptive_max_pool2d,
    "mean": _mean,
}
