"""Sums, means and extremes over some axes of a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from thumbnet.integer.arithmetic import Int8s, requantize
from thumbnet.integer.graph import IntegerNode, QTensor

SUMS = frozenset(("mean", "sum"))
EXTREMES = frozenset(("reduce_max", "reduce_min"))


def blocks(axes: Sequence[int], shape: Sequence[int]) -> tuple[int, int, int] | None:
    """(outer, count, inner): one output is made of `count` values, each `inner` bytes after the last one; `inner` such
    outputs stand side by side, `outer` times. None where the axes, those of size 1 aside, do not adjoin.
    """
    own = [a for a in sorted({a % len(shape) for a in axes}) if shape[a] > 1]
    if not own:
        return prod(shape), 1, 1
    first, last = own[0], own[-1]
    if any(shape[a] > 1 and a not in own for a in range(first, last)):
        return None
    return prod(shape[:first]), prod(shape[first : last + 1]), prod(shape[last + 1 :])


def _grouped(node: IntegerNode, x: Int8s, shape: Sequence[int]) -> Int8s:
    """[N, outer, count, inner]"""
    found = blocks(node.attrs["axes"], shape)
    assert found is not None  # or the node would not be valid
    return x.reshape(len(x), *found)


def add_up(node: IntegerNode, inputs: Sequence[Int8s], tensors: Sequence[QTensor], out: QTensor) -> Int8s:
    """mean and sum."""
    values = _grouped(node, inputs[0], tensors[0].shape)
    total = values.sum(axis=2, dtype=np.int64) - tensors[0].zero_point * values.shape[2]
    y = requantize(total, node.attrs["multiplier"], node.attrs["shift"], out.zero_point, node.clamp)
    return y.reshape(-1, *out.shape)


def extreme(node: IntegerNode, inputs: Sequence[Int8s], tensors: Sequence[QTensor], out: QTensor) -> Int8s:
    """reduce_max and reduce_min, of stored values."""
    values = _grouped(node, inputs[0], tensors[0].shape)
    found: Int8s = values.max(axis=2) if node.op == "reduce_max" else values.min(axis=2)
    return found.reshape(-1, *out.shape)
