"""Shallower: leave out a residual branch, or everything behind a block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from thumbnet.errors import ModelError
from thumbnet.graph.blocks import skip_block, skippable_blocks, truncate
from thumbnet.graph.graph import Graph
from thumbnet.search.moves.layers import joined
from thumbnet.search.recipe import Context, Move
from thumbnet.search.space import cuts


@dataclass(frozen=True)
class SkipBlock(Move):
    """The block is replaced by its identity path."""

    kind: ClassVar[str] = "skip"
    block: str

    @classmethod
    def options(cls, graph: Graph) -> tuple[SkipBlock, ...]:
        return tuple(cls(b.name) for b in skippable_blocks(graph))

    def apply(self, graph: Graph, context: Context) -> Graph:
        block = next((b for b in skippable_blocks(graph) if b.name == self.block), None)
        if block is None:
            raise ModelError(f"Block '{self.block}' cannot be skipped: its ends differ.", "Skip before narrowing.")
        return joined(skip_block(graph, block), block.exit)  # of the block, an activation may be left

    def __str__(self) -> str:
        return f"without block {self.block}"


@dataclass(frozen=True)
class Truncate(Move):
    """The network ends at `value`, with global pooling and a linear layer, fitted to the reference's answers later."""

    kind: ClassVar[str] = "truncate"
    value: str

    @classmethod
    def options(cls, graph: Graph) -> tuple[Truncate, ...]:
        """The cut points, deepest first."""
        return tuple(cls(v) for v in cuts(graph))

    def apply(self, graph: Graph, context: Context) -> Graph:
        return truncate(graph, self.value)

    def __str__(self) -> str:
        return f"ends after {self.value}"
