"""A TFLite file in the making: the graph's tensors in it, and operators in terms of the graph's nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.exporters.tflite_file import TfliteFile
from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor


class Writer:
    """A file in the making, and where each tensor of the graph is in it."""

    def __init__(self, graph: IntegerGraph) -> None:
        self.graph = graph
        self.file = TfliteFile()
        self.index: dict[str, int] = {}

    def activation(self, tensor: QTensor) -> int:
        index = self.file.tensor(
            tensor.name, (1, *tensor.shape), np.int8, scales=[tensor.scale], zero_point=tensor.zero_point
        )
        self.index[tensor.name] = index
        return index

    def tensor_of(self, node: IntegerNode) -> QTensor:
        return self.graph.tensors[node.name]

    def source(self, node: IntegerNode) -> QTensor:
        return self.graph.tensors[node.inputs[0]]

    def emit(
        self,
        node: IntegerNode,
        op: str,
        version: int,
        constants: Sequence[int] = (),
        options: str = "",
        **kw: Any,
    ) -> None:
        """One operator with the node's inputs, then constants; its output is the node's tensor."""
        inputs = [*(self.index[v] for v in node.inputs), *constants]
        self.file.operator(op, version, inputs, [self.activation(self.tensor_of(node))], options, **kw)

    def integers(self, name: str, values: npt.ArrayLike) -> int:
        data = np.asarray(values, np.int32)
        return self.file.tensor(name, data.shape, np.int32, data=data)

    def constant(self, tensor: QTensor, values: npt.NDArray[np.int8]) -> int:
        """int8 values with the description's quantization, a batch axis of 1 in front."""
        scales, shape = [tensor.scale], (1, *values.shape)
        return self.file.tensor(tensor.name, shape, np.int8, scales=scales, zero_point=tensor.zero_point, data=values)

    def padded(self, node: IntegerNode, padding: Sequence[int], value: int | None = None) -> tuple[int, QTensor]:
        """The node's input behind a PAD (with the zero point, or PADV2 with `value`): its index and description."""
        x = self.source(node)
        top, left, bottom, right = padding
        shape = (x.shape[0] + top + bottom, x.shape[1] + left + right, x.shape[2])
        out = QTensor(f"{node.name}/pad", shape, x.scale, x.zero_point)
        self.pad(x, out, padding, (0, 0), value)
        return self.index[out.name], out

    def pad(self, x: QTensor, out: QTensor, padding: Sequence[int], channels: Sequence[int], value: int | None) -> None:
        """PAD, or PADV2 where there is a `value` to pad with, from `x` to `out`."""
        top, left, bottom, right = padding
        amounts = [[0, 0], [top, bottom], [left, right], list(channels)]
        inputs = [self.index[x.name], self.integers(f"{out.name}/paddings", amounts)]
        if value in (None, x.zero_point):  # PAD, which more runtimes have
            self.file.operator("PAD", 2, inputs, [self.activation(out)], "PadOptions")
        else:
            constant = self.constant(replace(x, name=f"{out.name}/value"), np.array([value], np.int8))
            self.file.operator("PADV2", 2, [*inputs, constant], [self.activation(out)], "PadV2Options")
