"""Nodes that no output depends on, taken out."""

from __future__ import annotations

from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.passes.rewrite import with_nodes


def dead_nodes(ig: IntegerGraph) -> IntegerGraph:
    """Removes nodes from which no graph output can be reached.

    Contract: every output byte stays; graph inputs stay even if nothing reads them.
    """
    needed = set(ig.outputs)
    for node in reversed(ig.nodes):
        if node.name in needed:
            needed.update(node.inputs)
    kept = [n for n in ig.nodes if n.name in needed]
    return ig if len(kept) == len(ig.nodes) else with_nodes(ig, kept)
