"""Channels that provably hold one constant, taken out and folded into the biases of their readers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from thumbnet.graph.channels import ChannelGroup, channel_groups, keep_channels
from thumbnet.graph.graph import Graph, Node
from thumbnet.graph.ops import op_of
from thumbnet.graph.ops.activation import Elementwise, LeakyRelu

Constants = npt.NDArray[np.float64]  # per channel: the constant it holds at every pixel of every input, or NaN
_READERS = ("conv2d", "dense")  # ops that end a channel: a weighted sum over it


def dead_channels(graph: Graph) -> Graph:
    """Removes channels whose output is the same for every input, with all their weights.

    Keeps: the function, up to the rounding of the bias sums. A channel and those tied to it go where each reader sees a
    constant that it can take in exactly: a padded convolution only where it is zero
    (its border sees zeros instead of the constant). A value that is dead altogether keeps one channel.
    Works on graphs with and without folded batch norms.
    """
    constants = channel_constants(graph)
    groups = {g.id: g for g in channel_groups(graph)}
    dead = {g.id: _dead_classes(graph, g, constants) for g in groups.values() if not g.pinned}
    _spare_empty_values(graph, groups.values(), dead)
    if not any(dead.values()):
        return graph
    removed = _removed_positions(graph, groups.values(), dead)
    folded = graph.with_nodes(_fold_constants(n, removed, constants) for n in graph.nodes)
    kept = {g: [k for k in range(groups[g].size) if k not in gone] for g, gone in dead.items() if gone}
    return keep_channels(folded, kept)


def channel_constants(graph: Graph) -> dict[str, Constants]:
    """For every value, the constant of each channel, or NaN where it depends on the input or the position."""
    constants: dict[str, Constants] = {i.name: np.full(i.shape[0], np.nan) for i in graph.inputs}
    for node in graph.nodes:
        inputs = [constants[v] for v in node.inputs]
        constants[node.name] = _propagate(graph, node, inputs)
    return constants


def _propagate(graph: Graph, node: Node, inputs: Sequence[Constants]) -> Constants:
    channels = graph.shapes[node.name][0]
    x = inputs[0]
    if node.op in (*_READERS, "depthwise_conv2d"):
        return _activated(node, _weighted_sum(node, x))
    op = op_of(node)
    if node.op in ("batch_norm", "add", "sub", "mul") or isinstance(op, (Elementwise, LeakyRelu)):
        return _evaluated(node, [np.broadcast_to(c, channels).copy() for c in inputs])
    if node.op == "pad" or (node.op == "avg_pool2d" and node.attrs.get("count_include_pad")):
        padded = any(node.attrs["padding"])
        return np.where(x == 0, x, np.nan) if padded else x
    if node.op in ("max_pool2d", "avg_pool2d", "global_avg_pool", "resize"):
        return x
    if node.op == "concat" and node.attrs["axis"] == 0:
        return np.concatenate(list(inputs))
    if node.op == "slice":
        return x[node.attrs["start"] : node.attrs["stop"]] if node.attrs["axis"] == 0 else x
    if node.op == "flatten":
        return np.repeat(x, channels // len(x))
    if node.op == "reshape" and channels == len(x):
        return x
    return np.full(channels, np.nan)


def _weighted_sum(node: Node, x: Constants) -> Constants:
    """Bias plus the constant inputs' share, where no varying input has a weight; NaN elsewhere."""
    weight = node.weights["weight"].astype(np.float64)
    bias = node.weights.get("bias", np.zeros(len(weight))).astype(np.float64)
    exact = np.isfinite(x) & ((x == 0) | (not any(node.attrs.get("padding", ()))))
    sums = weight.reshape(*weight.shape[:2], -1).sum(2)  # over the window: [O, I/groups]
    used = weight.reshape(*weight.shape[:2], -1).any(2)
    rows = _channels_read(node, len(x))
    share = np.where(exact, x, 0.0)[rows]  # [O, I/groups]
    varies = (used & ~exact[rows]).any(1)
    return np.where(varies, np.nan, bias + (sums * share).sum(1))


def _channels_read(node: Node, channels: int) -> npt.NDArray[np.int64]:
    """[O, I/groups]: which input channel each weight of each output belongs to."""
    outputs, per_group = node.weights["weight"].shape[:2]
    groups = channels // per_group
    first = np.arange(outputs, dtype=np.int64) // (outputs // groups) * per_group
    return np.asarray(np.add.outer(first, np.arange(per_group, dtype=np.int64)))


def _activated(node: Node, x: Constants) -> Constants:
    activation = node.attrs.get("activation", "none")
    if activation == "none":
        return x
    return np.clip(x, 0.0, 6.0 if activation == "relu6" else np.inf)


def _evaluated(node: Node, inputs: Sequence[Constants]) -> Constants:
    """The op itself, on one pixel per channel; NaN goes in and comes out where a channel varies."""
    tensors = [torch.from_numpy(x)[None, :, None, None] for x in inputs]
    weights = {k: torch.from_numpy(w.astype(np.float64)) for k, w in node.weights.items()}
    y = op_of(node).forward(node, weights, tensors)[0, :, 0, 0].numpy()
    varies = np.isnan(np.stack(list(inputs))).any(0)
    if node.op == "mul":
        zero = (np.stack(list(inputs)) == 0).any(0)
        return np.where(zero, 0.0, np.where(varies, np.nan, y))
    if node.op == "batch_norm":
        still = node.weights["weight"] == 0
        return np.where(still, node.weights["bias"].astype(np.float64), np.where(varies, np.nan, y))
    return np.where(varies, np.nan, y)


def _dead_classes(graph: Graph, group: ChannelGroup, constants: Mapping[str, Constants]) -> set[int]:
    """Classes of which every weighted sum that reads them sees a constant it can take in exactly.

    What lies between (a batch norm with a scale of zero may well read a channel that varies) goes with the class.
    """
    alive = np.zeros(group.size, bool)
    for value, classes in group.values.items():
        for reader in graph.consumers[value]:
            if reader.op in (*_READERS, "conv_transpose2d"):
                # what a transposed convolution makes of a constant differs from pixel to pixel
                padded = reader.op == "conv_transpose2d" or any(reader.attrs.get("padding", ()))
                varies = constants[value] != 0 if padded else np.isnan(constants[value])
                alive[classes[(classes >= 0) & varies]] = True
    return {int(k) for k in np.flatnonzero(~alive)}


def _spare_empty_values(graph: Graph, groups: Iterable[ChannelGroup], dead: Mapping[str, set[int]]) -> None:
    """Takes one class out of `dead` for every value that would lose all its channels: no layer can be that thin."""
    for value in graph.shapes:
        holders = [(g.id, g.values[value]) for g in groups if value in g.values]
        if all(g in dead and set(c[c >= 0].tolist()) <= dead[g] for g, c in holders):
            group, classes = holders[0]
            dead[group].discard(int(classes[classes >= 0][0]))


def _removed_positions(
    graph: Graph, groups: Iterable[ChannelGroup], dead: Mapping[str, set[int]]
) -> dict[str, npt.NDArray[np.bool_]]:
    removed = {v: np.zeros(s[0], bool) for v, s in graph.shapes.items()}
    for group in groups:
        for value, classes in group.values.items():
            removed[value] |= np.isin(classes, list(dead.get(group.id, ())))
    return removed


def _fold_constants(
    node: Node, removed: Mapping[str, npt.NDArray[np.bool_]], constants: Mapping[str, Constants]
) -> Node:
    if node.op not in _READERS:
        return node
    x = np.where(removed[node.inputs[0]], constants[node.inputs[0]], 0.0)
    if not x.any():
        return node
    weight = node.weights["weight"].astype(np.float64)
    sums = weight.reshape(*weight.shape[:2], -1).sum(2)
    extra = (sums * x[_channels_read(node, len(x))]).sum(1)
    bias = node.weights.get("bias", np.zeros(len(weight))).astype(np.float64)
    return node.with_weights(bias=(bias + extra).astype(np.float32))
