"""What every operation of the float graph must tell: shape, float meaning, cost, how its channels link."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch

from thumbnet.graph.graph import Node, Shape

ChannelIds = npt.NDArray[np.int64]  # one identity per channel of a value; equal identities live and die together


class Linker(ABC):
    """Handed to `Op.link`: makes new channel identities and ties existing ones together."""

    @abstractmethod
    def new(self, count: int, node: Node) -> ChannelIds:
        """`count` fresh identities, produced (so removable) at `node`."""

    @abstractmethod
    def tie(self, a: ChannelIds, b: ChannelIds) -> None:
        """Element by element, channel `a[i]` and channel `b[i]` are the same one."""

    @abstractmethod
    def pin(self, ids: ChannelIds) -> None:
        """These channels may never be removed."""


class Op(ABC):
    """One kind of operation. Stateless; the instances live in the table `thumbnet.graph.ops.OPS`."""

    name: ClassVar[str]

    @abstractmethod
    def infer_shape(self, node: Node, inputs: Sequence[Shape]) -> Shape:
        """Shape of the output. Raises `ModelError` when the inputs do not fit the node."""

    @abstractmethod
    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """The float function, on tensors with a leading batch axis; `weights` replaces `node.weights`."""

    def macs(self, node: Node, inputs: Sequence[Shape], output: Shape) -> int:
        """Multiply-accumulates for one sample; 0 for operations without products."""
        return 0

    @abstractmethod
    def link(self, node: Node, inputs: Sequence[ChannelIds], output: Shape, linker: Linker) -> ChannelIds:
        """Identities of the output's channels (axis 0), given those of the inputs' channels."""

    def slice(self, node: Node, inputs: Sequence[npt.NDArray[np.intp]], output: npt.NDArray[np.intp]) -> Node:
        """The node that remains when only the channels at these positions are kept in its inputs and output.

        Default: a node without weights stays as it is.
        """
        return node
