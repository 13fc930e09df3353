"""Channels that must stay although they hold a constant: freed of their weights, with the plainest numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.integer.arithmetic import INT32_MAX, INT32_MIN, Ints, requantize
from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor
from thumbnet.integer.passes.intervals import WEIGHTED, Bounds, accumulator_bounds, bounds_of, requantized
from thumbnet.integer.passes.rewrite import with_nodes

Mask = npt.NDArray[np.bool_]


def silence_constants(ig: IntegerGraph) -> IntegerGraph:
    """Sets the weights of constant output channels to zero, so that they no longer need their inputs.

    Contract: every byte of every tensor stays. The multiplier becomes that of another channel, one below 1, and the
    bias the smallest that gives the constant, so that a channel without meaning does not keep its layer from kernels
    that want small sums and right shifts.
    """
    bounds = bounds_of(ig)
    nodes = [_silenced(ig, n, bounds[n.inputs[0]]) if n.op in WEIGHTED else n for n in ig.nodes]
    return ig if all(a is b for a, b in zip(nodes, ig.nodes, strict=True)) else with_nodes(ig, nodes)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Per channel, what turns a sum into the output."""

    multiplier: Ints
    shift: Ints
    out: QTensor
    clamp: tuple[int, int]

    def __call__(self, sums: Ints) -> Ints:
        # beyond 32 bits after a left shift the output is saturated anyway
        left = np.maximum(self.shift, 0)
        sums = np.clip(sums, INT32_MIN >> left, INT32_MAX >> left)
        return requantize(sums, self.multiplier, self.shift, self.out.zero_point, self.clamp).astype(np.int64)


def _silenced(ig: IntegerGraph, node: IntegerNode, x: Bounds) -> IntegerNode:
    out, arrays = ig.tensors[node.name], node.arrays
    sums = accumulator_bounds(node, x, ig.tensors[node.inputs[0]], out)
    own = _Rows(arrays["multiplier"].astype(np.int64), arrays["shift"].astype(np.int64), out, node.clamp)
    written = requantized(sums, own.multiplier, own.shift, out, node.clamp)
    rows, scales = own, np.array(node.weight_scale)
    donor = _donor(own, written.constant)
    if donor is not None and len(scales) == len(sums.low):
        borrows = written.constant & (own.multiplier > 0)
        rows = replace(
            own, multiplier=_borrowed(own.multiplier, donor, borrows), shift=_borrowed(own.shift, donor, borrows)
        )
        scales = _borrowed(scales, donor, borrows)
    bias = _smallest_sum(rows, written.low)
    silent = written.constant & (rows(bias) == written.low)
    chosen = {"bias": bias, "multiplier": rows.multiplier, "shift": rows.shift}
    new = {k: np.where(silent, v, arrays[k]).astype(arrays[k].dtype) for k, v in chosen.items()}
    new["weight"] = _without(node, silent)
    if all(np.array_equal(a, arrays[k]) for k, a in new.items()):
        return node
    kept = (
        tuple(np.where(silent, scales, np.array(node.weight_scale)).tolist()) if rows is not own else node.weight_scale
    )
    return replace(node, arrays={**arrays, **new}, weight_scale=kept)


def _borrowed(values: npt.NDArray[Any], donor: int, borrows: Mask) -> npt.NDArray[Any]:
    return np.where(borrows, values[donor], values)


def _donor(rows: _Rows, constant: Mask) -> int | None:
    """The channel with the largest multiplier below 1, of those that are not constant if there are any."""
    below = (rows.shift <= -1) & (rows.multiplier > 0)
    below = below & ~constant if (below & ~constant).any() else below
    if not below.any():
        return None
    return int(np.argmax(np.where(below, rows.multiplier * 2.0 ** rows.shift.astype(np.float64), -1.0)))


def _smallest_sum(rows: _Rows, wanted: Ints) -> Ints:
    """For each channel the sum nearest 0 that gives `wanted`, by bisection; any sum where none does."""
    at_zero = rows(np.zeros_like(wanted))
    sign = np.sign(wanted - at_zero)
    near, far = np.zeros_like(wanted), np.full_like(wanted, INT32_MAX)
    for _ in range(32):  # magnitudes: `near` falls short of `wanted` (or is 0), `far` reaches it if anything does
        middle = (near + far) // 2
        reached = sign * (rows(sign * middle) - wanted) >= 0
        near, far = np.where(reached, near, middle), np.where(reached, middle, far)
    return np.asarray(np.where(sign == 0, 0, sign * far))


def _without(node: IntegerNode, silent: Mask) -> npt.NDArray[Any]:
    weight = node.arrays["weight"]
    keeps = ~silent if node.op == "depthwise_conv2d" else (~silent).reshape(-1, *[1] * (weight.ndim - 1))
    return np.where(keeps, weight, 0).astype(weight.dtype)
