"""What the passes share: replacing values, bypassing and merging nodes. Output names of a graph are never
lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from thumbnet.graph.graph import Graph, Node


def substitute(nodes: Iterable[Node], values: Mapping[str, str]) -> list[Node]:
    """The nodes with the values they read renamed."""
    return [
        replace(n, inputs=tuple(values.get(v, v) for v in n.inputs)) if any(v in values for v in n.inputs) else n
        for n in nodes
    ]


def has_one_reader(graph: Graph, value: str) -> bool:
    """Whether exactly one node reads the value, once, and the graph does not put it out."""
    readers = graph.consumers[value]
    return len(readers) == 1 and readers[0].inputs.count(value) == 1 and value not in graph.outputs


def merge(graph: Graph, first: Node, second: Node, merged: Node) -> Graph:
    """`merged` stands in for `first` and its only reader `second`, at the place of `second`.

    It gets the name of `first`, or of `second` where that is a graph output.
    """
    name = second.name if second.name in graph.outputs else first.name
    nodes = []
    for node in graph.nodes:
        if node.name == second.name:
            nodes.append(replace(merged, name=name))
        elif node.name != first.name:
            nodes.append(node)
    return graph.with_nodes(substitute(nodes, {second.name: name, first.name: name}))


def bypass(graph: Graph, node: Node) -> Graph:
    """The graph without `node`, whose readers then read its first input.

    Where `node` is a graph output, its producer takes over the name; where that cannot be (the producer is a
    graph input, or an output itself), the graph stays as it is.
    """
    source = node.inputs[0]
    rest = [n for n in graph.nodes if n.name != node.name]
    if node.name not in graph.outputs:
        return graph.with_nodes(substitute(rest, {node.name: source}))
    if source not in graph.by_name or source in graph.outputs:
        return graph
    renamed = [replace(n, name=node.name) if n.name == source else n for n in rest]
    return graph.with_nodes(substitute(renamed, {source: node.name}))
