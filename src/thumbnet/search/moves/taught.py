"""Better inheritance: weights that blocks learned by themselves, from the reference's features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from thumbnet.errors import ModelError
from thumbnet.graph.graph import Graph, Node
from thumbnet.integer.quantization import Floats
from thumbnet.search.recipe import Context, Move


@dataclass(frozen=True)
class InheritTaught(Move):
    """The blocks of these variants start with what local distillation taught them (see `search/variants.py`).

    Only weights change. The moves that make the variants come before, narrower widths behind.
    """

    kind: ClassVar[str] = "taught"
    variants: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "variants", tuple(self.variants))  # a list where it comes from JSON

    def apply(self, graph: Graph, context: Context) -> Graph:
        lost = [v for v in self.variants if v not in context.taught]
        if lost:
            raise ModelError(
                f"Nothing was taught to '{lost[0]}'.", "Give the variants of the run that made the recipe."
            )
        known = {node: own for v in self.variants for node, own in context.taught[v].items()}
        return graph.with_nodes(_with(n, known[n.name]) if n.name in known else n for n in graph.nodes)

    @classmethod
    def options(cls, graph: Graph) -> tuple[InheritTaught, ...]:
        return ()  # a graph alone does not tell what was taught

    def __str__(self) -> str:
        return f"taught weights in {len(self.variants)} blocks"


def _with(node: Node, weights: Mapping[str, Floats]) -> Node:
    fits = {k: w for k, w in weights.items() if k in node.weights and node.weights[k].shape == w.shape}
    if fits.keys() != node.weights.keys():
        raise ModelError(f"What was taught does not fit '{node.name}'.", "Apply the variant's own moves before.")
    return node.with_weights(**fits)
