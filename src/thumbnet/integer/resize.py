"""Resizing an image: which pixels each output reads, and how bilinear interpolation weighs them.

Positions and weights are TFLM's: float32 for the nearest pixel, 10 fractional bits for interpolation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.integer.arithmetic import Int8s, Ints
from thumbnet.integer.graph import IntegerNode, QTensor

FRACTION = 10  # bits behind the point of a position


def _options(attrs: Mapping[str, Any]) -> tuple[bool, bool]:
    return bool(attrs.get("align_corners")), bool(attrs.get("half_pixel_centers"))


def nearest(attrs: Mapping[str, Any], before: int, after: int) -> Ints:
    """int64 [after]: the index, of `before`, that each output takes."""
    aligned, centred = _options(attrs)
    less = 1 if aligned and after > 1 else 0
    scale = np.float32(before - less) / np.float32(after - less)
    positions = (np.arange(after).astype(np.float32) + np.float32(0.5 if centred else 0)) * scale
    rounded = np.floor(positions.astype(np.float64) + 0.5) if aligned else np.floor(positions)
    indices: Ints = np.clip(rounded, 0, before - 1).astype(np.int64)
    return indices


def plain(attrs: Mapping[str, Any], before: int, after: int) -> bool:
    """Whether output i takes index i · before // after."""
    return bool(np.array_equal(nearest(attrs, before, after), np.arange(after) * before // after))


def step(attrs: Mapping[str, Any], before: int, after: int) -> tuple[int, int]:
    """(start, step) of interpolated positions along an axis, with `FRACTION` fractional bits."""
    aligned, centred = _options(attrs)
    less = 1 if aligned and after > 1 else 0
    a, b = before - less, after - less
    stride = ((a << FRACTION) + b // 2) // b
    return (stride // 2 - (1 << FRACTION - 1) if centred else 0), stride


def neighbours(attrs: Mapping[str, Any], before: int, after: int) -> tuple[Ints, Ints, Ints]:
    """For each output: the lower and the upper index it reads, and the weight of the upper one (of 1 << `FRACTION`)."""
    start, stride = step(attrs, before, after)
    position = start + stride * np.arange(after, dtype=np.int64)
    lower = np.maximum(position >> FRACTION, 0)
    upper = np.minimum((position + (1 << FRACTION) - 1) >> FRACTION, before - 1)
    return lower, upper, position - (lower << FRACTION)


def reads_inside(attrs: Mapping[str, Any], before: int, after: int) -> bool:
    """Whether interpolation stays inside the input: rounded steps can lead far enlargements beyond it, in TFLM too."""
    return int(neighbours(attrs, before, after)[0].max(initial=0)) < before


def resize_nearest(node: IntegerNode, inputs: Sequence[Int8s], tensors: Sequence[QTensor], out: QTensor) -> Int8s:
    rows, columns = (nearest(node.attrs, n, m) for n, m in zip(tensors[0].shape[:2], out.shape[:2], strict=True))
    return inputs[0][:, rows][:, :, columns]


def resize_bilinear(node: IntegerNode, inputs: Sequence[Int8s], tensors: Sequence[QTensor], out: QTensor) -> Int8s:
    rows, columns = (neighbours(node.attrs, n, m) for n, m in zip(tensors[0].shape[:2], out.shape[:2], strict=True))
    x = inputs[0].astype(np.int64)
    y = _between(_between(x, 1, *rows), 2, *columns)
    bits = 2 * FRACTION
    magnitude: npt.NDArray[np.int64] = (np.abs(y) + (1 << bits - 1)) >> bits  # halves away from zero
    return (np.sign(y) * magnitude).astype(np.int8)


def _between(x: Ints, axis: int, lower: Ints, upper: Ints, weight: Ints) -> Ints:
    shape = [1] * x.ndim
    shape[axis] = len(weight)
    w = weight.reshape(shape)
    mixed: Ints = np.take(x, lower, axis) * ((1 << FRACTION) - w) + np.take(x, upper, axis) * w
    return mixed
