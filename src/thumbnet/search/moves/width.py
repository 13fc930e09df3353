"""Narrower: keep the most important channels of each group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thumbnet.graph.channels import channel_groups, keep_channels
from thumbnet.graph.graph import Graph
from thumbnet.search.recipe import Context, Move


@dataclass(frozen=True)
class SetWidths(Move):
    """`widths[group]` channels stay of each named channel group, the most important ones, in their old order.

    All groups change at once, since a network with many groups would otherwise be sliced as many times.
    """

    kind: ClassVar[str] = "widths"
    widths: dict[str, int]

    def apply(self, graph: Graph, context: Context) -> Graph:
        kept = {}
        for group, width in self.widths.items():
            # Stable: of equally important channels the first stays, on every platform.
            scores = context.importance.get(group)
            # A group that a move made has its channels in the order of their importance already.
            order = range(width) if scores is None else np.argsort(-scores, kind="stable")[:width]
            kept[group] = sorted(int(k) for k in order)
        return keep_channels(graph, kept)

    @classmethod
    def options(cls, graph: Graph) -> tuple[SetWidths, ...]:
        """Half of the channels of each group."""
        groups = (g for g in channel_groups(graph) if not g.pinned and g.size > 1)
        return tuple(cls({g.id: max(1, g.size // 2)}) for g in groups)

    def __str__(self) -> str:
        return "widths " + ", ".join(f"{g} → {w}" for g, w in self.widths.items())
