"""aten operations with weights or windows: convolutions, dense layers, batch norms, pools, reductions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import fx

from thumbnet.importers import layers
from thumbnet.importers.aten import AtenBuilder, Computed, Handler, along, arguments, origin, pair, refuse
from thumbnet.importers.builder import Floats, Value


def _kernel(weight: Floats, rank: int, node: fx.Node) -> Floats:
    """Weights of a convolution over signals get a height of 1."""
    if weight.ndim != rank + 1 or rank not in (2, 3):
        raise refuse(node, "Only convolutions over (channels, height, width) and (channels, time) work.")
    return weight if rank == 3 else weight[:, :, None]


def _conv(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    """conv2d, conv1d(x, weight, bias, stride, padding, dilation, groups); padding may be "same" or "valid"."""
    x = b.value(node, args[0])
    rank = len(x.shape)
    weight = _kernel(b.constant(node, args[1]), rank, node)
    dilation = along(args[5], rank, 1)
    if isinstance(args[4], str):
        padding = _named_padding(args[4], weight.shape[2:], dilation)
    else:
        padding = along(args[4], rank, 0, neutral=0) * 2
    bias = None if args[2] is None else b.constant(node, args[2])
    stride, groups = along(args[3], rank, 1), int(args[6])
    return layers.convolution(
        b, origin(node), x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups
    )


def _convolution(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    """convolution(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups)"""
    if args[6]:
        return _conv_transpose(b, node, [*args[:5], args[7], args[8], args[5]])
    return _conv(b, node, [*args[:6], args[8]])


def _conv_transpose(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    """conv_transpose2d, conv_transpose1d(x, weight, bias, stride, padding, output_padding, groups, dilation)"""
    x = b.value(node, args[0])
    rank = len(x.shape)
    weight = _dilated(_kernel(b.constant(node, args[1]), rank, node), along(args[7], rank, 1))
    bias = None if args[2] is None else b.constant(node, args[2])
    cut, more = along(args[4], rank, 0, neutral=0), along(args[5], rank, 0, neutral=0)
    padding = [*cut, cut[0] - more[0], cut[1] - more[1]]
    stride = along(args[3], rank, 1)
    return layers.transposed_convolution(
        b, origin(node), x, weight, bias, stride=stride, padding=padding, groups=int(args[6])
    )


def _dilated(weight: Floats, dilation: Sequence[int]) -> Floats:
    """The kernel with zeros between its taps."""
    if list(dilation) == [1, 1]:
        return weight
    size = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    spread = np.zeros((*weight.shape[:2], *size), np.float32)
    spread[:, :, :: dilation[0], :: dilation[1]] = weight
    return spread


def _named_padding(name: str, kernel: Sequence[int], dilation: list[int]) -> list[int]:
    if name == "valid":
        return [0, 0, 0, 0]
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    top, left = total[0] // 2, total[1] // 2
    return [top, left, total[0] - top, total[1] - left]


def _dense(b: AtenBuilder, node: fx.Node, x: Value, weight: Floats, bias: Any) -> Computed:
    return layers.dense(b, origin(node), x, weight, None if bias is None else b.constant(node, bias))


def _linear(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    return _dense(b, node, b.value(node, args[0]), b.constant(node, args[1]), args[2])


def _addmm(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    """addmm(bias, x, weightᵀ)"""
    if arguments(node, 5)[3:5] not in ([1, 1], [None, None]):
        raise refuse(node, "Its factors alpha and beta must be 1; use nn.Linear.")
    return _dense(b, node, b.value(node, args[1]), np.ascontiguousarray(b.constant(node, args[2]).T), args[0])


def _mm(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    weight = b.constant(node, args[1])
    if weight.ndim != 2:
        raise refuse(node, "Only the product of a vector with a fixed matrix works; use nn.Linear.")
    return _dense(b, node, b.value(node, args[0]), np.ascontiguousarray(weight.T), None)


def _batch_norm(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    """batch_norm(x, weight, bias, mean, var, training, momentum, eps, …)"""
    if args[5]:
        raise refuse(node, "It uses the statistics of the batch; call model.eval() before exporting.")
    return _batch_norm_node(b, node, args[:5], float(args[7]))


def _batch_norm_no_training(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    """_native_batch_norm_legit_no_training(x, weight, bias, mean, var, momentum, eps)"""
    return [_batch_norm_node(b, node, args[:5], float(args[6])), torch.empty(0), torch.empty(0)]


def _batch_norm_node(b: AtenBuilder, node: fx.Node, args: list[Any], eps: float) -> Value:
    x = b.value(node, args[0])
    given = []
    for argument, default in zip(args[1:], (1.0, 0.0, None, None), strict=True):
        if argument is None and default is None:
            raise refuse(node, "It has no running statistics; train it with track_running_stats=True.")
        given.append(np.full(x.shape[0], default, np.float32) if argument is None else b.constant(node, argument))
    weight, bias, mean, var = given
    return layers.batch_norm(b, origin(node), x, 0, weight, bias, mean, var, eps)


# --- pools


def _max_pool(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    """max_pool2d, max_pool1d(x, kernel, stride, padding, dilation, ceil_mode)"""
    x = b.value(node, args[0])
    if pair(args[4], 1) != [1, 1]:
        raise refuse(node, "Dilated pools are not supported; use dilation=1.")
    return _pool(b, node, x, "max_pool2d", args[1:4], bool(args[5]), False)


def _max_pool2d_with_indices(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    return [_max_pool(b, node, args), torch.empty(0)]


def _avg_pool(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    """avg_pool2d, avg_pool1d(x, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override)"""
    if args[6] is not None:
        raise refuse(node, "divisor_override is not supported; scale the result instead.")
    return _pool(b, node, b.value(node, args[0]), "avg_pool2d", args[1:4], bool(args[4]), bool(args[5]))


def _pool(
    b: AtenBuilder, node: fx.Node, x: Value, op: str, window: list[Any], ceil_mode: bool, include: bool
) -> Computed:
    """`window` is (kernel, stride, padding)."""
    rank = len(x.shape)
    if rank not in (2, 3):
        raise refuse(node, "Only pools over (channels, height, width) and (channels, time) work.")
    kernel = along(window[0], rank)
    stride, padding = along(window[1], rank, kernel), along(window[2], rank, 0, neutral=0) * 2
    size = x.shape[1:] if rank == 3 else (1, x.shape[1])
    rounded = layers.ceil_padding(size, kernel, stride, padding) if ceil_mode else padding
    if rounded != padding and op == "avg_pool2d" and include and any(padding):
        raise refuse(node, "ceil_mode with padding that counts is not supported; use ceil_mode=False.")
    include = include and rounded == padding
    o = origin(node)
    return layers.pool(b, o, x, op, kernel=kernel, stride=stride, padding=rounded, count_include_pad=include)


def _adaptive_avg_pool(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    x = b.value(node, args[0])
    kernel = _adaptive_kernel(node, x, args[1])
    return layers.pool(b, origin(node), x, "avg_pool2d", kernel=kernel, stride=kernel)


def _adaptive_max_pool(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
    x = b.value(node, args[0])
    kernel = _adaptive_kernel(node, x, args[1])
    return [layers.pool(b, origin(node), x, "max_pool2d", kernel=kernel, stride=kernel), torch.empty(0)]


def _adaptive_kernel(node: fx.Node, x: Value, wanted: Any) -> list[int]:
    rank = len(x.shape)
    height, width = x.shape[1:] if rank == 3 else (1, x.shape[1])
    sizes = wanted if isinstance(wanted, list | tuple) else [wanted] * (rank - 1)
    size = [1, *sizes] if rank == 2 else list(sizes)
    size = [s if s is not None else n for s, n in zip(size, (height, width), strict=True)]
    if height % size[0] or width % size[1]:
        raise refuse(
            node,
            f"Adaptive pooling of {height}×{width} to {size[0]}×{size[1]} has windows of unequal size; "
            "pool to 1×1 or to a divisor.",
        )
    return [height // size[0], width // size[1]]


def _reduction(kind: str) -> Handler:
    """mean, sum, amax, amin(x, dims, keepdim)"""

    def handle(b: AtenBuilder, node: fx.Node, args: list[Any]) -> Computed:
        x = b.value(node, args[0])
        rank = len(x.shape)
        dims = [args[1]] if isinstance(args[1], int) else args[1] or range(rank + 1)
        return layers.reduction(b, origin(node), x, kind, [b.axis(node, d, rank) for d in dims], bool(args[2]))

    return handle


LAYERS: dict[str, Handler] = {
    "conv2d": _conv,
    "conv1d": _conv,
    "convolution": _convolution,
    "conv_transpose2d": _conv_transpose,
    "conv_transpose1d": _conv_transpose,
    "linear": _linear,
    "addmm": _addmm,
    "mm": _mm,
    "matmul": _mm,
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm_no_training,
    "max_pool2d": _max_pool,
    "max_pool1d": _max_pool,
    "max_pool2d_with_indices": _max_pool2d_with_indices,
    "avg_pool2d": _avg_pool,
    "avg_pool1d": _avg_pool,
    "adaptive_avg_pool2d": _adaptive_avg_pool,
    "_adaptive_avg_pool2d": _adaptive_avg_pool,
    "adaptive_avg_pool1d": _adaptive_avg_pool,
    "adaptive_max_pool2d": _adaptive_max_pool,
    "adaptive_max_pool1d": _adaptive_max_pool,
    "mean": _reduction("mean"),
    "sum": _reduction("sum"),
    "amax": _reduction("max"),
    "amin": _reduction("min"),
}
