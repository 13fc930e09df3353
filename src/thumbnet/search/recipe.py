"""Moves and recipes: a candidate is the ordered list of changes that makes it from the reference.

A recipe is JSON and can be replayed: the same reference and the same recipe give the same graph, to the bit.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from thumbnet.graph.graph import Graph


@dataclass(frozen=True, eq=False)
class Context:
    """What moves may consult: how much each channel and each skippable block of the reference matters, and its input.

    `importance[group]` holds one number ≥ 0 per removable channel of the group, in the reference's order;
    `blocks[name]` one number ≥ 0. What other moves have put into the network is in neither.
    `taught[variant][node]` holds the weights that a variant of a block has learned.
    `colours`: (gain, offset) by which each colour, normalized as the reference takes it, follows from normalized grey.
    """

    importance: Mapping[str, npt.NDArray[np.float64]]
    blocks: Mapping[str, float] = field(default_factory=dict)
    taught: Mapping[str, Mapping[str, Mapping[str, npt.NDArray[np.float32]]]] = field(default_factory=dict)
    colours: tuple[tuple[float, float], ...] = ((1.0, 0.0),) * 3


class Move(ABC):
    """One change to a network. Implementations are frozen dataclasses of JSON values, one per file in `moves/`."""

    kind: ClassVar[str]

    @classmethod
    @abstractmethod
    def options(cls, graph: Graph) -> tuple[Move, ...]:
        """Every move of this kind that `graph` allows, each to be applied by itself, in the order of execution."""

    @abstractmethod
    def apply(self, graph: Graph, context: Context) -> Graph:
        """The changed graph. Weights are inherited wherever they still mean the same."""

    @abstractmethod
    def __str__(self) -> str:
        """The change in a few words, for the report."""

    def json(self) -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return {"kind": self.kind, **values}


@dataclass(frozen=True)
class Recipe:
    """The moves that turn the reference into a candidate, in the order in which they are applied."""

    moves: tuple[Move, ...]

    def apply(self, reference: Graph, context: Context) -> Graph:
        graph = reference
        for move in self.moves:
            graph = move.apply(graph, context)
        graph.validate()
        return graph

    def json(self) -> dict[str, Any]:
        return {"moves": [m.json() for m in self.moves]}

    @property
    def id(self) -> str:
        """Short name, equal for equal recipes."""
        return hashlib.sha256(json.dumps(self.json(), sort_keys=True).encode()).hexdigest()[:10]

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Recipe:
        from thumbnet.search.moves import MOVES

        moves = []
        for item in data["moves"]:
            values = {k: v for k, v in item.items() if k != "kind"}
            moves.append(MOVES[item["kind"]](**values))
        return Recipe(tuple(moves))
