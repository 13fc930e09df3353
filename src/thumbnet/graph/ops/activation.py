"""Functions of one number, applied to each (relus, sigmoids, tanh), and softmax."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from thumbnet.graph.graph import Node, Shape
from thumbnet.graph.ops.base import ChannelIds, Linker, Op
from thumbnet.graph.ops.common import misfit


class Elementwise(Op):
    """A function without parameters, of each value by itself."""

    def __init__(self, name: str, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.name = name  # type: ignore[misc]  # one class for the whole family
        self._function = function

    def infer_shape(self, node: Node, inputs: Sequence[Shape]) -> Shape:
        return inputs[0]

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return self._function(inputs[0])

    def link(self, node: Node, inputs: Sequence[ChannelIds], output: Shape, linker: Linker) -> ChannelIds:
        return inputs[0]


ELEMENTWISE: tuple[Elementwise, ...] = (
    Elementwise("relu", F.relu),
    Elementwise("relu6", F.relu6),
    Elementwise("hard_swish", F.hardswish),  # x · relu6(x + 3) / 6
    Elementwise("hard_sigmoid", F.hardsigmoid),  # relu6(x + 3) / 6
    Elementwise("sigmoid", torch.sigmoid),
    Elementwise("tanh", torch.tanh),
    Elementwise("silu", F.silu),  # x · sigmoid(x)
    Elementwise("elu", F.elu),  # x where x > 0, else exp(x) − 1
    Elementwise("abs", torch.abs),
)


class Clip(Op):
    """Numbers outside of [low, high] become the nearer end; attrs low ≤ 0 ≤ high, which differ."""

    name = "clip"

    def infer_shape(self, node: Node, inputs: Sequence[Shape]) -> Shape:
        low, high = self.bounds(node)
        if not (low <= 0 <= high and low < high):
            raise misfit(node, f"needs bounds around 0, not [{low}, {high}]")
        return inputs[0]

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return inputs[0].clamp(*self.bounds(node))

    def link(self, node: Node, inputs: Sequence[ChannelIds], output: Shape, linker: Linker) -> ChannelIds:
        return inputs[0]

    @staticmethod
    def bounds(node: Node) -> tuple[float, float]:
        return float(node.attrs["low"]), float(node.attrs["high"])


class PRelu(Op):
    """x where x > 0, else slope · x; weight slope [C], one for each channel."""

    name = "prelu"

    def infer_shape(self, node: Node, inputs: Sequence[Shape]) -> Shape:
        if node.weights["slope"].shape != inputs[0][:1]:
            raise misfit(node, f"slopes {node.weights['slope'].shape} do not fit an input {inputs[0]}")
        return inputs[0]

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return F.prelu(inputs[0], weights["slope"])

    def link(self, node: Node, inputs: Sequence[ChannelIds], output: Shape, linker: Linker) -> ChannelIds:
        return inputs[0]

    def slice(self, node: Node, inputs: Sequence[npt.NDArray[np.intp]], output: npt.NDArray[np.intp]) -> Node:
        return node.with_weights(slope=node.weights["slope"][output])


class LeakyRelu(Op):
    """x where x > 0, else alpha · x; attr alpha."""

    name = "leaky_relu"

    def infer_shape(self, node: Node, inputs: Sequence[Shape]) -> Shape:
        return inputs[0]

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return F.leaky_relu(inputs[0], float(node.attrs["alpha"]))

    def link(self, node: Node, inputs: Sequence[ChannelIds], output: Shape, linker: Linker) -> ChannelIds:
        return inputs[0]


class Softmax(Op):
    """Over the channels (axis 0 of a sample), or over attr axis. Each output depends on all inputs, so none may go."""

    name = "softmax"

    def infer_shape(self, node: Node, inputs: Sequence[Shape]) -> Shape:
        if not 0 <= self.axis(node) < len(inputs[0]):
            raise misfit(node, f"has no axis {self.axis(node)} in {inputs[0]}")
        return inputs[0]

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return F.softmax(inputs[0], self.axis(node) + 1)

    def link(self, node: Node, inputs: Sequence[ChannelIds], output: Shape, linker: Linker) -> ChannelIds:
        linker.pin(inputs[0])
        return inputs[0]

    @staticmethod
    def axis(node: Node) -> int:
        return int(node.attrs.get("axis", 0))


class LogSoftmax(Softmax):
    """The logarithm of softmax, as classifiers trained with a negative log-likelihood end in."""

    name = "log_softmax"

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return F.log_softmax(inputs[0], self.axis(node) + 1)
