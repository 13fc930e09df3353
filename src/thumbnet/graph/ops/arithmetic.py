"""add, sub and mul of two values of one shape, or of (C, H, W) with one number per channel (C, 1, 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from thumbnet.graph.graph import Node, Shape
from thumbnet.graph.ops.base import ChannelIds, Linker, Op
from thumbnet.graph.ops.common import activate, fused_activation, misfit


class _Binary(Op):
    """attr activation. Channels of both inputs and of the output are the same ones."""

    def infer_shape(self, node: Node, inputs: Sequence[Shape]) -> Shape:
        if len(inputs) != 2:
            raise misfit(node, f"needs two inputs, not {len(inputs)}")
        fused_activation(node)
        a, b = inputs
        if a == b:
            return a
        for full, per_channel in ((a, b), (b, a)):
            if len(full) == 3 and per_channel == (full[0], 1, 1):
                return full
        raise misfit(node, f"cannot combine shapes {a} and {b}; they must be equal, or one (C, 1, 1)")

    def link(self, node: Node, inputs: Sequence[ChannelIds], output: Shape, linker: Linker) -> ChannelIds:
        linker.tie(inputs[0], inputs[1])
        return inputs[0]


class Add(_Binary):
    name = "add"

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return activate(node, inputs[0] + inputs[1])


class Sub(_Binary):
    name = "sub"

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return activate(node, inputs[0] - inputs[1])


class Mul(_Binary):
    name = "mul"

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return activate(node, inputs[0] * inputs[1])
