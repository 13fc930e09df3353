"""Dense convolutions made depthwise-separable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from thumbnet.errors import ModelError
from thumbnet.graph.graph import Graph, Node
from thumbnet.search.moves.layers import (
    bare_name,
    float32,
    layer_of,
    layers,
    pays,
    pointwise,
    replaced,
    with_fixed_signs,
    without_activation,
)
from thumbnet.search.recipe import Context, Move

LEAST_INPUTS = 4  # channels; with fewer, as in a first layer, the depthwise half costs as much as it saves

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Separate(Move):
    """A dense k×k convolution becomes a depthwise one, `<node>.spatial`, and a 1×1 convolution under the old name.

    The depthwise half has stride, padding and dilation; bias, batch norm and activation stay behind the 1×1 half, and
    nothing is between the two (Chollet, "Xception", CVPR 2017, section 4.7, found that best). Weights: per input
    channel the filters of all outputs, [O, k·k], are replaced by the nearest matrix of rank 1, which is the best fit
    for inputs without correlation. Each depthwise filter has norm 1, so that its output varies as much as its input:
    the channels of the value between, which share one int8 scale, reach equally far. Exact where the filters of each
    input channel are multiples of one.
    """

    kind: ClassVar[str] = "separate"
    node: str

    @classmethod
    def options(cls, graph: Graph) -> tuple[Separate, ...]:
        """Every dense k×k convolution of at least four channels whose two halves take fewer bytes."""
        return tuple(
            cls(name) for name, node in layers(graph, "conv2d") if _separable(node) and pays(node, _shapes(node))
        )

    def apply(self, graph: Graph, context: Context) -> Graph:
        node = layer_of(graph, self.node)
        if not _separable(node):
            raise ModelError(
                f"'{self.node}' cannot be made separable.",
                f"Only dense convolutions larger than 1×1, of at least {LEAST_INPUTS} channels, can.",
            )
        weight = node.weights["weight"]
        outputs, inputs, height, width = weight.shape
        matrices = weight.astype(np.float64).transpose(1, 0, 2, 3).reshape(inputs, outputs, height * width)
        # The right singular vector of the largest singular value, by way of the small matrices AᵀA.
        _, vectors = np.linalg.eigh(matrices.transpose(0, 2, 1) @ matrices)
        filters = with_fixed_signs(vectors[:, :, -1])  # [I, k·k]
        mixing = (matrices @ filters[:, :, None])[:, :, 0].T  # [O, I]
        return replaced(
            graph,
            node,
            _halves(
                node,
                f"{bare_name(graph, node)}.spatial",
                float32(filters.reshape(inputs, 1, height, width)),
                float32(mixing[:, :, None, None]),
            ),
        )

    def __str__(self) -> str:
        return f"{self.node} separable"


def _separable(node: Node) -> bool:
    if node.op != "conv2d" or int(node.attrs.get("groups", 1)) != 1:
        return False
    _, inputs, height, width = node.weights["weight"].shape
    return bool(height * width > 1 and inputs >= LEAST_INPUTS)


def _halves(node: Node, name: str, filters: Floats, mixing: Floats) -> list[Node]:
    attrs = {k: v for k, v in without_activation(node).items() if k != "groups"}
    spatial = Node(name, "depthwise_conv2d", node.inputs, attrs, {"weight": filters})
    return [spatial, pointwise(node, name, mixing)]


def _shapes(node: Node) -> list[Node]:
    """The halves with weights that only have the right shapes."""
    outputs, inputs, height, width = node.weights["weight"].shape
    zero = np.float32(0)
    filters, mixing = np.broadcast_to(zero, (inputs, 1, height, width)), np.broadcast_to(zero, (outputs, inputs, 1, 1))
    return _halves(node, "", filters, mixing)
