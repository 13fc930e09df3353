"""Convolutions called what they are: there are faster kernels for that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from thumbnet.integer.graph import IntegerGraph, IntegerNode
from thumbnet.integer.passes.rewrite import with_nodes


def depthwise_forms(ig: IntegerGraph) -> IntegerGraph:
    """Depthwise convolutions of one input channel become convolutions, and those with a group for each of several
    input channels become depthwise.

    Contract: every output byte stays, because the products that are summed stay.
    """
    nodes = [_form(node, ig.tensors[node.inputs[0]].shape[-1]) for node in ig.nodes]
    return with_nodes(ig, nodes) if any(a is not b for a, b in zip(nodes, ig.nodes, strict=True)) else ig


def _form(node: IntegerNode, channels: int) -> IntegerNode:
    if node.op == "depthwise_conv2d" and channels == 1:  # [height, width, outputs] to [outputs, height, width, 1]
        weight = np.moveaxis(node.arrays["weight"], -1, 0)[..., None]
        attrs = {**node.attrs, "groups": 1}
    elif node.op == "conv2d" and channels > 1 and int(node.attrs["groups"]) == channels:
        weight = np.moveaxis(node.arrays["weight"][..., 0], 0, -1)
        attrs = {k: v for k, v in node.attrs.items() if k != "groups"}
    else:
        return node
    op = "conv2d" if channels == 1 else "depthwise_conv2d"
    return replace(node, op=op, attrs=attrs, arrays={**node.arrays, "weight": np.ascontiguousarray(weight)})
