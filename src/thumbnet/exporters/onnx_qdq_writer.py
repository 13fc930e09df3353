"""A quantized ONNX file in the making: tensors as pairs of QuantizeLinear and DequantizeLinear, and their axes.

In the file, a tensor of three axes is an image [N, C, H, W]; of other ranks it is as the graph has it, [N, *shape].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.exporters.onnx_model import OnnxModel
from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor

Int8s = npt.NDArray[np.int8]
IMAGE_AXES = (1, 2, 0)  # for each axis of a stored image (height, width, channels) its place behind the batch


class QdqWriter:
    """The file so far. `reals` are the names of the dequantized tensors."""

    def __init__(self, graph: IntegerGraph) -> None:
        self.graph = graph
        self.model = OnnxModel(graph.name)
        self.reals: dict[str, str] = {}
        for name in graph.inputs:
            tensor = graph.tensors[name]
            given = self.model.input(name, file_shape(tensor.shape))
            self.reals[name] = self._pair(given, tensor, f"{name}/real")

    # --- tensors

    def tensor(self, node: IntegerNode) -> QTensor:
        """The one that the node writes."""
        return self.graph.tensors[node.name]

    def source(self, node: IntegerNode) -> QTensor:
        return self.graph.tensors[node.inputs[0]]

    def real(self, node: IntegerNode, k: int = 0) -> str:
        """The node's input `k`, dequantized."""
        return self.reals[node.inputs[k]]

    def finish(self) -> bytes:
        for k, name in enumerate(self.graph.outputs):
            value = self.reals[name]
            if name in self.graph.inputs or name in self.graph.outputs[:k]:  # an output is a value of its own
                value = self.model.node("Identity", [value], f"{name}/output")
            self.model.output(value, file_shape(self.graph.tensors[name].shape))
        return self.model.finish()

    def _pair(self, value: str, tensor: QTensor, name: str) -> str:
        parameters = self._parameters(tensor)
        stored = self.model.node("QuantizeLinear", [value, *parameters], f"{tensor.name}/stored")
        return self.model.node("DequantizeLinear", [stored, *parameters], name)

    def _parameters(self, tensor: QTensor) -> list[str]:
        return [
            self.model.constant(f"{tensor.name}/scale", np.float32(tensor.scale)),
            self.model.constant(f"{tensor.name}/zero_point", np.int8(tensor.zero_point)),
        ]

    # --- nodes

    def step(self, node: IntegerNode, op: str, inputs: Sequence[str], what: str, **attributes: Any) -> str:
        """An operator on the way to the node's value."""
        return self.model.node(op, inputs, f"{node.name}/{what}", **attributes)

    def done(self, node: IntegerNode, value: str) -> None:
        """`value`, in the axes of the file, clamped and stored as the node's tensor."""
        tensor = self.tensor(node)
        self.reals[node.name] = self._pair(self._clamped(node, value), tensor, node.name)

    def _clamped(self, node: IntegerNode, value: str) -> str:
        """Behind what gives exactly the stored bounds of the node: a Relu where that is it."""
        tensor, (low, high) = self.tensor(node), node.clamp
        if (low, high) == (-128, 127):
            return value
        if (low, high) == (tensor.zero_point, 127):
            return self.step(node, "Relu", [value], "relu")
        inputs = [value, *(self._bound(node, k, tensor) for k in (low, high))]
        return self.step(node, "Clip", inputs[: 2 if high == 127 else 3], "clip")

    def _bound(self, node: IntegerNode, stored: int, tensor: QTensor) -> str:
        """A stored number in real units; 6 where that is meant. Ends that QuantizeLinear saturates at are left out."""
        if stored in (-128, 127):
            return ""
        real = np.float32(stored - tensor.zero_point) * np.float32(tensor.scale)
        six = int(np.rint(np.float32(6) / np.float32(tensor.scale))) + tensor.zero_point
        return self.model.constant(f"{node.name}/bound", np.float32(6) if stored == six else real)

    def weights(self, name: str, stored: Int8s, scales: npt.ArrayLike, axis: int) -> str:
        """int8 or int32 constants with zero point 0, dequantized; several scales lie along `axis`."""
        values = np.atleast_1d(np.asarray(scales, np.float32))
        several = len(values) > 1
        constant = self.model.constant(name, stored)
        scale = self.model.constant(f"{name}/scale", values if several else values[0])
        zero = self.model.constant(f"{name}/zero_point", np.zeros(len(values) if several else (), stored.dtype))
        along = {"axis": axis} if several else {}
        return self.model.node("DequantizeLinear", [constant, scale, zero], f"{name}/real", **along)

    def constant(self, tensor: QTensor, stored: Int8s, rank: int) -> str:
        """An int8 constant of `tensor`'s shape and quantization, dequantized; `rank` axes besides the batch."""
        wide = widened(tensor.shape, rank)
        values = in_file_order(stored.reshape(1, *wide))
        constant = self.model.constant(tensor.name, values)
        return self.model.node("DequantizeLinear", [constant, *self._parameters(tensor)], f"{tensor.name}/real")

    # --- axes

    def rows(self, node: IntegerNode, value: str, shape: Sequence[int]) -> str:
        """A value of the file in the graph's own axes, [N, *shape], so that reshaping sees the stored order."""
        if len(shape) != 3:
            return value
        return self.step(node, "Transpose", [value], "channels_last", perm=[0, 2, 3, 1])

    def from_rows(self, node: IntegerNode, value: str, shape: Sequence[int]) -> str:
        """The inverse of `rows`."""
        if len(shape) != 3:
            return value
        return self.step(node, "Transpose", [value], "channels_first", perm=[0, 3, 1, 2])

    def reshaped(self, node: IntegerNode, value: str, before: Sequence[int], after: Sequence[int]) -> str:
        """The same bytes under another shape, both in the axes of the file; without transposing where it can do so."""
        if tuple(before) == tuple(after):
            return value
        plain = all(len(s) != 3 or s[2] == 1 or s[0] * s[1] == 1 for s in (before, after))
        value = value if plain else self.rows(node, value, before)
        target = file_shape(after) if plain else after
        shape = self.model.integers(f"{node.name}/shape", [0, *target])  # 0: the batch as it is
        value = self.step(node, "Reshape", [value, shape], "reshaped")
        return value if plain else self.from_rows(node, value, after)

    def operand(self, node: IntegerNode, k: int) -> str:
        """Input `k`, of as many axes as the node's output."""
        x, rank = self.graph.tensors[node.inputs[k]], len(self.tensor(node).shape)
        return self.reshaped(node, self.real(node, k), x.shape, widened(x.shape, rank))


def file_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The axes of the file behind the batch, for a tensor of the graph."""
    return (shape[2], shape[0], shape[1]) if len(shape) == 3 else tuple(shape)


def file_axis(axis: int, rank: int) -> int:
    """Where an axis of the graph's tensors is in the file, the batch counted."""
    return 1 + (IMAGE_AXES[axis] if rank == 3 else axis)


def in_file_order(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An array [N, *shape] in the axes of the file."""
    return values.transpose(0, 3, 1, 2) if values.ndim == 4 else values


def in_graph_order(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The inverse of `in_file_order`."""
    return values.transpose(0, 2, 3, 1) if values.ndim == 4 else values


def widened(shape: Sequence[int], rank: int) -> tuple[int, ...]:
    """`shape` with axes of size 1 in front, `rank` in all."""
    return (*[1] * (rank - len(shape)), *shape)


def quantized_inputs(values: npt.NDArray[np.floating[Any]], tensor: QTensor) -> Int8s:
    """Real units in the axes of the file as the integer graph stores them: what the file's QuantizeLinear does."""
    scaled = np.rint(np.asarray(values, np.float32) / np.float32(tensor.scale)) + tensor.zero_point
    return in_graph_order(np.clip(scaled, -128, 127).astype(np.int8))


def real_values(stored: Int8s, tensor: QTensor) -> npt.NDArray[np.float32]:
    """int8 [N, *tensor.shape] as the file takes or gives it: float32 in real units."""
    reals = (stored.astype(np.float32) - np.float32(tensor.zero_point)) * np.float32(tensor.scale)
    return np.ascontiguousarray(in_file_order(reals))
