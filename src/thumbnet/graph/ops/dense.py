"""dense: y = W x + b on vectors, with fused activation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from thumbnet.graph.graph import Node, Shape
from thumbnet.graph.ops.base import ChannelIds, Linker, Op
from thumbnet.graph.ops.common import activate, fused_activation, misfit, without_channels


class Dense(Op):
    """weight [O, I], bias [O] or absent; attr activation. Input (I,), output (O,)."""

    name = "dense"

    def infer_shape(self, node: Node, inputs: Sequence[Shape]) -> Shape:
        weight = node.weights["weight"]
        if len(inputs[0]) != 1 or weight.ndim != 2 or weight.shape[1] != inputs[0][0]:
            raise misfit(node, f"weights {weight.shape} do not fit an input of shape {inputs[0]}")
        if "bias" in node.weights and node.weights["bias"].shape != weight.shape[:1]:
            raise misfit(node, f"has a bias of shape {node.weights['bias'].shape} for {weight.shape[0]} outputs")
        fused_activation(node)
        return (weight.shape[0],)

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return activate(node, F.linear(inputs[0], weights["weight"], weights.get("bias")))

    def macs(self, node: Node, inputs: Sequence[Shape], output: Shape) -> int:
        return int(node.weights["weight"].size)

    def link(self, node: Node, inputs: Sequence[ChannelIds], output: Shape, linker: Linker) -> ChannelIds:
        return linker.new(output[0], node)

    def slice(self, node: Node, inputs: Sequence[npt.NDArray[np.intp]], output: npt.NDArray[np.intp]) -> Node:
        return without_channels(node, inputs[0], output)
