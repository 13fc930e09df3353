"""Batch norms folded into the convolution or dense layer before them, or turned into one."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import numpy as np

from thumbnet.graph.graph import Graph, Node
from thumbnet.graph.ops.batch_norm import scale_and_offset
from thumbnet.graph.passes.rewrite import has_one_reader, merge

WEIGHTED = ("conv2d", "depthwise_conv2d", "conv_transpose2d", "dense")


def fold_batch_norm(graph: Graph) -> Graph:
    """Removes every batch norm on images and vectors.

    Keeps: the function, up to float rounding. In order of preference a batch norm is multiplied into the
    linear layer before it (its only input, without activation, read by nobody else), into the unpadded linear
    layer behind it (its only reader), or it becomes a depthwise 1×1 convolution.
    """
    for node in graph.nodes:
        if node.op != "batch_norm":
            continue
        node = graph.by_name[node.name]  # its input may have been renamed
        graph = _fold_back(graph, node) or _fold_forward(graph, node) or _as_depthwise(graph, node)
    return graph


def _fold_back(graph: Graph, norm: Node) -> Graph | None:
    before = graph.by_name.get(norm.inputs[0])
    if before is None or before.op not in WEIGHTED or before.attrs.get("activation", "none") != "none":
        return None
    if not has_one_reader(graph, before.name):
        return None
    scale, offset = scale_and_offset(norm)
    weight = before.weights["weight"].astype(np.float64)
    bias = before.weights["bias"].astype(np.float64) if "bias" in before.weights else 0.0
    weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    folded = before.with_weights(weight=_float32(weight), bias=_float32(bias * scale + offset))
    return merge(graph, before, norm, folded)


def _fold_forward(graph: Graph, norm: Node) -> Graph | None:
    if not has_one_reader(graph, norm.name):
        return None
    after = graph.consumers[norm.name][0]
    if after.op not in ("conv2d", "dense") or after.attrs.get("groups", 1) != 1:
        return None
    scale, offset = scale_and_offset(norm)
    if any(after.attrs.get("padding", ())) and offset.any():
        return None  # the padded zeros do not see the offset
    weight = after.weights["weight"].astype(np.float64)
    axes = (1, -1, *[1] * (weight.ndim - 2))
    bias = after.weights["bias"].astype(np.float64) if "bias" in after.weights else 0.0
    bias = bias + (weight * offset.reshape(axes)).reshape(len(weight), -1).sum(1)
    folded = after.with_weights(weight=_float32(weight * scale.reshape(axes)), bias=_float32(bias))
    folded = replace(folded, inputs=norm.inputs)
    nodes = [folded if n.name == after.name else n for n in graph.nodes if n.name != norm.name]
    return graph.with_nodes(nodes)


def _as_depthwise(graph: Graph, norm: Node) -> Graph:
    """A depthwise 1×1 convolution; vectors and rows are made images of one pixel, or of one column, for it."""
    shape = graph.shapes[norm.name]
    if len(shape) > 3:
        return graph
    scale, offset = scale_and_offset(norm)
    attrs = {"stride": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1], "activation": "none"}
    weights = {"weight": _float32(scale.reshape(-1, 1, 1, 1)), "bias": _float32(offset)}
    made = [Node(norm.name, "depthwise_conv2d", norm.inputs, attrs, weights)]
    if len(shape) < 3:
        image, scaled = f"{norm.name}.image", f"{norm.name}.scaled"
        made = [
            Node(image, "reshape", norm.inputs, {"shape": [*shape, 1, 1][:3]}),
            replace(made[0], name=scaled, inputs=(image,)),
            Node(norm.name, "reshape", (scaled,), {"shape": list(shape)}),
        ]
    return graph.with_nodes(chain.from_iterable(made if n.name == norm.name else [n] for n in graph.nodes))


def _float32(
    array: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.ascontiguousarray(array, np.float32)
