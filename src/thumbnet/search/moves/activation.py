"""Activations exchanged for cheaper ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from thumbnet.errors import ModelError
from thumbnet.graph.graph import Graph, Node
from thumbnet.search.moves.layers import joined
from thumbnet.search.recipe import Context, Move

# relu and relu6 cost nothing: they are clamps that the layer before has anyway. A hard sigmoid is a requantization;
# all others are a pass over the value with a table of 256 bytes, prelu one with two multiplications. A function with
# bounds stays one with bounds where it gates something: only the sigmoid has a cheaper one.
CHEAPER = {
    "hard_swish": ("relu", "relu6"),
    "silu": ("relu", "relu6"),
    "elu": ("relu", "relu6"),
    "leaky_relu": ("relu", "relu6"),
    "prelu": ("relu", "relu6"),
    "tanh": ("relu", "relu6"),
    "sigmoid": ("hard_sigmoid",),
}


@dataclass(frozen=True)
class SwapActivation(Move):
    """The activation `node` becomes a cheaper one, and moves into the layer before it where that can hold it.

    All weights stay, but for the slopes of a prelu. What the activation is exchanged for is alike where its input is
    large; the layers around have to learn the rest.
    """

    kind: ClassVar[str] = "activation"
    node: str
    activation: str

    @classmethod
    def options(cls, graph: Graph) -> tuple[SwapActivation, ...]:
        """The cheaper functions for each activation whose values are not the network's answers."""
        places = (n for n in graph.nodes if n.name not in graph.outputs)
        return tuple(cls(n.name, a) for n in places for a in CHEAPER.get(n.op, ()))

    def apply(self, graph: Graph, context: Context) -> Graph:
        node = graph.by_name.get(self.node)
        if node is None or self.activation not in CHEAPER.get(node.op, ()):
            raise ModelError(
                f"'{self.node}' cannot become {self.activation}.",
                "; ".join(f"{old} can become {' or '.join(new)}" for old, new in CHEAPER.items()) + ".",
            )
        swapped = Node(node.name, self.activation, node.inputs)
        return joined(graph.with_nodes(swapped if n.name == node.name else n for n in graph.nodes), node.name)

    def __str__(self) -> str:
        return f"{self.activation} at {self.node}"
