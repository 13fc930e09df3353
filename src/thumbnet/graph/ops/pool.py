"""max_pool2d, avg_pool2d, global_avg_pool, and reductions over any axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F

from thumbnet.graph.graph import Node, Shape
from thumbnet.graph.ops.base import ChannelIds, Linker, Op
from thumbnet.graph.ops.common import image, misfit, padding, pair, split_padding, window_output


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


class Reduction(Op):
    """mean, sum, reduce_max or reduce_min over some axes; attrs axes, keepdims."""

    def __init__(self, name: str, function: Callable[..., torch.Tensor]) -> None:
        self.name = name  # type: ignore[misc]  # one class for the whole family
        self._function = function

    def infer_shape(self, node: Node, inputs: Sequence[Shape]) -> Shape:
        axes, shape = self.axes(node), inputs[0]
        if not axes or not all(0 <= a < len(shape) for a in axes):
            raise misfit(node, f"cannot reduce the axes {list(axes)} of {shape}")
        if node.attrs.get("keepdims"):
            return tuple(1 if k in axes else s for k, s in enumerate(shape))
        return tuple(s for k, s in enumerate(shape) if k not in axes) or (1,)

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        over, keep = [a + 1 for a in self.axes(node)], bool(node.attrs.get("keepdims"))
        y = self._function(inputs[0], dim=over, keepdim=keep)
        return y.reshape(-1, 1) if y.ndim == 1 else y

    def link(self, node: Node, inputs: Sequence[ChannelIds], output: Shape, linker: Linker) -> ChannelIds:
        if 0 not in self.axes(node):
            return inputs[0]
        linker.pin(inputs[0])
        made = linker.new(output[0], node)
        linker.pin(made)
        return made

    @staticmethod
    def axes(node: Node) -> tuple[int, ...]:
        return tuple(int(a) for a in node.attrs["axes"])


REDUCTIONS: tuple[Reduction, ...] = (
    Reduction("mean", torch.mean),
    Reduction("sum", torch.sum),
    Reduction("reduce_max", torch.amax),
    Reduction("reduce_min", torch.amin),
)
