"""Smaller input images, for networks that do not depend on a fixed size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from thumbnet.graph.graph import Graph, Input
from thumbnet.search.recipe import Context, Move
from thumbnet.search.space import resolutions


@dataclass(frozen=True)
class SetResolution(Move):
    """The input becomes `height` × `width`. Raises `ModelError` from validation where a dense layer fixes the size."""

    kind: ClassVar[str] = "resolution"
    height: int
    width: int

    @classmethod
    def options(cls, graph: Graph) -> tuple[SetResolution, ...]:
        """Smaller sizes that the network accepts, largest first."""
        return tuple(cls(*size) for size in resolutions(graph)[1:])

    def apply(self, graph: Graph, context: Context) -> Graph:
        first, *rest = graph.inputs
        resized = Input(first.name, (first.shape[0], self.height, self.width))
        return replace(graph, inputs=(resized, *rest))

    def __str__(self) -> str:
        return f"input {self.height} × {self.width}"
