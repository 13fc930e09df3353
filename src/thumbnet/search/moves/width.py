"""Narrower: keep the most important channels of each group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thumbnet.graph.channels import channel_groups, keep_channels
from thumbnet.graph.graph import Graph
from thumbnet.search.recipe import Context, Move
from thumbnet.training.normalize import LINEAR


@dataclass(frozen=True)
class SetWidths(Move):
    """`widths[group]` channels stay of each named channel group, the most important ones, in their old order.

    All groups change at once, since a network with many groups would otherwise be sliced as many times. Of a group
    that is not in the context, because another move made it, the first channels stay: such moves put what matters first
    (`LowRank` orders by singular value). Groups may be named as in either form of the graph.
    """

    kind: ClassVar[str] = "widths"
    widths: dict[str, int]

    @classmethod
    def options(cls, graph: Graph) -> tuple[SetWidths, ...]:
        """Each group that is not pinned, halved."""
        return tuple(cls({g.id: g.size // 2}) for g in channel_groups(graph) if not g.pinned and g.size > 1)

    def apply(self, graph: Graph, context: Context) -> Graph:
        there = {g.id for g in channel_groups(graph)}
        kept = {}
        for group, width in self.widths.items():
            names = (group, group.removesuffix(LINEAR), group + LINEAR)
            own = next((n for n in names if n in there), group)
            known = next((context.importance[n] for n in names if n in context.importance), None)
            # Stable: of equally important channels the first stays, on every platform.
            order = range(width) if known is None else np.argsort(-known, kind="stable")[:width]
            kept[own] = sorted(int(k) for k in order)
        return keep_channels(graph, kept)

    def __str__(self) -> str:
        return "widths " + ", ".join(f"{g} → {w}" for g, w in self.widths.items())
