"""Precision: weights of 4 bits instead of 8, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from thumbnet.errors import ModelError
from thumbnet.graph.graph import Graph, Node
from thumbnet.integer.quantization import WEIGHT_AXES
from thumbnet.search.moves.layers import layer_of
from thumbnet.search.recipe import Context, Move
from thumbnet.training.normalize import LINEAR

LEAST_WEIGHTS = 256  # fewer are not worth a second kernel


@dataclass(frozen=True)
class SetBits(Move):
    """The weights of the layers `nodes` get `bits` bits in the integer network; in float nothing changes but the
    rounding that training shows them."""

    kind: ClassVar[str] = "bits"
    nodes: tuple[str, ...]
    bits: int = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", tuple(self.nodes))  # a list where it comes from JSON

    def apply(self, graph: Graph, context: Context) -> Graph:
        chosen = set()
        for name in self.nodes:
            node = layer_of(graph, name)
            if not _has_bits(node) or self.bits not in (4, 8):
                raise ModelError(f"The weights of '{name}' cannot have {self.bits} bits.", "Choose 4 or 8.")
            chosen.add(node.name)
        return graph.with_nodes(
            replace(n, attrs={**n.attrs, "weight_bits": self.bits}) if n.name in chosen else n for n in graph.nodes
        )

    @classmethod
    def options(cls, graph: Graph) -> tuple[SetBits, ...]:
        return tuple(
            cls((n.name.removesuffix(LINEAR),))
            for n in graph.nodes
            if _has_bits(n) and n.op != "depthwise_conv2d" and n.weights["weight"].size >= LEAST_WEIGHTS
        )

    def __str__(self) -> str:
        return f"weights of {self.bits} bits: {', '.join(self.nodes)}"


def _has_bits(node: Node) -> bool:
    return node.op in WEIGHT_AXES and node.op != "conv_transpose2d"
