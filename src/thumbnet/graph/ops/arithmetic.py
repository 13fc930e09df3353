"""add, sub, mul, maximum and minimum of two values of one shape; axes of size 1 of one of them repeat."""

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
        for full, small in ((a, b), (b, a)):
            if len(full) == len(small) and all(s in (1, f) for f, s in zip(full, small, strict=True)):
                return full
        raise misfit(
            node, f"cannot combine shapes {a} and {b}; one must be as large as the other along every axis, or 1"
        )

    def link(self, node: Node, inputs: Sequence[ChannelIds], output: Shape, linker: Linker) -> ChannelIds:
        a, b = inputs
        if len(a) == len(b):
            linker.tie(a, b)
            return a
        full, single = (a, b) if len(a) > len(b) else (b, a)
        linker.pin(single)
        return full


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


class Maximum(_Binary):
    name = "maximum"

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return activate(node, torch.maximum(inputs[0], inputs[1]))


class Minimum(_Binary):
    name = "minimum"

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return activate(node, torch.minimum(inputs[0], inputs[1]))
