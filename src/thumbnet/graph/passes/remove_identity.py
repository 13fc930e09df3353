"""Nodes that hand on their input unchanged, taken out."""

from __future__ import annotations

from collections.abc import Callable

from thumbnet.graph.graph import Graph, Node
from thumbnet.graph.passes.rewrite import bypass, has_one_reader, merge


def remove_identity(graph: Graph) -> Graph:
    """Removes pads of nothing, flattened vectors, pools of one pixel, relus of relus and their like.

    Keeps: the function, exactly, and the names of the graph's outputs. A flatten behind a global pool that
    keeps its dimensions merges with it.
    """
    for name in [n.name for n in graph.nodes]:
        node = graph.by_name.get(name)
        if node is None:
            continue
        before = graph.by_name.get(node.inputs[0])
        if _is_identity(graph, node, before):
            graph = bypass(graph, node)
        elif node.op == "flatten" and before is not None and _pools_alone(graph, before):
            graph = merge(graph, before, node, before.with_attrs(keepdims=False))
    return graph


def _is_identity(graph: Graph, node: Node, before: Node | None) -> bool:
    shape = graph.shapes[node.inputs[0]]
    if graph.shapes[node.name] != shape:
        return False
    test = _TESTS.get(node.op)
    return test is not None and test(node, before)


def _pools_alone(graph: Graph, before: Node) -> bool:
    return before.op == "global_avg_pool" and has_one_reader(graph, before.name)


def _activation(before: Node | None) -> str:
    """The relu that `before` is or ends with, if any."""
    if before is None:
        return ""
    return before.op if before.op in ("relu", "relu6") else str(before.attrs.get("activation", "none"))


def _single_pixel(node: Node, before: Node | None) -> bool:
    return list(node.attrs["kernel"]) == [1, 1] and not any(node.attrs["padding"])


# For nodes whose output has the shape of their input.
_TESTS: dict[str, Callable[[Node, Node | None], bool]] = {
    "pad": lambda node, before: True,
    "flatten": lambda node, before: True,
    "reshape": lambda node, before: True,
    "slice": lambda node, before: True,
    "resize": lambda node, before: True,
    "concat": lambda node, before: len(node.inputs) == 1,
    "max_pool2d": _single_pixel,
    "avg_pool2d": _single_pixel,
    "global_avg_pool": lambda node, before: True,
    "relu": lambda node, before: (
        _activation(before) in ("relu", "relu6")
        or (before is not None and before.op in ("sigmoid", "hard_sigmoid", "softmax"))
    ),
    "relu6": lambda node, before: (
        _activation(before) == "relu6" or (before is not None and before.op in ("sigmoid", "hard_sigmoid", "softmax"))
    ),
}
