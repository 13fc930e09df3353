"""Activations spelled out in several operations, recognized as the one they are."""

from __future__ import annotations

import numpy as np

from thumbnet.graph.graph import Graph, Node
from thumbnet.graph.ops.batch_norm import scale_and_offset
from thumbnet.graph.passes.dead_nodes import dead_nodes


def fuse_composites(graph: Graph) -> Graph:
    """Finds relu6(x + 3) / 6 (hard sigmoid), x times that or times sigmoid(x) (hard swish, SiLU), and relu6 of relu.

    Keeps: the function, up to float rounding. One operation is one table lookup on the device; spelled out it would
    be quantized at every step. Constants arrive from importers as batch norms.
    """
    for name in [n.name for n in graph.nodes]:
        node = graph.by_name[name]
        found = _recognize(graph, node)
        if found is not None:
            op, value = found
            made = Node(name, op, (value,))
            graph = graph.with_nodes(made if n.name == name else n for n in graph.nodes)
    return dead_nodes(graph)


def _recognize(graph: Graph, node: Node) -> tuple[str, str] | None:
    """(operation, its input) that computes the same as `node`, if any."""
    before = graph.by_name.get(node.inputs[0])
    if node.op == "relu6" and before is not None and before.op == "relu":
        return "relu6", before.inputs[0]
    if node.op == "mul":
        return _gated(graph, node, {"sigmoid": "silu", "hard_sigmoid": "hard_swish"})
    if before is None or not _is_affine(node, 1 / 6, 0):
        return None
    if before.op == "mul":  # x · relu6(x + 3) / 6
        for x, other in (before.inputs, before.inputs[::-1]):
            if _is_gate(graph, graph.by_name.get(other), x):
                return "hard_swish", x
    shifted = graph.by_name.get(before.inputs[0])
    if shifted is not None and _is_gate(graph, before, shifted.inputs[0]):
        return "hard_sigmoid", shifted.inputs[0]
    return None


def _gated(graph: Graph, node: Node, gates: dict[str, str]) -> tuple[str, str] | None:
    for x, other in (node.inputs, node.inputs[::-1]):
        gate = graph.by_name.get(other)
        if gate is not None and gate.op in gates and gate.inputs == (x,):
            return gates[gate.op], x
    return None


def _is_gate(graph: Graph, node: Node | None, x: str) -> bool:
    """Whether the node is relu6(x + 3)."""
    if node is None or node.op != "relu6":
        return False
    shifted = graph.by_name.get(node.inputs[0])
    return shifted is not None and shifted.inputs == (x,) and _is_affine(shifted, 1, 3)


def _is_affine(node: Node, scale: float, offset: float) -> bool:
    if node.op != "batch_norm":
        return False
    own_scale, own_offset = scale_and_offset(node)
    return bool(np.allclose(own_scale, scale, 1e-6, 0) and np.allclose(own_offset, offset, 1e-6, 1e-9))
