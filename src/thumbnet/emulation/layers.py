"""From calls that were counted back to the nodes of the integer graph."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from thumbnet.emulation.cycles import CallCost
from thumbnet.errors import ToolchainError
from thumbnet.integer.graph import IntegerGraph, IntegerNode
from thumbnet.results import LayerCost

_BODY = re.compile(r"^void model_invoke\(void \*arena\)\n\{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_CALL = re.compile(r"^    \w+\(.*\);$", re.MULTILINE)


def calls_per_node(model_c: str) -> list[int]:
    """How many calls `model_invoke` makes for each node, in order; 0 where nothing is computed.

    Raises `ToolchainError` where the text is not one that Thumbnet emitted.
    """
    body = _BODY.search(model_c)
    if body is None:
        raise ToolchainError("model.c has no model_invoke as Thumbnet writes it.", "Export the firmware again.")
    parts = body[1].split("\n    /* ")[1:]
    return [len(_CALL.findall(part)) for part in parts]


def layer_costs(ig: IntegerGraph, model_c: str, calls: Sequence[CallCost]) -> tuple[LayerCost, ...]:
    """Emulated costs of every node, in the graph's order; together they are all of `model_invoke`.

    Empty where the calls do not match the text, so that no figure ever stands at the wrong layer.
    """
    counts = calls_per_node(model_c)
    if len(counts) != len(ig.nodes) or sum(counts) != len(calls):
        return ()
    costs, at = [], 0
    for node, count in zip(ig.nodes, counts, strict=True):
        own = calls[at : at + count]
        at += count
        costs.append(
            LayerCost(
                node.name,
                node.op,
                ig.tensors[node.name].shape,
                macs(node, ig),
                node.weight_bytes,
                _parameter_bytes(node),
                sum(c.instructions for c in own),
                sum(c.cycles for c in own),
                node.weight_bits,
            )
        )
    return tuple(costs)


def macs(node: IntegerNode, ig: IntegerGraph) -> int:
    """Multiply-accumulates of one inference: products of a weight and an activation, padding included."""
    if node.op == "dense":
        return int(node.arrays["weight"].size)
    if node.op in ("conv2d", "depthwise_conv2d"):
        weight, shape = node.arrays["weight"], ig.tensors[node.name].shape
        return int(weight.size) * int(np.prod(shape[:2]))
    if node.op == "conv_transpose2d":
        return int(node.arrays["weight"].size) * int(np.prod(ig.tensors[node.inputs[0]].shape[:2]))
    return 0


def _parameter_bytes(node: IntegerNode) -> int:
    """In the generic kernels' form: int32 bias and multipliers, int8 shifts."""
    wide = {"bias": 4, "multiplier": 4, "shift": 1}
    return sum(int(node.arrays[k].size) * size for k, size in wide.items() if k in node.arrays)
