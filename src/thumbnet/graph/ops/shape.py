"""Operations that move numbers about without changing them: pad, flatten, reshape, resize."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from thumbnet.graph.graph import Node, Shape
from thumbnet.graph.ops.base import ChannelIds, Linker, Op
from thumbnet.graph.ops.common import image, misfit, padding, pair


class Pad(Op):
    """Zeros around an image; attr padding (top, left, bottom, right)."""

    name = "pad"

    def infer_shape(self, node: Node, inputs: Sequence[Shape]) -> Shape:
        channels, height, width = image(node, inputs[0])
        top, left, bottom, right = padding(node)
        return (channels, height + top + bottom, width + left + right)

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        top, left, bottom, right = padding(node)
        return F.pad(inputs[0], (left, right, top, bottom))

    def link(self, node: Node, inputs: Sequence[ChannelIds], output: Shape, linker: Linker) -> ChannelIds:
        return inputs[0]


class Flatten(Op):
    """(C, H, W) to (C·H·W,), channel by channel."""

    name = "flatten"

    def infer_shape(self, node: Node, inputs: Sequence[Shape]) -> Shape:
        return (prod(inputs[0]),)

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return inputs[0].flatten(1)

    def link(self, node: Node, inputs: Sequence[ChannelIds], output: Shape, linker: Linker) -> ChannelIds:
        return np.repeat(inputs[0], output[0] // len(inputs[0]))


class Reshape(Op):
    """The same numbers in NCHW order under another shape; attr shape.

    Channels can still be removed where each one stays together: where axis 0 is kept, joined with those
    behind it, or split off the front of a vector. Otherwise they are pinned.
    """

    name = "reshape"

    def infer_shape(self, node: Node, inputs: Sequence[Shape]) -> Shape:
        shape = tuple(int(s) for s in node.attrs["shape"])
        if prod(shape) != prod(inputs[0]) or not shape or min(shape) < 1:
            raise misfit(node, f"cannot turn shape {inputs[0]} into {shape}")
        return shape

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return inputs[0].reshape(inputs[0].shape[0], *node.attrs["shape"])

    def link(self, node: Node, inputs: Sequence[ChannelIds], output: Shape, linker: Linker) -> ChannelIds:
        ids, before, after = inputs[0], len(inputs[0]), output[0]
        if before == after:
            return ids
        if len(output) == 1 and after % before == 0:
            return np.repeat(ids, after // before)
        if before == prod(output):  # a vector: its numbers of one new channel go together
            columns = ids.reshape(after, -1)
            for k in range(1, columns.shape[1]):
                linker.tie(columns[:, 0], columns[:, k])
            return columns[:, 0]
        linker.pin(ids)
        made = linker.new(after, node)
        linker.pin(made)
        return made

    def slice(self, node: Node, inputs: Sequence[npt.NDArray[np.intp]], output: npt.NDArray[np.intp]) -> Node:
        return node.with_attrs(shape=[len(output), *node.attrs["shape"][1:]])


class Resize(Op):
    """Nearest neighbour; attr size (height, width).

    Without half-pixel centres, as torch and TFLite do by default: source = ⌊target · in / out⌋.
    """

    name = "resize"

    def infer_shape(self, node: Node, inputs: Sequence[Shape]) -> Shape:
        return (image(node, inputs[0])[0], *pair(node, "size"))

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return F.interpolate(inputs[0], pair(node, "size"), mode="nearest")

    def link(self, node: Node, inputs: Sequence[ChannelIds], output: Shape, linker: Linker) -> ChannelIds:
        return inputs[0]
