"""Layers split in two through fewer channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from thumbnet.errors import ModelError
from thumbnet.graph.graph import Graph, Node
from thumbnet.search.moves.layers import (
    bare_name,
    float32,
    layer_of,
    layers,
    pays,
    pointwise,
    replaced,
    with_fixed_signs,
    without_activation,
)
from thumbnet.search.recipe import Context, Move

STEP = 4  # ranks are multiples of it: kernels work on four channels at a time
FRACTIONS = (1 / 2, 1 / 4)  # of the smaller of inputs and outputs
_NEGLIGIBLE = 1e-6  # of the largest singular value: what is below counts as that, so that nothing is divided by zero

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LowRank(Move):
    """A dense layer or dense convolution becomes two through `<node>.reduced`, a value of `rank` channels.

    The first has the window, stride, padding and dilation of the old one; the second, 1×1, has its name, bias, batch
    norm and activation. Nothing is between them. Weights: the matrix [outputs, inputs · window] cut to its `rank`
    largest singular values, the nearest of that rank; each singular value is split evenly (its root to both), so that
    neither half trains faster. The channels between are ordered by singular value, largest first: narrowing their group
    to its first channels is the same as the move at a lower rank. Exact at full rank.
    """

    kind: ClassVar[str] = "low_rank"
    node: str
    rank: int

    @classmethod
    def options(cls, graph: Graph) -> tuple[LowRank, ...]:
        """Half and a quarter of the smaller side, in steps of four, where both layers together take fewer bytes."""
        found = []
        for name, node in layers(graph, "conv2d", "dense"):
            if not _splits(node) or f"{name}.reduced" in graph.by_name:  # which has been done
                continue
            smaller = min(node.weights["weight"].shape[:2])
            ranks = dict.fromkeys(max(STEP, round(smaller * f / STEP) * STEP) for f in FRACTIONS)
            found += [cls(name, rank) for rank in ranks if rank < smaller and pays(node, _shapes(node, rank))]
        return tuple(found)

    def apply(self, graph: Graph, context: Context) -> Graph:
        node = layer_of(graph, self.node)
        weight = node.weights["weight"]
        matrix = weight.reshape(len(weight), -1).astype(np.float64)
        if not _splits(node) or not 1 <= self.rank <= min(matrix.shape):
            raise ModelError(
                f"'{self.node}' cannot be split through {self.rank} channels.",
                f"Name a dense layer or convolution; its rank is at most {min(matrix.shape)}.",
            )
        mixing, reduced = factors(matrix, self.rank)
        name = f"{bare_name(graph, node)}.reduced"
        first = float32(reduced.reshape(self.rank, *weight.shape[1:]))
        second = float32(mixing.reshape(len(weight), self.rank, *[1] * (weight.ndim - 2)))
        return replaced(graph, node, _halves(node, name, first, second))

    def __str__(self) -> str:
        return f"{self.node} through {self.rank} channels"


def factors(matrix: Doubles, rank: int) -> tuple[Doubles, Doubles]:
    """[O, rank] and [rank, N] whose product is the matrix [O, N] of this rank that is nearest to `matrix`.

    By the eigenvectors of the smaller of AAᵀ and AᵀA: singular values far below the largest lose digits that way, which
    the product does not see, since it is a projection of `matrix` whatever they are.
    """
    if len(matrix) > matrix.shape[1]:
        first, second = factors(np.ascontiguousarray(matrix.T), rank)
        return second.T, first.T
    squares, vectors = np.linalg.eigh(matrix @ matrix.T)
    left = with_fixed_signs(vectors[:, ::-1][:, :rank].T)  # [rank, O], largest first
    values = np.sqrt(np.maximum(squares[::-1][:rank], 0))
    root = np.sqrt(np.maximum(values, max(float(values[0]), _NEGLIGIBLE) * _NEGLIGIBLE))[:, None]
    return (left * root).T, left @ matrix / root


def _splits(node: Node) -> bool:
    return node.op == "dense" or (node.op == "conv2d" and int(node.attrs.get("groups", 1)) == 1)


def _halves(node: Node, name: str, first: Floats, second: Floats) -> list[Node]:
    reduced = Node(name, node.op, node.inputs, without_activation(node), {"weight": first})
    if node.op == "dense":
        return [reduced, Node(node.name, "dense", (name,), node.attrs, {**node.weights, "weight": second})]
    return [reduced, pointwise(node, name, second)]


def _shapes(node: Node, rank: int) -> list[Node]:
    """The halves with weights that only have the right shapes."""
    outputs, *rest = node.weights["weight"].shape
    first = np.broadcast_to(np.float32(0), (rank, *rest))
    second = np.broadcast_to(np.float32(0), (outputs, rank, *[1] * (len(rest) - 1)))
    return _halves(node, "", first, second)
