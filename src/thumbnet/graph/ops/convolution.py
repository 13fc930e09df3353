"""conv2d and depthwise_conv2d: zero-padded cross-correlations with optional bias and fused activation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from thumbnet.graph.graph import Node, Shape
from thumbnet.graph.ops.base import ChannelIds, Linker, Op
from thumbnet.graph.ops.common import (
    activate,
    fused_activation,
    image,
    misfit,
    padding,
    pair,
    split_padding,
    window_output,
)


def _convolve(node: Node, weights: Mapping[str, torch.Tensor], x: torch.Tensor, groups: int) -> torch.Tensor:
    x, pads = split_padding(x, padding(node))
    dilation = tuple(node.attrs.get("dilation", (1, 1)))
    y = F.conv2d(x, weights["weight"], weights.get("bias"), pair(node, "stride"), pads, dilation, groups)
    return activate(node, y)


def _output(node: Node, shape: Shape) -> Shape:
    """Shape of the output, once the channels are known to fit."""
    _, height, width = image(node, shape)
    weight = node.weights["weight"]
    fused_activation(node)
    if "bias" in node.weights and node.weights["bias"].shape != (weight.shape[0],):
        raise misfit(node, f"has a bias of shape {node.weights['bias'].shape} for {weight.shape[0]} outputs")
    return (weight.shape[0], *window_output(node, (height, width), (weight.shape[2], weight.shape[3])))


class Conv2d(Op):
    """weight [O, I/groups, kh, kw], bias [O] or none; attrs stride, padding, dilation, groups, activation."""

    name = "conv2d"

    def infer_shape(self, node: Node, inputs: Sequence[Shape]) -> Shape:
        weight, groups = node.weights["weight"], int(node.attrs.get("groups", 1))
        channels = image(node, inputs[0])[0]
        if weight.ndim != 4 or weight.shape[1] * groups != channels or weight.shape[0] % groups:
            raise misfit(node, f"weights {weight.shape} in {groups} groups do not fit {channels} input channels")
        return _output(node, inputs[0])

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return _convolve(node, weights, inputs[0], int(node.attrs.get("groups", 1)))

    def macs(self, node: Node, inputs: Sequence[Shape], output: Shape) -> int:
        return int(node.weights["weight"].size) * output[1] * output[2]

    def link(self, node: Node, inputs: Sequence[ChannelIds], output: Shape, linker: Linker) -> ChannelIds:
        """In a grouped convolution all groups lose the same positions, so that they stay equally wide."""
        groups = int(node.attrs.get("groups", 1))
        chunks = np.split(inputs[0], groups)
        for chunk in chunks[1:]:
            linker.tie(chunks[0], chunk)
        return np.tile(linker.new(output[0] // groups, node), groups)

    def slice(self, node: Node, inputs: Sequence[npt.NDArray[np.intp]], output: npt.NDArray[np.intp]) -> Node:
        per_group = node.weights["weight"].shape[1]
        columns = inputs[0][inputs[0] < per_group]  # those of group 0; the others mirror them
        kept = {k: w[output] for k, w in node.weights.items()}
        kept["weight"] = np.ascontiguousarray(kept["weight"][:, columns])
        return node.with_weights(**kept)


class DepthwiseConv2d(Op):
    """weight [O, 1, kh, kw] with O = multiplier · C, bias [O] or none; attrs as conv2d, without groups.

    Output channel o reads input channel o // multiplier.
    """

    name = "depthwise_conv2d"

    def infer_shape(self, node: Node, inputs: Sequence[Shape]) -> Shape:
        weight, channels = node.weights["weight"], image(node, inputs[0])[0]
        if weight.ndim != 4 or weight.shape[1] != 1 or weight.shape[0] % channels:
            raise misfit(node, f"weights {weight.shape} do not fit {channels} input channels")
        return _output(node, inputs[0])

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return _convolve(node, weights, inputs[0], inputs[0].shape[1])

    def macs(self, node: Node, inputs: Sequence[Shape], output: Shape) -> int:
        return int(node.weights["weight"].size) * output[1] * output[2]

    def link(self, node: Node, inputs: Sequence[ChannelIds], output: Shape, linker: Linker) -> ChannelIds:
        return np.repeat(inputs[0], output[0] // len(inputs[0]))

    def slice(self, node: Node, inputs: Sequence[npt.NDArray[np.intp]], output: npt.NDArray[np.intp]) -> Node:
        return node.with_weights(**{k: w[output] for k, w in node.weights.items()})
