"""The softmax at the end of a classifier, left out."""

from __future__ import annotations

from thumbnet.graph.graph import Graph
from thumbnet.graph.passes.rewrite import bypass


def drop_final_softmax(graph: Graph) -> Graph:
    """Removes softmax and log-softmax where they are a graph output that nothing else reads.

    Keeps: the order of the classes, not their values: the outputs become logits. This is the one pass that
    changes the function; training wants logits, and firmware can do without the exponentials.
    """
    for node in graph.nodes:
        is_last = node.name in graph.outputs and not graph.consumers[node.name]
        if node.op in ("softmax", "log_softmax") and is_last:
            graph = bypass(graph, node)
    return graph
