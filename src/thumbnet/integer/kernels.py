"""The integer operations on batches of numpy arrays, in one visible table.

A kernel takes the node, its inputs (int8 [N, *shape]) and the tensors that describe inputs and output, and returns
int8 [N, *output shape].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.integer import binary, fixed_point, moves, reductions, resize
from thumbnet.integer.arithmetic import Int8s, Ints, requantize
from thumbnet.integer.graph import IntegerNode, QTensor

Kernel = Callable[[IntegerNode, Sequence[Int8s], Sequence[QTensor], QTensor], Int8s]
Floating = npt.NDArray[np.floating[Any]]

_ROW_ELEMENTS = 1 << 15  # accumulators requantized at a time: int64 temporaries stay in the second-level cache
_EXACT_FLOAT32 = (1 << 24) // (127 * 128)  # so many int8 products always sum up exactly in float32


def _exact_dtype(terms: int) -> type[np.floating[Any]]:
    return np.float32 if terms <= _EXACT_FLOAT32 else np.float64


def _padded(x: npt.NDArray[Any], padding: Sequence[int], value: int) -> npt.NDArray[Any]:
    top, left, bottom, right = padding
    if not any(padding):
        return x
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)


def _taps(
    x: npt.NDArray[Any], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], out: QTensor
) -> list[npt.NDArray[Any]]:
    """For each position in the window, what it sees: views [N, out height, out width, C], row by row."""
    height, width = out.shape[:2]
    views = []
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            top, left = i * dilation[0], j * dilation[1]
            rows = slice(top, top + (height - 1) * stride[0] + 1, stride[0])
            columns = slice(left, left + (width - 1) * stride[1] + 1, stride[1])
            views.append(x[:, rows, columns])
    return views


def _finish(node: IntegerNode, sums: Floating, offset: Ints, out: QTensor) -> Int8s:
    """Sums [rows, O] plus `offset` [O], requantized a few rows at a time: int8 [rows, O]."""
    result = np.empty(sums.shape, np.int8)
    multiplier, shift = node.arrays["multiplier"].astype(np.int64), node.arrays["shift"].astype(np.int64)
    step = max(1, _ROW_ELEMENTS // sums.shape[1])
    for start in range(0, len(sums), step):
        rows = sums[start : start + step].astype(np.int64)
        rows += offset
        result[start : start + step] = requantize(rows, multiplier, shift, out.zero_point, node.clamp)
    return result


def conv2d(node: IntegerNode, inputs: Sequence[Int8s], tensors: Sequence[QTensor], out: QTensor) -> Int8s:
    weight, zero_point, groups = node.arrays["weight"], tensors[0].zero_point, int(node.attrs["groups"])
    channels, kh, kw, per_group = weight.shape
    terms = kh * kw * per_group
    dtype = _exact_dtype(terms)
    x = _padded(inputs[0], node.attrs["padding"], zero_point)
    views = _taps(x, (kh, kw), node.attrs["stride"], node.attrs["dilation"], out)
    matrix = weight.reshape(groups, channels // groups, terms).astype(dtype)
    sums = np.empty((views[0].size // views[0].shape[-1], channels), dtype)
    for g in range(groups):
        part = slice(g * per_group, (g + 1) * per_group)
        columns = np.concatenate([v[..., part] for v in views], axis=-1).reshape(-1, terms).astype(dtype)
        width = channels // groups
        np.matmul(columns, matrix[g].T, out=sums[:, g * width : (g + 1) * width])
    offset = _offset(node, weight.reshape(channels, -1), zero_point)
    return _finish(node, sums, offset, out).reshape(-1, *out.shape)


def depthwise_conv2d(node: IntegerNode, inputs: Sequence[Int8s], tensors: Sequence[QTensor], out: QTensor) -> Int8s:
    weight, zero_point = node.arrays["weight"], tensors[0].zero_point
    kh, kw, channels = weight.shape
    repeat = channels // tensors[0].shape[-1]
    dtype = _exact_dtype(kh * kw)
    x = _padded(inputs[0], node.attrs["padding"], zero_point).astype(dtype)
    if repeat > 1:
        x = np.repeat(x, repeat, axis=-1)
    sums = np.zeros((len(x), *out.shape), dtype)
    product = np.empty_like(sums)
    views = _taps(x, (kh, kw), node.attrs["stride"], node.attrs["dilation"], out)
    for view, w in zip(views, weight.reshape(-1, channels).astype(dtype), strict=True):
        np.multiply(view, w, out=product)
        sums += product
    offset = _offset(node, weight.reshape(-1, channels).T, zero_point)
    return _finish(node, sums.reshape(-1, channels), offset, out).reshape(-1, *out.shape)


def conv_transpose2d(node: IntegerNode, inputs: Sequence[Int8s], tensors: Sequence[QTensor], out: QTensor) -> Int8s:
    """Every input pixel adds its products to a window of the output; `padding` (top, left) of these are cut off."""
    weight, (top, left) = node.arrays["weight"], node.attrs["padding"]
    channels, kh, kw, depth = weight.shape
    sh, sw = (int(s) for s in node.attrs["stride"])
    height, width, _ = out.shape
    (rows, columns), n = tensors[0].shape[:2], len(inputs[0])
    dtype = _exact_dtype(2 * kh * kw * depth)  # values less the zero point take 9 bits
    x = (inputs[0].astype(np.int16) - tensors[0].zero_point).astype(dtype)
    full = (max((rows - 1) * sh + kh, top + height), max((columns - 1) * sw + kw, left + width))
    sums = np.zeros((n, *full, channels), dtype)
    for i in range(kh):
        for j in range(kw):
            products = x.reshape(-1, depth) @ weight[:, i, j].T.astype(dtype)
            target = sums[:, i : i + (rows - 1) * sh + 1 : sh, j : j + (columns - 1) * sw + 1 : sw]
            target += products.reshape(target.shape)
    seen = sums[:, top : top + height, left : left + width]
    offset = node.arrays["bias"].astype(np.int64)
    return _finish(node, seen.reshape(-1, channels), offset, out).reshape(-1, *out.shape)


def dense(node: IntegerNode, inputs: Sequence[Int8s], tensors: Sequence[QTensor], out: QTensor) -> Int8s:
    weight = node.arrays["weight"]
    dtype = _exact_dtype(weight.shape[1])
    sums = inputs[0].astype(dtype) @ weight.T.astype(dtype)
    return _finish(node, sums, _offset(node, weight, tensors[0].zero_point), out)


def _offset(node: IntegerNode, weight: npt.NDArray[np.int8], zero_point: int) -> Ints:
    """Bias [O] with the input's zero point folded in; `weight` is [O, terms]."""
    offset: Ints = node.arrays["bias"].astype(np.int64) - zero_point * weight.sum(axis=1, dtype=np.int64)
    return offset


def max_pool2d(node: IntegerNode, inputs: Sequence[Int8s], tensors: Sequence[QTensor], out: QTensor) -> Int8s:
    x = _padded(inputs[0], node.attrs["padding"], -128)
    views = _taps(x, node.attrs["kernel"], node.attrs["stride"], (1, 1), out)
    result = views[0].copy()
    for view in views[1:]:
        np.maximum(result, view, out=result)
    return np.clip(result, *node.clamp, out=result)


def avg_pool2d(node: IntegerNode, inputs: Sequence[Int8s], tensors: Sequence[QTensor], out: QTensor) -> Int8s:
    """Padding does not count; the quotient rounds halves away from zero (of the stored values, as TFLM does)."""
    padding, window = node.attrs["padding"], (node.attrs["kernel"], node.attrs["stride"], (1, 1))
    x = _padded(inputs[0].astype(np.int64), padding, 0)
    inside = _padded(np.ones((1, *tensors[0].shape[:2], 1), np.int64), padding, 0)
    count = np.sum(_taps(inside, *window, out), axis=0)
    total = np.sum(_taps(x, *window, out), axis=0)
    quotient = (np.abs(total) + count // 2) // count
    mean: Int8s = np.clip(np.sign(total) * quotient, *node.clamp).astype(np.int8)
    return mean


def global_avg_pool(node: IntegerNode, inputs: Sequence[Int8s], tensors: Sequence[QTensor], out: QTensor) -> Int8s:
    height, width, _ = tensors[0].shape
    total = inputs[0].sum(axis=(1, 2), dtype=np.int64) - tensors[0].zero_point * height * width
    y = requantize(total, node.attrs["multiplier"], node.attrs["shift"], out.zero_point, node.clamp)
    return y.reshape(-1, *out.shape)


def lut(node: IntegerNode, inputs: Sequence[Int8s], tensors: Sequence[QTensor], out: QTensor) -> Int8s:
    table: Int8s = np.roll(node.arrays["table"], 128)  # indexed by the value's bits
    return table[inputs[0].view(np.uint8)]


def concat(node: IntegerNode, inputs: Sequence[Int8s], tensors: Sequence[QTensor], out: QTensor) -> Int8s:
    return np.concatenate(list(inputs), axis=int(node.attrs["axis"]) + 1)


def reshape(node: IntegerNode, inputs: Sequence[Int8s], tensors: Sequence[QTensor], out: QTensor) -> Int8s:
    return inputs[0].reshape(-1, *out.shape)


def requantize_node(node: IntegerNode, inputs: Sequence[Int8s], tensors: Sequence[QTensor], out: QTensor) -> Int8s:
    stored = np.arange(256).astype(np.uint8).view(np.int8).astype(np.int64) - tensors[0].zero_point
    table = requantize(stored, node.attrs["multiplier"], node.attrs["shift"], out.zero_point, node.clamp)
    return table[inputs[0].view(np.uint8)]


def slice_node(node: IntegerNode, inputs: Sequence[Int8s], tensors: Sequence[QTensor], out: QTensor) -> Int8s:
    start, stop = int(node.attrs["start"]), int(node.attrs["stop"])
    return np.take(inputs[0], range(start, stop), axis=int(node.attrs["axis"]) + 1)


def softmax(node: IntegerNode, inputs: Sequence[Int8s], tensors: Sequence[QTensor], out: QTensor) -> Int8s:
    x = inputs[0].astype(np.int64)
    y = fixed_point.softmax(x, node.attrs["multiplier"], node.attrs["shift"], node.attrs["diff_min"])
    return y.astype(np.int8)


KERNELS: dict[str, Kernel] = {
    "conv2d": conv2d,
    "depthwise_conv2d": depthwise_conv2d,
    "conv_transpose2d": conv_transpose2d,
    "dense": dense,
    "add": binary.add,
    "sub": binary.add,
    "mul": binary.multiply,
    "maximum": binary.extreme,
    "minimum": binary.extreme,
    "prelu": binary.prelu,
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "global_avg_pool": global_avg_pool,
    **dict.fromkeys(reductions.SUMS, reductions.add_up),
    **dict.fromkeys(reductions.EXTREMES, reductions.extreme),
    "lut": lut,
    "concat": concat,
    "pad": moves.pad,
    "mirror_pad": moves.mirror_pad,
    **dict.fromkeys(moves.STRIDED, moves.strided),
    "reshape": reshape,
    "requantize": requantize_node,
    "resize_nearest": resize.resize_nearest,
    "resize_bilinear": resize.resize_bilinear,
    "slice": slice_node,
    "softmax": softmax,
}
