"""Nodes that hand on their input unchanged, taken out."""

from __future__ import annotations

import numpy as np

from thumbnet.integer.graph import IntegerGraph, IntegerNode
from thumbnet.integer.passes.elementwise import STORED, part, table_of
from thumbnet.integer.passes.intervals import Bounds, bounds_of
from thumbnet.integer.passes.rewrite import alike, bypass, same_numbers, with_nodes

# these change nothing where the shape stays
_MOVES = ("pad", "reshape", "slice", "resize_nearest", "resize_bilinear", "concat")


def remove_identity(ig: IntegerGraph) -> IntegerGraph:
    """Removes pads of nothing, reshapes to the same shape, slices of everything, concats of one, pools of one pixel.

    And tables and requantizations that map every value they can meet to itself.

    Contract: every output byte stays, and so do the names and quantizations of the outputs. A global pool of one pixel
    that only drops axes becomes a reshape.
    """
    bounds = bounds_of(ig)
    for name in [n.name for n in ig.nodes]:
        node = ig.by_name.get(name)
        if node is None:
            continue  # its name went to its producer
        source, out = ig.tensors[node.inputs[0]], ig.tensors[name]
        if alike(source, out) and _is_identity(ig, node, bounds):
            ig = bypass(ig, node)
        elif node.op == "global_avg_pool" and same_numbers(source, out) and _keeps_values(ig, node, bounds):
            moved = IntegerNode(name, "reshape", node.inputs, {"shape": list(out.shape)})
            ig = with_nodes(ig, [moved if n.name == name else n for n in ig.nodes])
    return ig


def _is_identity(ig: IntegerGraph, node: IntegerNode, bounds: dict[str, Bounds]) -> bool:
    if node.op in _MOVES:
        return len(node.inputs) == 1
    return _keeps_values(ig, node, bounds)


def _keeps_values(ig: IntegerGraph, node: IntegerNode, bounds: dict[str, Bounds]) -> bool:
    table = table_of(ig, node)
    source = node.inputs[0]
    # a producer that took over a name was alike: its bounds are at least as wide under the old one
    span = bounds[source].range
    return table is not None and bool(np.array_equal(part(table, span), part(STORED, span)))
