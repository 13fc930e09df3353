"""Functions at the end of a network that losses are not taken of, left out: softmax, and for some tasks sigmoid."""

from __future__ import annotations

from collections.abc import Collection

from thumbnet.graph.graph import Graph, Node

SOFTMAX = ("softmax", "log_softmax")


def drop_final_softmax(graph: Graph) -> Graph:
    """Removes softmax and log-softmax where they are a graph output that nothing else reads.

    Keeps: the order of the classes, not their values: what was fed to the softmax becomes the output. This is
    the one pass that changes the function; training wants logits, and firmware can do without the
    exponentials.
    """
    return drop_final(graph, SOFTMAX)[0]


def drop_final(graph: Graph, ops: Collection[str]) -> tuple[Graph, tuple[Node | None, ...]]:
    """The graph without those of `ops` that are an output and that nothing else reads; for each output, the node that
    is gone. What such a node read is the output then."""
    last = {n.name: n for n in graph.nodes if n.op in ops and n.name in graph.outputs and not graph.consumers[n.name]}
    outputs = tuple(last[v].inputs[0] if v in last else v for v in graph.outputs)
    if not last or not set(outputs) <= set(graph.by_name) or len(set(outputs)) < len(outputs):
        return graph, (None,) * len(graph.outputs)  # a graph input, or one value twice, is no output
    kept = graph.with_nodes((n for n in graph.nodes if n.name not in last), outputs)
    return kept, tuple(last.get(v) for v in graph.outputs)
