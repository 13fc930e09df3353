"""Weights of four bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from thumbnet.graph.graph import Graph
from thumbnet.integer.quantization import weight_bits, with_weight_bits
from thumbnet.search.moves.layers import layer_of, layers
from thumbnet.search.recipe import Context, Move


@dataclass(frozen=True)
class SetBits(Move):
    """Each weight of the layer `node` gets `bits[node]` bits, 4 or 8, in the integer network.

    The float function stays exactly; quantization-aware training and lowering read the node's attr `weight_bits`.
    """

    kind: ClassVar[str] = "bits"
    bits: dict[str, int]

    @classmethod
    def options(cls, graph: Graph) -> tuple[SetBits, ...]:
        """Each layer that has 8 bits, alone, with 4. Transposed convolutions have no kernels for that."""
        allowed = layers(graph, "conv2d", "depthwise_conv2d", "dense")
        return tuple(cls({name: 4}) for name, node in allowed if weight_bits(node) == 8)

    def apply(self, graph: Graph, context: Context) -> Graph:
        return with_weight_bits(graph, {layer_of(graph, name).name: bits for name, bits in self.bits.items()})

    def __hash__(self) -> int:
        return hash(tuple(sorted(self.bits.items())))

    def __str__(self) -> str:
        return "weight bits " + ", ".join(f"{name} → {bits}" for name, bits in self.bits.items())
