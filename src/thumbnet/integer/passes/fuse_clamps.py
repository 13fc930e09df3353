"""Activations behind a node, made its own clamp."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from thumbnet.integer.arithmetic import Int8s, activation_clamp
from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor
from thumbnet.integer.passes.elementwise import STORED, part, table_of
from thumbnet.integer.passes.intervals import Bounds, bounds_of
from thumbnet.integer.passes.rewrite import has_one_reader, merge

# these add the output's zero point, then clamp
_OFFSETS = ("conv2d", "depthwise_conv2d", "conv_transpose2d", "dense", "add", "sub", "mul")
_CLAMPS = (*_OFFSETS, "max_pool2d", "avg_pool2d")
Clamp = tuple[int, int]


def fuse_clamps(ig: IntegerGraph) -> IntegerGraph:
    """Folds a table or requantization into the only node it reads where it is a shift and a clamp of stored values.

    Contract: every output byte stays. The test is on all 256 values (or all that the producer can write), at equal
    scales. What TFLite can spell stays so: the clamp must be one of its activations unless it was none before.
    """
    bounds = bounds_of(ig)
    for name in [n.name for n in ig.nodes]:
        node = ig.by_name.get(name)
        before = ig.by_name.get(node.inputs[0]) if node is not None else None
        if node is None or before is None or before.op not in _CLAMPS or not has_one_reader(ig, before.name):
            continue
        clamp = _fused(ig, before, node, bounds)
        if clamp is not None:
            ig = merge(ig, before, node, replace(before, clamp=clamp))
            bounds = bounds_of(ig)
    return ig


def _fused(ig: IntegerGraph, before: IntegerNode, node: IntegerNode, bounds: dict[str, Bounds]) -> Clamp | None:
    """The clamp with which `before` writes what `node` makes of its output, or None."""
    x, out, table = ig.tensors[before.name], ig.tensors[node.name], table_of(ig, node)
    shift = out.zero_point - x.zero_point
    if table is None or x.scale != out.scale or x.shape != out.shape or (shift and before.op not in _OFFSETS):
        return None
    for span in (before.clamp, bounds[before.name].range):
        clamp = _shift_and_clamp(part(table, span), part(STORED, span), shift)
        if clamp is not None and (_spelled(clamp, out) or not _spelled(before.clamp, x)):
            return clamp
    return None


def _shift_and_clamp(table: Int8s, values: Int8s, shift: int) -> Clamp | None:
    """The clamp that, after `shift`, makes `table` of the ascending `values`; None where there is none."""
    low, high = int(table[0]), int(table[-1])
    if low > high or not np.array_equal(np.clip(values.astype(np.int64) + shift, low, high), table):
        return None
    return low, high


def _spelled(clamp: Clamp, out: QTensor) -> bool:
    return any(activation_clamp(a, out.scale, out.zero_point) == tuple(clamp) for a in ("none", "relu", "relu6"))
