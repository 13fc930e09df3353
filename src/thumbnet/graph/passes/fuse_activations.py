"""relu and relu6 moved into the node that computes their input."""

from __future__ import annotations

from dataclasses import replace

from thumbnet.graph.graph import Graph, Node
from thumbnet.graph.passes.rewrite import has_one_reader, merge

FUSED = ("relu", "relu6")
HOSTS = ("conv2d", "depthwise_conv2d", "conv_transpose2d", "dense", "add", "sub")
# Ops that only choose among their input's values: an increasing function with f(0) = 0 may as well come
# first.
COMMUTES = ("max_pool2d", "flatten", "reshape", "transpose", "pad", "slice", "resize")


def fuse_activations(graph: Graph) -> Graph:
    """Fuses relu and relu6 into the convolution, dense layer or addition before them.

    Keeps: the function, exactly. An activation behind a max pool, a flatten or the like moves in front of it
    first. Left alone: activations whose input has other readers or is a graph output.
    """
    for name in [n.name for n in graph.nodes if n.op in FUSED]:
        graph = _hoist(graph, name)
    for name in [n.name for n in graph.nodes if n.op in FUSED]:
        node = graph.by_name[name]
        host = graph.by_name.get(node.inputs[0])
        if host is None or host.op not in HOSTS or not has_one_reader(graph, host.name):
            continue
        if host.attrs.get("activation", "none") == "none":
            graph = merge(graph, host, node, host.with_attrs(activation=node.op))
    return graph


def _hoist(graph: Graph, name: str) -> Graph:
    """Swaps the activation with the nodes before it for as long as that brings it nearer to a host."""
    node = graph.by_name[name]
    chain: list[Node] = []
    before = graph.by_name.get(node.inputs[0])
    while before is not None and _commutes(before) and has_one_reader(graph, before.name):
        chain.append(before)
        before = graph.by_name.get(before.inputs[0])
    if not chain or before is None or before.op not in HOSTS or not has_one_reader(graph, before.name):
        return graph
    # The values between keep their names; the last one takes over the activation's, which readers know.
    first, last = chain[-1], chain[0]
    moved = replace(node, name=f"{before.name}.{node.op}", inputs=first.inputs)
    if moved.name in graph.by_name:
        return graph
    swapped = {first.name: replace(first, inputs=(moved.name,))}
    swapped[last.name] = replace(swapped.get(last.name, last), name=node.name)
    nodes: list[Node] = []
    for n in graph.nodes:
        if n.name == name:
            continue
        if n.name == first.name:
            nodes.append(moved)
        nodes.append(swapped.get(n.name, n))
    return graph.with_nodes(nodes)


def _commutes(node: Node) -> bool:
    return node.op in COMMUTES and node.attrs.get("mode") != "bilinear"  # which mixes values
