"""Nodes that map each stored value by itself, as tables of all 256 values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from thumbnet.integer.arithmetic import Int8s
from thumbnet.integer.graph import IntegerGraph, IntegerNode
from thumbnet.integer.kernels import KERNELS

STORED = np.arange(-128, 128).astype(np.int8)
_POOLS = ("max_pool2d", "avg_pool2d", "global_avg_pool")


def table_of(ig: IntegerGraph, node: IntegerNode) -> Int8s | None:
    """int8 [256], indexed by value + 128: what the node makes of each value; None where it does more than that.

    Taken from the simulator's kernel, on one pixel with one channel.
    """
    if node.op not in ("lut", "requantize") and not (node.op in _POOLS and _one_pixel(ig, node)):
        return None
    shape = (1, 1, 1) if node.op in _POOLS else (1,)
    x, out = (replace(ig.tensors[v], shape=shape) for v in (node.inputs[0], node.name))
    table = KERNELS[node.op](node, [STORED.reshape(-1, *shape)], [x], out)
    return table.reshape(256)


def _one_pixel(ig: IntegerGraph, node: IntegerNode) -> bool:
    """Whether each output of the pool is made of one input, the one at its own place."""
    if node.op == "global_avg_pool":
        return ig.tensors[node.inputs[0]].shape[:2] == (1, 1)
    same_place = list(node.attrs["kernel"]) == [1, 1] and not any(node.attrs["padding"])
    return same_place and ig.tensors[node.inputs[0]].shape == ig.tensors[node.name].shape


def part(table: Int8s, span: tuple[int, int]) -> Int8s:
    """The table's entries for the values in `span`, both ends included."""
    return table[span[0] + 128 : span[1] + 129]
