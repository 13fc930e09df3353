"""What the moves of single layers share: finding a layer by its name in both forms of a graph, and what it takes.

Recipes are applied to the normalized reference, where a convolution is called `<name>.linear` and the batch norm or
activation behind it has its name (see `insert_batch_norm`), and to its bare form, whose convolutions have their own
names. Moves name layers as the bare form does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from thumbnet.errors import ModelError
from thumbnet.graph.blocks import WEIGHTED
from thumbnet.graph.graph import Graph, Node
from thumbnet.graph.passes import fuse_activations, remove_identity
from thumbnet.graph.passes.fold_pad import never_negative
from thumbnet.graph.passes.rewrite import bypass
from thumbnet.integer.quantization import weight_bits
from thumbnet.training.normalize import LINEAR

CHANNEL_BYTES = 12  # of each output channel of a layer: bias, multiplier, shift (int32 each)

Doubles = npt.NDArray[np.float64]


def layer_of(graph: Graph, name: str) -> Node:
    """The layer with weights that is called `name` in the bare form. Raises `ModelError` where there is none."""
    for known in (name + LINEAR, name, name.removesuffix(LINEAR)):
        node = graph.by_name.get(known)
        if node is not None and node.op in WEIGHTED:
            return node
    raise ModelError(f"Graph '{graph.name}' has no layer '{name}'.", "Another move has taken it out: apply this first.")


def bare_name(graph: Graph, node: Node) -> str:
    """What the layer is called in the bare form."""
    bare = node.name.removesuffix(LINEAR)
    return bare if bare in graph.by_name else node.name


def layers(graph: Graph, *ops: str) -> Iterator[tuple[str, Node]]:
    """(name in the bare form, node) of each layer of these operations, in execution order."""
    for node in graph.nodes:
        if node.op in ops:
            yield bare_name(graph, node), node


def stored_bytes(node: Node) -> float:
    """What the layer's parameters take in flash."""
    weight = node.weights["weight"]
    return weight.size * weight_bits(node) / 8 + CHANNEL_BYTES * len(weight)


def pays(old: Node, new: Sequence[Node]) -> bool:
    """Whether these layers take fewer bytes than the one they stand in for."""
    return sum(stored_bytes(n) for n in new) < stored_bytes(old)


def replaced(graph: Graph, old: Node, new: Sequence[Node]) -> Graph:
    """The graph with `new` in the place of `old`; the last of them has its name, the others names of their own."""
    taken = {i.name for i in graph.inputs} | set(graph.by_name)
    for node in new[:-1]:
        if node.name in taken:
            raise ModelError(f"There is a value '{node.name}' already.", "Apply this move once only.")
    nodes: list[Node] = []
    for node in graph.nodes:
        nodes.extend(new if node.name == old.name else (node,))
    return graph.with_nodes(nodes)


def joined(graph: Graph, activation: str) -> Graph:
    """The graph with a new relu or relu6 of this name where `clean` would have it: in the layer before it, if that can
    be, and nowhere if it changes nothing. The end of a part of a network stays: in the whole, others read it."""
    if activation in graph.outputs:
        return graph
    node = graph.by_name.get(activation)
    if node is not None and node.op == "relu" and never_negative(graph, node.inputs[0]):
        graph = bypass(graph, node)
    return remove_identity(fuse_activations(graph))


def pointwise(old: Node, source: str, weight: npt.NDArray[np.float32]) -> Node:
    """A 1×1 convolution that reads `source`, with the name, bias, activation and bits of `old`. weight [O, I, 1, 1]."""
    attrs = {**old.attrs, "stride": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1]}
    return replace(old, inputs=(source,), attrs=attrs, weights={**old.weights, "weight": weight})


def without_activation(node: Node) -> dict[str, object]:
    return {**node.attrs, "activation": "none"}


def with_fixed_signs(vectors: Doubles) -> Doubles:
    """[..., N] scaled by ±1 so that the largest entry of each is positive: which sign a library finds is chance."""
    at = np.abs(vectors).argmax(-1)[..., None]
    return np.where(np.take_along_axis(vectors, at, -1) < 0, -vectors, vectors)


def float32(array: Doubles) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(array, np.float32)
