"""Softmax at the outputs, taken off on request."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from thumbnet.integer.graph import IntegerGraph, IntegerNode

_BEHIND = ("requantize", "reshape")  # what may stand between a softmax and its output


def drop_softmax(ig: IntegerGraph) -> IntegerGraph:
    """Puts out the logits instead of their softmax.

    Contract: the only pass that changes outputs. They are then the softmax's inputs, with their own names, scales and
    zero points (and a reshape, under the output's name, where one followed): the order of the classes is the same, but
    for those that the softmax rounds to one value. A softmax stays where its input is a graph input or an output.
    """
    for name in ig.outputs:
        node = ig.by_name.get(name)
        while node is not None and (node.op in _BEHIND or _rises(node)):
            node = ig.by_name.get(node.inputs[0])
        if node is not None and node.op == "softmax":
            ig = _with_logits(ig, name, node.inputs[0])
    return ig


def _rises(node: IntegerNode) -> bool:
    """Whether the node is a table that keeps the order of values, such as a requantization by table."""
    return node.op == "lut" and bool(np.all(np.diff(node.arrays["table"].astype(np.int16)) >= 0))


def _with_logits(ig: IntegerGraph, output: str, logits: str) -> IntegerGraph:
    if logits in ig.inputs or logits in ig.outputs:
        return ig
    x, shape = ig.tensors[logits], ig.tensors[output].shape
    if x.shape == shape:
        return replace(ig, outputs=tuple(logits if v == output else v for v in ig.outputs))
    moved = IntegerNode(output, "reshape", (logits,), {"shape": list(shape)})
    tensors = {**ig.tensors, output: replace(x, name=output, shape=shape)}
    return replace(ig, tensors=tensors, nodes=tuple(moved if n.name == output else n for n in ig.nodes))
