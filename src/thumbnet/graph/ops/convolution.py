"""conv2d, depthwise_conv2d: zero-padded cross-correlations; conv_transpose2d: their adjoint. All with optional bias and
fused activation.
"""

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
    without_channels,
)


def _convolve(node: Node, weights: Mapping[str, torch.Tensor], x: torch.Tensor, groups: int) -> torch.Tensor:
    x, pads = split_padding(x, padding(node))
    stride, dilation = pair(node, "stride"), tuple(node.attrs.get("dilation", (1, 1)))
    if tuple(weights["weight"].shape[2:]) == (1, 1) and max(stride) > 1 and not any(pads):
        # The same, and safe: with fewer than four channels, oneDNN's backward pass of torch 2.13 writes beyond its
        # buffers where the image lies channels last.
        x, stride = x[:, :, :: stride[0], :: stride[1]], (1, 1)
    y = F.conv2d(x, weights["weight"], weights.get("bias"), stride, pads, dilation, groups)
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


class ConvTranspose2d(Op):
    """weight [O, I, kh, kw] (output channels first, as conv2d's), bias [O] or none; attrs stride, padding, activation.

    Every input pixel adds its products to a window of the output; `padding` (top, left, bottom, right) is cut off the
    full output. bottom and right may be negative: so many rows and columns that no window meets are added.
    """

    name = "conv_transpose2d"

    def infer_shape(self, node: Node, inputs: Sequence[Shape]) -> Shape:
        weight, (channels, height, width) = node.weights["weight"], image(node, inputs[0])
        if weight.ndim != 4 or weight.shape[1] != channels:
            raise misfit(node, f"weights {weight.shape} do not fit {channels} input channels")
        if "bias" in node.weights and node.weights["bias"].shape != weight.shape[:1]:
            raise misfit(node, f"has a bias of shape {node.weights['bias'].shape} for {weight.shape[0]} outputs")
        fused_activation(node)
        (sh, sw), (top, left, bottom, right) = pair(node, "stride"), _cut_off(node)
        if (
            top < 0
            or left < 0
            or min(bottom, -top) < -sh * weight.shape[2]
            or min(right, -left) < -sw * weight.shape[3]
        ):
            raise misfit(node, f"cannot cut {(top, left, bottom, right)} off its output")
        size = (height - 1) * sh + weight.shape[2] - top - bottom, (width - 1) * sw + weight.shape[3] - left - right
        if min(size) < 1:
            raise misfit(node, f"cuts {(top, left, bottom, right)} off its output, and nothing is left")
        return (weight.shape[0], *size)

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        top, left, bottom, right = _cut_off(node)
        full = F.conv_transpose2d(inputs[0], weights["weight"].transpose(0, 1), None, pair(node, "stride"))
        y = F.pad(full, (-left, -right, -top, -bottom))
        if "bias" in weights:
            y = y + weights["bias"].reshape(-1, 1, 1)
        return activate(node, y)

    def macs(self, node: Node, inputs: Sequence[Shape], output: Shape) -> int:
        return int(node.weights["weight"].size) * inputs[0][1] * inputs[0][2]

    def link(self, node: Node, inputs: Sequence[ChannelIds], output: Shape, linker: Linker) -> ChannelIds:
        return linker.new(output[0], node)

    def slice(self, node: Node, inputs: Sequence[npt.NDArray[np.intp]], output: npt.NDArray[np.intp]) -> Node:
        return without_channels(node, inputs[0], output)


def _cut_off(node: Node) -> tuple[int, int, int, int]:
    top, left, bottom, right = node.attrs["padding"]
    return int(top), int(left), int(bottom), int(right)
