"""Channels that must stay although they hold a constant: freed of their weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from thumbnet.integer.arithmetic import INT32_MAX, INT32_MIN
from thumbnet.integer.graph import IntegerGraph, IntegerNode
from thumbnet.integer.passes.intervals import WEIGHTED, Bounds, accumulator_bounds, bounds_of, requantized
from thumbnet.integer.passes.rewrite import with_nodes


def silence_constants(ig: IntegerGraph) -> IntegerGraph:
    """Sets the weights of constant output channels to zero, so that they no longer need their inputs.

    Contract: every byte of every tensor stays. The bias becomes a value that the sum can take, hence one that gives the
    constant.
    """
    bounds = bounds_of(ig)
    nodes = [_silenced(ig, n, bounds[n.inputs[0]]) if n.op in WEIGHTED else n for n in ig.nodes]
    return ig if all(a is b for a, b in zip(nodes, ig.nodes, strict=True)) else with_nodes(ig, nodes)


def _silenced(ig: IntegerGraph, node: IntegerNode, x: Bounds) -> IntegerNode:
    out, weight = ig.tensors[node.name], node.arrays["weight"]
    channels_last = node.op == "depthwise_conv2d"
    rows = np.moveaxis(weight, -1, 0) if channels_last else weight
    weighs = rows.reshape(len(rows), -1).any(axis=1)
    sums = accumulator_bounds(node, x, ig.tensors[node.inputs[0]], out)
    multiplier, shift = node.arrays["multiplier"], node.arrays["shift"]
    constant = requantized(sums, multiplier, shift, out, node.clamp).constant
    bias = np.clip(node.arrays["bias"].astype(np.int64), sums.low, sums.high)
    fits = (bias >= INT32_MIN) & (bias <= INT32_MAX)
    silent = weighs & constant & fits
    if not silent.any():
        return node
    kept = weight * (~silent if channels_last else (~silent).reshape(-1, *[1] * (weight.ndim - 1)))
    arrays = {"weight": kept.astype(weight.dtype), "bias": np.where(silent, bias, node.arrays["bias"]).astype(np.int32)}
    return replace(node, arrays={**node.arrays, **arrays})
