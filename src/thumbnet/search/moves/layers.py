"""How moves find layers: by their names in the reference, whichever form of it they are applied to."""

from __future__ import annotations

from thumbnet.errors import ModelError
from thumbnet.graph.graph import Graph, Node
from thumbnet.training.normalize import LINEAR


def layer_of(graph: Graph, name: str) -> Node:
    """The node with the weights of layer `name`: in a normalized graph, where a batch norm or an activation has taken
    over the name, that is `<name>.linear`. Raises `ModelError` where there is none."""
    node = graph.by_name.get(name + LINEAR) or graph.by_name.get(name)
    if node is None or "weight" not in node.weights:
        raise ModelError(f"Graph '{graph.name}' has no layer '{name}'.", "Name a convolution or a dense layer.")
    return node
