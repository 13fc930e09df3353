"""concat and slice: values put behind each other along an axis, and cut out of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from thumbnet.graph.graph import Node, Shape
from thumbnet.graph.ops.base import ChannelIds, Linker, Op
from thumbnet.graph.ops.common import misfit


class Concat(Op):
    """attr axis of the per-sample shape; 0 = channels."""

    name = "concat"

    def infer_shape(self, node: Node, inputs: Sequence[Shape]) -> Shape:
        axis = int(node.attrs["axis"])
        if not 0 <= axis < len(inputs[0]):
            raise misfit(node, f"has no axis {axis} in shape {inputs[0]}")
        rest = {(*s[:axis], *s[axis + 1 :]) for s in inputs}
        if len(rest) != 1 or len({len(s) for s in inputs}) != 1:
            raise misfit(node, f"shapes {list(inputs)} differ beside axis {axis}")
        return (*inputs[0][:axis], sum(s[axis] for s in inputs), *inputs[0][axis + 1 :])

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.cat(list(inputs), int(node.attrs["axis"]) + 1)

    def link(self, node: Node, inputs: Sequence[ChannelIds], output: Shape, linker: Linker) -> ChannelIds:
        if node.attrs["axis"] == 0:
            return np.concatenate(list(inputs))
        for other in inputs[1:]:
            linker.tie(inputs[0], other)
        return inputs[0]


class Slice(Op):
    """attrs axis, start, stop: the half-open range of positions that stays."""

    name = "slice"

    def infer_shape(self, node: Node, inputs: Sequence[Shape]) -> Shape:
        axis, start, stop = _range(node)
        if not 0 <= axis < len(inputs[0]) or not 0 <= start < stop <= inputs[0][axis]:
            raise misfit(node, f"cannot take {start}:{stop} of axis {axis} from shape {inputs[0]}")
        return (*inputs[0][:axis], stop - start, *inputs[0][axis + 1 :])

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        axis, start, stop = _range(node)
        return inputs[0].narrow(axis + 1, start, stop - start)

    def link(self, node: Node, inputs: Sequence[ChannelIds], output: Shape, linker: Linker) -> ChannelIds:
        axis, start, stop = _range(node)
        return inputs[0][start:stop] if axis == 0 else inputs[0]

    def slice(self, node: Node, inputs: Sequence[npt.NDArray[np.intp]], output: npt.NDArray[np.intp]) -> Node:
        axis, start, _ = _range(node)
        if axis != 0:
            return node
        first = int(np.count_nonzero(inputs[0] < start))
        return node.with_attrs(start=first, stop=first + len(output))


def _range(node: Node) -> tuple[int, int, int]:
    return int(node.attrs["axis"]), int(node.attrs["start"]), int(node.attrs["stop"])
