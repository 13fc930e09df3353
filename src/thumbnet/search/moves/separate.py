"""Other operations: a dense convolution becomes a depthwise one and a pointwise one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from thumbnet.errors import ModelError
from thumbnet.graph.graph import Graph, Node
from thumbnet.integer.quantization import Floats
from thumbnet.search.moves.layers import layer_of
from thumbnet.search.recipe import Context, Move
from thumbnet.training.normalize import LINEAR

SPATIAL = ".spatial"
LEAST_INPUTS = 4  # the few channels of an input image have nothing to separate
CHANNEL_BYTES = 12  # bias, multiplier and shift of an output channel


@dataclass(frozen=True)
class Separate(Move):
    """The convolution `node` becomes a depthwise convolution `<node>.spatial` with its kernel size, stride, dilation
    and padding, and a 1×1 convolution with its name, bias and everything that followed.

    Nothing stands between the two (Chollet, "Xception", CVPR 2017, section 4.7, found no activation to be best). Of the
    weights, each input channel keeps its best rank-1 part: the filter of unit norm that explains most of what the
    channel gives to all outputs, and how much of it each output takes. That is the least-squares fit for white inputs.
    """

    kind: ClassVar[str] = "separate"
    node: str

    def apply(self, graph: Graph, context: Context) -> Graph:
        conv = layer_of(graph, self.node)
        if not _separable(conv):
            raise ModelError(
                f"'{self.node}' is no convolution that could be separated.", "See Separate.options(graph)."
            )
        weight = conv.weights["weight"]
        filters, mix = _factors(weight)
        name = conv.name.removesuffix(LINEAR) + SPATIAL
        spatial = {k: v for k, v in conv.attrs.items() if k in ("stride", "padding", "dilation", "weight_bits")}
        depthwise = Node(name, "depthwise_conv2d", conv.inputs, {**spatial, "activation": "none"}, {"weight": filters})
        attrs = {**conv.attrs, "stride": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1]}
        pointwise = replace(conv, inputs=(name,), attrs=attrs).with_weights(weight=mix)
        nodes = [m for n in graph.nodes for m in ((depthwise, pointwise) if n.name == conv.name else (n,))]
        return graph.with_nodes(nodes)

    @classmethod
    def options(cls, graph: Graph) -> tuple[Separate, ...]:
        return tuple(cls(n.name.removesuffix(LINEAR)) for n in graph.nodes if _separable(n) and _pays(n))

    def __str__(self) -> str:
        return f"{self.node} depthwise-separable"


def _separable(node: Node) -> bool:
    if node.op != "conv2d" or node.attrs.get("groups", 1) != 1:
        return False
    _, inputs, height, width = node.weights["weight"].shape
    return bool(height * width > 1 and inputs >= LEAST_INPUTS)


def _pays(node: Node) -> bool:
    outputs, _, height, width = node.weights["weight"].shape
    taps = height * width
    return bool(taps + CHANNEL_BYTES + outputs < outputs * taps)  # each for every input channel


def _factors(weight: Floats) -> tuple[Floats, Floats]:
    """[I, 1, kh, kw] of unit norm and [O, I, 1, 1]: the best rank-1 part of each input channel's [O, kh · kw]."""
    outputs, inputs, height, width = weight.shape
    by_input = weight.astype(np.float64).transpose(1, 0, 2, 3).reshape(inputs, outputs, height * width)
    _, vectors = np.linalg.eigh(by_input.transpose(0, 2, 1) @ by_input)  # ascending
    filters = vectors[:, :, -1]
    filters = filters * np.where(filters.sum(1) < 0, -1.0, 1.0)[:, None]  # an eigenvector's sign means nothing
    mix = np.einsum("iok,ik->oi", by_input, filters)
    return (
        filters.reshape(inputs, 1, height, width).astype(np.float32),
        mix.reshape(outputs, inputs, 1, 1).astype(np.float32),
    )
