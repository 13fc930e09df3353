"""One channel instead of the three of a colour image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from thumbnet.errors import ModelError
from thumbnet.graph.graph import Graph, Input, Node
from thumbnet.search.recipe import Context, Move

# Operations that do the same to every channel.
_EACH_ALIKE = ("pad", "max_pool2d", "avg_pool2d", "resize")


@dataclass(frozen=True)
class GreyInput(Move):
    """The first input, an RGB image, becomes a grey one; kernels that read it are summed over the colours.

    Where mean and std differ by colour, `Context.colours` says how each normalized colour follows from the normalized
    grey; gains go into the kernels, offsets into the biases. For images whose colours are equal the function stays
    exactly, but for the borders that padding makes where there are offsets: padded zeros do not have them. Data follow
    by `Preprocessing.at`.
    """

    kind: ClassVar[str] = "grey"

    @classmethod
    def options(cls, graph: Graph) -> tuple[GreyInput, ...]:
        """Once, where the first input has three channels, more than one row, and convolutions alone mix its colours."""
        shape = graph.inputs[0].shape
        possible = len(shape) == 3 and shape[0] == 3 and shape[1] > 1 and _readers(graph) is not None
        return (cls(),) if possible else ()

    def apply(self, graph: Graph, context: Context) -> Graph:
        readers = _readers(graph)
        if not self.options(graph) or readers is None:
            raise ModelError(
                f"Graph '{graph.name}' cannot take grey images.", "It needs a first input (3, height, width)."
            )
        changed = {n.name: _of_grey(n, context.colours) for n in readers}
        first, *rest = graph.inputs
        grey = Input(first.name, (1, *first.shape[1:]))
        return replace(graph, inputs=(grey, *rest), nodes=tuple(changed.get(n.name, n) for n in graph.nodes))

    def __str__(self) -> str:
        return "grey input"


def _readers(graph: Graph) -> list[Node] | None:
    """The convolutions that read the image, be it padded or pooled; None where something else does."""
    colour, found = {graph.inputs[0].name}, []
    for node in graph.nodes:
        if not colour & set(node.inputs):
            continue
        if node.op in _EACH_ALIKE:
            colour.add(node.name)
        elif node.op == "depthwise_conv2d" or (node.op == "conv2d" and int(node.attrs.get("groups", 1)) == 1):
            found.append(node)
        else:
            return None
    return None if colour & set(graph.outputs) else found


def _of_grey(node: Node, colours: Sequence[tuple[float, float]]) -> Node:
    """The convolution on one channel. A depthwise one is a dense one then: all its outputs read that channel."""
    gain, offset = (np.array(column, np.float64) for column in zip(*colours, strict=True))
    weight = node.weights["weight"].astype(np.float64)
    if node.op == "depthwise_conv2d":
        read = np.arange(len(weight)) // (len(weight) // 3)  # which colour each output reads
        summed, extra = weight * gain[read, None, None, None], weight.sum((1, 2, 3)) * offset[read]
        node = replace(node, op="conv2d", attrs={**node.attrs, "groups": 1})
    else:
        summed = (weight * gain[:, None, None]).sum(1, keepdims=True)
        extra = weight.sum((2, 3)) @ offset
    weights = {**node.weights, "weight": np.ascontiguousarray(summed, np.float32)}
    if offset.any():
        weights["bias"] = (node.weights.get("bias", np.zeros(len(weight))) + extra).astype(np.float32)
    return replace(node, weights=weights)
