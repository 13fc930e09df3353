"""max_pool2d, avg_pool2d and global_avg_pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F

from thumbnet.graph.graph import Node, Shape
from thumbnet.graph.ops.base import ChannelIds, Linker, Op
from thumbnet.graph.ops.common import image, padding, pair, split_padding, window_output


class _Pool(Op):
    """attrs kernel, stride, padding. Channels pass through."""

    def infer_shape(self, node: Node, inputs: Sequence[Shape]) -> Shape:
        channels, height, width = image(node, inputs[0])
        return (channels, *window_output(node, (height, width), pair(node, "kernel")))

    def link(self, node: Node, inputs: Sequence[ChannelIds], output: Shape, linker: Linker) -> ChannelIds:
        return inputs[0]


class MaxPool2d(_Pool):
    """Padding never wins: it counts as −∞."""

    name = "max_pool2d"

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        kernel = pair(node, "kernel")
        x, pads = split_padding(inputs[0], padding(node), float("-inf"), [k // 2 for k in kernel])
        return F.max_pool2d(x, kernel, pair(node, "stride"), pads)


class AvgPool2d(_Pool):
    """attr count_include_pad (default false, as in TFLite): whether padded zeros count in the mean."""

    name = "avg_pool2d"

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        kernel, stride, include = (
            pair(node, "kernel"),
            pair(node, "stride"),
            bool(node.attrs.get("count_include_pad")),
        )
        x, pads = split_padding(inputs[0], padding(node), 0.0, [k // 2 for k in kernel])
        if x is inputs[0] or include:
            return F.avg_pool2d(x, kernel, stride, pads, count_include_pad=include)
        ones, _ = split_padding(torch.ones_like(inputs[0][:1, :1]), padding(node), 0.0, (-1, -1))
        return F.avg_pool2d(x, kernel, stride) / F.avg_pool2d(ones, kernel, stride)


class GlobalAvgPool(Op):
    """Mean over height and width; attr keepdims: (C, 1, 1) if true, (C,) otherwise."""

    name = "global_avg_pool"

    def infer_shape(self, node: Node, inputs: Sequence[Shape]) -> Shape:
        channels = image(node, inputs[0])[0]
        return (channels, 1, 1) if node.attrs.get("keepdims") else (channels,)

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return inputs[0].mean((2, 3), keepdim=bool(node.attrs.get("keepdims")))

    def link(self, node: Node, inputs: Sequence[ChannelIds], output: Shape, linker: Linker) -> ChannelIds:
        return inputs[0]
