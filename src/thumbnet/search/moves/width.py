"""Narrower: keep the most important channels of each group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thumbnet.graph.channels import keep_channels
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
            order = np.argsort(-context.importance[group], kind="stable")
            kept[group] = sorted(int(k) for k in order[:width])
        return keep_channels(graph, kept)

    def __str__(self) -> str:
        return "widths " + ", ".join(f"{g} → {w}" for g, w in self.widths.items())
