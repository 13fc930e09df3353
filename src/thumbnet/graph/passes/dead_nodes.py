"""Nodes that no output depends on, taken out."""

from __future__ import annotations

from thumbnet.graph.graph import Graph


def dead_nodes(graph: Graph) -> Graph:
    """Removes nodes without influence on the outputs. Keeps: the function, exactly, and all graph inputs."""
    needed = set(graph.outputs)
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(node.inputs)
    return graph.with_nodes(n for n in graph.nodes if n.name in needed)
