"""The softmax at the end of a classifier, left out."""

from __future__ import annotations

from thumbnet.graph.graph import Graph


def drop_final_softmax(graph: Graph) -> Graph:
    """Removes softmax and log-softmax where they are a graph output that nothing else reads.

    Keeps: the order of the classes, not their values: what was fed to the softmax becomes the output. This is
    the one pass that changes the function; training wants logits, and firmware can do without the
    exponentials.
    """
    last = {
        n.name: n.inputs[0]
        for n in graph.nodes
        if n.op in ("softmax", "log_softmax") and n.name in graph.outputs and not graph.consumers[n.name]
    }
    outputs = tuple(last.get(v, v) for v in graph.outputs)
    if not set(outputs) <= set(graph.by_name) or len(set(outputs)) < len(outputs):
        return graph  # a graph input, or one value twice, is no output
    return graph.with_nodes((n for n in graph.nodes if n.name not in last), outputs)
