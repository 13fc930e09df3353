"""Batch normalization put back into a folded network without changing its function.

A folded network (every TFLite file, any network after `clean`) trains badly once channels are removed: nothing
re-centres its activations. Fresh batch norms would throw the pre-training away, since they start by normalizing every
channel to zero mean and unit variance. Here each one starts with the statistics measured on data as its running mean
and variance, and with their inverse as its gain and offset: in inference mode the function is exactly what it was, in
training mode it is the same up to the noise of batch statistics.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from thumbnet.graph.graph import Graph, Node
from thumbnet.training.module import GraphModule

EPSILON = 1e-3
LINEAR = ".linear"  # suffix of a convolution whose batch norm, or activation, has taken over its name
_CONVOLUTIONS = ("conv2d", "depthwise_conv2d", "conv_transpose2d")


def insert_batch_norm(graph: Graph, *images: torch.Tensor, batch: int = 16) -> Graph:
    """Adds a batch norm behind every convolution that has none.

    `images` is float32 [N, C, H, W], preprocessed, for each input of the network; a few hundred suffice. A fused
    activation moves behind the batch norm as a node of its own. Values keep their names (so that cut points and blocks
    are called alike before and after); the convolution itself is called `<name>.linear`. Convolutions that are outputs
    stay bare: what they answer must not depend on the other samples of a batch.
    """
    if any(n.op == "batch_norm" for n in graph.nodes):
        raise ValueError("insert_batch_norm expects a graph whose batch norms are folded; call clean() first")
    bare = graph.with_nodes(_without_activation(graph))
    taps = [n.name for n in bare.nodes if n.op in _CONVOLUTIONS and not _answers(graph, n)]
    mean, var = _statistics(bare, taps, images, batch)
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op not in _CONVOLUTIONS or node.name in graph.outputs:
            nodes.append(node)
            continue
        activation = node.attrs.get("activation", "none")
        own = node.name + LINEAR
        nodes.append(Node(own, node.op, node.inputs, {**node.attrs, "activation": "none"}, node.weights))
        tap = node.name if activation == "none" else own
        m, v = mean[tap], var[tap]
        weights = {"weight": np.sqrt(v + EPSILON).astype(np.float32), "bias": m, "mean": m, "var": v}
        norm = node.name if activation == "none" else node.name + ".norm"
        nodes.append(Node(norm, "batch_norm", (own,), {"eps": EPSILON}, weights))
        if activation != "none":
            nodes.append(Node(node.name, activation, (norm,)))
    out = graph.with_nodes(nodes)
    out.validate()
    return out


def restore_names(graph: Graph) -> Graph:
    """Gives convolutions their old names back once `clean` has folded the batch norms and fused the activations."""
    taken = {i.name for i in graph.inputs} | set(graph.by_name)
    new = {
        n: n.removesuffix(LINEAR) for n in graph.by_name if n.endswith(LINEAR) and n.removesuffix(LINEAR) not in taken
    }
    nodes = [
        replace(n, name=new.get(n.name, n.name), inputs=tuple(new.get(v, v) for v in n.inputs)) for n in graph.nodes
    ]
    return graph.with_nodes(nodes, tuple(new.get(v, v) for v in graph.outputs))


def _answers(graph: Graph, node: Node) -> bool:
    return node.name.removesuffix(LINEAR) in graph.outputs


def _without_activation(graph: Graph) -> list[Node]:
    """The same function with every convolution's activation as a node of its own, which gets the old name."""
    nodes: list[Node] = []
    for node in graph.nodes:
        activation = node.attrs.get("activation", "none")
        if node.op in _CONVOLUTIONS and activation != "none":
            inner = node.name + LINEAR
            nodes.append(Node(inner, node.op, node.inputs, {**node.attrs, "activation": "none"}, node.weights))
            nodes.append(Node(node.name, activation, (inner,)))
        else:
            nodes.append(node)
    return nodes


def _statistics(
    graph: Graph, taps: list[str], images: tuple[torch.Tensor, ...], batch: int
) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, npt.NDArray[np.float32]]]:
    module = GraphModule(graph).eval()
    total: dict[str, torch.Tensor] = {}
    square: dict[str, torch.Tensor] = {}
    count: dict[str, int] = {}
    with torch.inference_mode():
        for start in range(0, len(images[0]), batch):
            values = module.forward_values(*(x[start : start + batch] for x in images))
            for tap in taps:
                x = values[tap].double()
                total[tap] = total.get(tap, torch.zeros((), dtype=torch.float64)) + x.sum((0, 2, 3))
                square[tap] = square.get(tap, torch.zeros((), dtype=torch.float64)) + (x * x).sum((0, 2, 3))
                count[tap] = count.get(tap, 0) + x.numel() // x.shape[1]
    mean = {t: (total[t] / count[t]) for t in taps}
    var = {t: (square[t] / count[t] - mean[t] ** 2).clamp_min(0) for t in taps}
    return (
        {t: m.numpy().astype(np.float32) for t, m in mean.items()},
        {t: v.numpy().astype(np.float32) for t, v in var.items()},
    )
