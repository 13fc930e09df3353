"""Taps at the edges of a convolution's window that never see the image, or weigh nothing, taken off."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.integer.graph import IntegerGraph, IntegerNode
from thumbnet.integer.passes.rewrite import with_nodes
from thumbnet.integer.passes.windows import kernel_of, tap_patterns

_DEPTHWISE_SIZES = ((1, 1), (3, 3))  # others have no fast kernels: a smaller window could cost more


def trim_windows(ig: IntegerGraph) -> IntegerGraph:
    """Cuts rows and columns of taps off windows: 5×5 on a map of 2×2 pixels, say, is 3×3.

    Contract: every byte of every tensor stays. Padding shrinks with the window; a side stays where it has no padding to
    give and the output would change its size.
    """
    nodes = [_trimmed(ig, n) if n.op in ("conv2d", "depthwise_conv2d") else n for n in ig.nodes]
    return ig if all(a is b for a, b in zip(nodes, ig.nodes, strict=True)) else with_nodes(ig, nodes)


def _trimmed(ig: IntegerGraph, node: IntegerNode) -> IntegerNode:
    x, out, kernel = ig.tensors[node.inputs[0]], ig.tensors[node.name], kernel_of(node)
    first = 0 if node.op == "depthwise_conv2d" else 1  # the axis of the window's rows in the weights
    weight = node.arrays["weight"]
    others = tuple(k for k in range(weight.ndim) if k not in (first, first + 1))
    seen = tap_patterns(node, x, out).any(axis=0).reshape(kernel)
    used = np.asarray(np.any(weight, axis=others) & seen)
    padding = [int(p) for p in node.attrs["padding"]]
    for axis in (0, 1):
        dilation = int(node.attrs["dilation"][axis])
        before, after = _ends(np.asarray(np.any(used, axis=1 - axis)))
        before = min(before, padding[axis] // dilation)
        padding[axis] -= before * dilation
        after = min(after, padding[axis + 2] // dilation)
        padding[axis + 2] -= after * dilation
        weight = _cut(weight, first + axis, before, after)
    sizes = (weight.shape[first], weight.shape[first + 1])
    if weight.shape == node.arrays["weight"].shape or (first == 0 and sizes not in _DEPTHWISE_SIZES):
        return node
    return replace(node, attrs={**node.attrs, "padding": padding}, arrays={**node.arrays, "weight": weight})


def _ends(used: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """How many unused taps lead and trail; one tap always counts as used, the middle one where none is."""
    at = np.flatnonzero(used) if used.any() else np.array([len(used) // 2])
    return int(at[0]), int(len(used) - 1 - at[-1])


def _cut(weight: npt.NDArray[Any], axis: int, before: int, after: int) -> npt.NDArray[Any]:
    return np.ascontiguousarray(np.take(weight, range(before, weight.shape[axis] - after), axis=axis))
