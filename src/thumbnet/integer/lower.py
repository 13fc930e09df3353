"""From the float graph to the integer graph: the only place where layout changes (NCHW to NHWC).

Lowering takes a cleaned graph (batch norms folded, activations fused) and the observed range of every value, and fixes
all integer parameters once; simulator, TFLite and C only spell them.
"""

from __future__ import annotations

from collections.abc import Mapping

from thumbnet.errors import ModelError, UnsupportedOpError
from thumbnet.graph.graph import Graph, Node
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.lower_layers import LAYERS
from thumbnet.integer.lower_moves import MOVES
from thumbnet.integer.lowering import Lowerer, Work
from thumbnet.integer.quantization import KEEPS_QUANTIZATION, QParams, assign, check_weight_bits

__all__ = ["KEEPS_QUANTIZATION", "LOWER", "lower", "refused"]

LOWER: Mapping[str, Lowerer] = {**LAYERS, **MOVES}
_INSTEAD = {"log_softmax": "It has no integer form; use softmax, or have it last, where it is left out."}


def lower(
    graph: Graph,
    ranges: Mapping[str, tuple[float, float]] | None,
    *,
    fixed: Mapping[str, QParams] | None = None,
) -> IntegerGraph:
    """The integer graph of a cleaned float graph.

    `ranges[value]` is the observed (low, high) of every graph input and node; None lowers for costs alone, with unit
    ranges. `fixed[value]` forces (scale, zero point), such as those of an image input. Values of operations that keep
    their input's quantization share one range, the union. A node's attr `weight_bits` is 4 or 8, by default
    8. Raises
    `UnsupportedOpError` for an operation without integer form, and `ModelError` where a range is missing or not finite,
    or where a node has bits that it cannot have.
    """
    check_weight_bits(graph)
    work = Work(graph, assign(graph, ranges, fixed or {}))
    for value in graph.inputs:
        work.tensor(value.name, value.shape)
    for node in graph.nodes:
        _lower_node(work, node)
    outputs = tuple(work.canonical(v).name for v in graph.outputs)
    inputs = tuple(i.name for i in graph.inputs)
    return IntegerGraph(graph.name, work.tensors, inputs, tuple(work.nodes), outputs)


def refused(graph: Graph) -> list[ModelError]:
    """Why a cleaned graph has no integer form: an error for each node that has none; none where `lower` works."""
    work = Work(graph, assign(graph, None, {}))
    for value in graph.inputs:
        work.tensor(value.name, value.shape)
    found: list[ModelError] = []
    for node in graph.nodes:
        try:
            _lower_node(work, node)
        except ModelError as e:
            found.append(e)
            work.out(node)  # what reads it is looked at, too
    return found


def _lower_node(work: Work, node: Node) -> None:
    lowerer = LOWER.get(node.op)
    if lowerer is None:
        hint = _INSTEAD.get(node.op, "It has no integer form; fold or replace it first.")
        raise UnsupportedOpError(node.op, node.name, hint)
    lowerer(work, node)
