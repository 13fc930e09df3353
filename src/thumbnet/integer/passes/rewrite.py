"""What the passes share: who reads what, bypassing and merging nodes. Names of the graph's outputs are never lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor


def with_nodes(
    ig: IntegerGraph, nodes: Iterable[IntegerNode], tensors: Mapping[str, QTensor] | None = None
) -> IntegerGraph:
    """The graph with other nodes. `tensors` are by default the graph's; what nothing writes any more is left out."""
    kept = tuple(nodes)
    known = ig.tensors if tensors is None else tensors
    return replace(ig, nodes=kept, tensors={v: known[v] for v in (*ig.inputs, *(n.name for n in kept))})


def consumers(ig: IntegerGraph) -> dict[str, list[IntegerNode]]:
    """For each tensor, the nodes that read it, in order; a node that reads it twice is there once."""
    found: dict[str, list[IntegerNode]] = {v: [] for v in ig.tensors}
    for node in ig.nodes:
        for v in dict.fromkeys(node.inputs):
            found[v].append(node)
    return found


def has_one_reader(ig: IntegerGraph, tensor: str) -> bool:
    """Whether exactly one node reads the tensor, once, and the graph does not put it out."""
    readers = [v for node in ig.nodes for v in node.inputs if v == tensor]
    return len(readers) == 1 and tensor not in ig.outputs


def alike(a: QTensor, b: QTensor) -> bool:
    """Whether both hold the same numbers where they hold the same bytes, in the same shape."""
    return a.shape == b.shape and same_numbers(a, b)


def same_numbers(a: QTensor, b: QTensor) -> bool:
    return a.scale == b.scale and a.zero_point == b.zero_point


def substitute(nodes: Iterable[IntegerNode], names: Mapping[str, str]) -> list[IntegerNode]:
    """The nodes with the tensors they read renamed."""
    return [
        replace(n, inputs=tuple(names.get(v, v) for v in n.inputs)) if any(v in names for v in n.inputs) else n
        for n in nodes
    ]


def bypass(ig: IntegerGraph, node: IntegerNode) -> IntegerGraph:
    """The graph without `node`, whose readers then read its first input, which must be alike.

    Where `node` is a graph output, its producer takes over the name; where that cannot be (the producer is a graph
    input, or an output itself), the graph stays as it is.
    """
    source = node.inputs[0]
    rest = [n for n in ig.nodes if n.name != node.name]
    if node.name not in ig.outputs:
        return with_nodes(ig, substitute(rest, {node.name: source}))
    if source in ig.inputs or source in ig.outputs:
        return ig
    renamed = [replace(n, name=node.name) if n.name == source else n for n in rest]
    return with_nodes(ig, substitute(renamed, {source: node.name}))


def merge(ig: IntegerGraph, first: IntegerNode, second: IntegerNode, merged: IntegerNode) -> IntegerGraph:
    """`merged` stands in for `first` and its only reader `second`, at the place and with the tensor of `second`.

    It is called as `first`, or as `second` where that is a graph output.
    """
    name = second.name if second.name in ig.outputs else first.name
    tensor = replace(ig.tensors[second.name], name=name)
    nodes = [replace(merged, name=name) if n.name == second.name else n for n in ig.nodes if n.name != first.name]
    return with_nodes(ig, substitute(nodes, {second.name: name}), {**ig.tensors, name: tensor})
