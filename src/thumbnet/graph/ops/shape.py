"""Operations that move numbers about: pad, flatten, reshape, transpose, resize."""

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
    """Zeros around an image; attr padding (top, left, bottom, right). With attr mode "reflect", the image mirrored at
    its outermost pixels instead.
    """

    name = "pad"

    def infer_shape(self, node: Node, inputs: Sequence[Shape]) -> Shape:
        channels, height, width = image(node, inputs[0])
        top, left, bottom, right = padding(node)
        if node.attrs.get("mode") == "reflect" and (max(top, bottom) >= height or max(left, right) >= width):
            raise misfit(node, f"cannot mirror {(top, left, bottom, right)} of {height}×{width} pixels")
        return (channels, height + top + bottom, width + left + right)

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        top, left, bottom, right = padding(node)
        return F.pad(inputs[0], (left, right, top, bottom), mode=str(node.attrs.get("mode", "constant")))

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


class Transpose(Op):
    """Axes in another order; attr perm: for each axis of the output, which one of the input's. Channels stay removable
    where they stay the first axis.
    """

    name = "transpose"

    def infer_shape(self, node: Node, inputs: Sequence[Shape]) -> Shape:
        perm = [int(a) for a in node.attrs["perm"]]
        if sorted(perm) != list(range(len(inputs[0]))):
            raise misfit(node, f"cannot order the axes of {inputs[0]} as {perm}")
        return tuple(inputs[0][a] for a in perm)

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return inputs[0].permute(0, *(int(a) + 1 for a in node.attrs["perm"]))

    def link(self, node: Node, inputs: Sequence[ChannelIds], output: Shape, linker: Linker) -> ChannelIds:
        if node.attrs["perm"][0] == 0:
            return inputs[0]
        linker.pin(inputs[0])
        made = linker.new(output[0], node)
        linker.pin(made)
        return made


class Resize(Op):
    """attr size (height, width); attr mode: "nearest" (where absent) or "bilinear".

    attrs align_corners and half_pixel_centers (false where absent) are TFLite's, of which one at most is set. Nearest
    without either takes ⌊target · in / out⌋, as torch does.
    """

    name = "resize"

    def infer_shape(self, node: Node, inputs: Sequence[Shape]) -> Shape:
        align, half = self.options(node)
        if align and half:
            raise misfit(node, "cannot align corners and take half pixels as centres at once")
        return (image(node, inputs[0])[0], *pair(node, "size"))

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        size, x = pair(node, "size"), inputs[0]
        align, half = self.options(node)
        if node.attrs.get("mode", "nearest") == "nearest":
            if not align and not half:
                return F.interpolate(x, size, mode="nearest")
            rows, columns = (_nearest(n, m, align, x.device) for n, m in zip(x.shape[2:], size, strict=True))
            return x[:, :, rows][:, :, :, columns]
        if align or half:
            return F.interpolate(x, size, mode="bilinear", align_corners=align)
        (top, bottom, down), (left, right, across) = (
            _linear(n, m, x.device) for n, m in zip(x.shape[2:], size, strict=True)
        )
        y = torch.lerp(x[:, :, top], x[:, :, bottom], down.reshape(-1, 1))
        return torch.lerp(y[:, :, :, left], y[:, :, :, right], across)

    def link(self, node: Node, inputs: Sequence[ChannelIds], output: Shape, linker: Linker) -> ChannelIds:
        return inputs[0]

    @staticmethod
    def options(node: Node) -> tuple[bool, bool]:
        return bool(node.attrs.get("align_corners")), bool(node.attrs.get("half_pixel_centers"))


def _nearest(count: int, made: int, align: bool, device: torch.device) -> torch.Tensor:
    """For each of `made` positions the source's, as TFLite computes them: halves round up."""
    scale = (count - 1) / (made - 1) if align and made > 1 else count / made
    at = torch.arange(made, dtype=torch.float64, device=device)
    source = torch.floor(at * scale + 0.5) if align else torch.floor((at + 0.5) * scale)
    return source.long().clamp(0, count - 1)


def _linear(count: int, made: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For each of `made` positions at target · in / out: the source before, the one behind, and the latter's share."""
    at = torch.arange(made, dtype=torch.float64, device=device) * (count / made)
    low = at.floor().long().clamp(0, count - 1)
    return low, (low + 1).clamp(max=count - 1), (at - low).float()
