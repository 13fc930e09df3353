"""Nodes that compute the same from the same, merged."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np

from thumbnet.integer.graph import IntegerGraph, IntegerNode
from thumbnet.integer.passes.rewrite import with_nodes


def common_nodes(ig: IntegerGraph) -> IntegerGraph:
    """Lets readers of a repeated node read its first occurrence.

    Contract: every output byte stays. A node that is a graph output stays, for it needs a tensor of its own.
    """
    first: dict[str, str] = {}
    names: dict[str, str] = {}
    kept = []
    for node in ig.nodes:
        moved = replace(node, inputs=tuple(names.get(v, v) for v in node.inputs))
        same = first.setdefault(_key(ig, moved), node.name)
        if same == node.name or node.name in ig.outputs:
            kept.append(moved)
        else:
            names[node.name] = same
    return with_nodes(ig, kept) if names else ig


def _key(ig: IntegerGraph, node: IntegerNode) -> str:
    """Equal for nodes that write the same bytes with the same meaning."""
    out = ig.tensors[node.name]
    what = [node.op, node.inputs, dict(node.attrs), node.clamp, node.weight_scale, out.shape, out.scale, out.zero_point]
    h = hashlib.sha256(json.dumps(what, sort_keys=True).encode())
    for key in sorted(node.arrays):
        array = np.ascontiguousarray(node.arrays[key])
        h.update(f"{key}{array.dtype}{array.shape}".encode())
        h.update(array.tobytes())
    return h.hexdigest()
