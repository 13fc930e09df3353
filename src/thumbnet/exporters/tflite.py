"""IntegerGraph → int8 TFLite file.

Only spelling happens here: the scales in the file are those from which the integer graph's multipliers were made, so
TFLM arrives at the same integers. Paddings that TFLite's SAME does not describe become a PAD operation in front.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.errors import UnsupportedOpError
from thumbnet.exporters.tflite_file import TfliteFile
from thumbnet.exporters.tflm import run_tflm
from thumbnet.integer.arithmetic import activation_clamp
from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor

__all__ = ["run_tflm", "to_tflite"]

_ACTIVATIONS = ("none", "relu", "relu6")


def to_tflite(graph: IntegerGraph) -> bytes:
    """The file's bytes: tensors have a batch axis of 1 in front. Equal graphs give equal bytes.

    Raises `UnsupportedOpError` where TFLite has no spelling for a node: average pooling whose padding does not count
    and is not SAME.
    """
    writer = _Writer(graph)
    for name in graph.inputs:
        writer.activation(graph.tensors[name])
    for node in graph.nodes:
        if node.op not in _SPELLING:
            raise UnsupportedOpError(node.op, node.name, "It cannot be written as TFLite.")
        _SPELLING[node.op](writer, node)
    return writer.file.finish(
        graph.name, [writer.index[v] for v in graph.inputs], [writer.index[v] for v in graph.outputs]
    )


class _Writer:
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

    def padded(self, node: IntegerNode, padding: Sequence[int], value: int | None = None) -> tuple[int, QTensor]:
        """The node's input behind a PAD (with the zero point, or PADV2 with `value`): its index and description."""
        x = self.source(node)
        top, left, bottom, right = padding
        shape = (x.shape[0] + top + bottom, x.shape[1] + left + right, x.shape[2])
        out = QTensor(f"{node.name}/pad", shape, x.scale, x.zero_point)
        amounts = self.integers(f"{node.name}/paddings", _paddings(padding))
        inputs = [self.index[x.name], amounts]
        if value is None:
            self.file.operator("PAD", 2, inputs, [self.activation(out)], "PadOptions")
        else:
            constant = self.file.tensor(
                f"{node.name}/value",
                (1,),
                np.int8,
                scales=[x.scale],
                zero_point=x.zero_point,
                data=np.array([value], np.int8),
            )
            self.file.operator("PADV2", 2, [*inputs, constant], [self.activation(out)], "PadV2Options")
        return self.index[out.name], out


def _paddings(padding: Sequence[int]) -> list[list[int]]:
    top, left, bottom, right = padding
    return [[0, 0], [top, bottom], [left, right], [0, 0]]


def _padding_kind(node: IntegerNode, x: QTensor, out: QTensor, kernel: Sequence[int]) -> str | None:
    """ "SAME" or "VALID" where TFLite's rule gives the node's windows, else None."""
    stride, padding = node.attrs["stride"], node.attrs["padding"]
    dilation = node.attrs.get("dilation", (1, 1))
    reach = [dilation[k] * (kernel[k] - 1) + 1 for k in (0, 1)]
    if not any(padding):
        return "VALID"
    for k in (0, 1):
        size = -(-x.shape[k] // stride[k])
        total = max((size - 1) * stride[k] + reach[k] - x.shape[k], 0)
        if out.shape[k] != size or padding[k] != total // 2:
            return None
    return "SAME"


def _fused(node: IntegerNode, out: QTensor) -> int:
    """The activation that gives the node's clamp, as TFLite's enumeration."""
    for activation in _ACTIVATIONS:
        if activation_clamp(activation, out.scale, out.zero_point) == tuple(node.clamp):
            return TfliteFile.activation(activation)
    raise UnsupportedOpError(node.op, node.name, f"TFLite has no activation that clamps to {node.clamp}.")


def _weights(writer: _Writer, node: IntegerNode, weight: npt.NDArray[np.int8], axis: int) -> list[int]:
    """Weight and bias tensors. A bias has the scale input · weight and zero point 0."""
    x = writer.source(node)
    scales = np.array(node.weight_scale, np.float32)
    bias = node.arrays["bias"]
    return [
        writer.file.tensor(f"{node.name}/weight", weight.shape, np.int8, scales=scales, axis=axis, data=weight),
        writer.file.tensor(f"{node.name}/bias", bias.shape, np.int32, scales=np.float32(x.scale) * scales, data=bias),
    ]


def _convolution(writer: _Writer, node: IntegerNode) -> None:
    out, x, depthwise = writer.tensor_of(node), writer.source(node), node.op == "depthwise_conv2d"
    weight = node.arrays["weight"][None] if depthwise else node.arrays["weight"]
    kind = _padding_kind(node, x, out, weight.shape[1:3])
    index = writer.index[x.name]
    if kind is None:
        index, _ = writer.padded(node, node.attrs["padding"])
        kind = "VALID"
    inputs = [index, *_weights(writer, node, weight, 3 if depthwise else 0)]
    stride, dilation = node.attrs["stride"], node.attrs["dilation"]
    options: dict[str, Any] = {
        "padding": TfliteFile.padding(kind),
        "strideH": stride[0],
        "strideW": stride[1],
        "dilationHFactor": dilation[0],
        "dilationWFactor": dilation[1],
        "fusedActivationFunction": _fused(node, out),
    }
    if depthwise:
        options["depthMultiplier"] = out.shape[-1] // x.shape[-1]
    name, table = ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions") if depthwise else ("CONV_2D", "Conv2DOptions")
    writer.file.operator(name, 3, inputs, [writer.activation(out)], table, **options)


def _dense(writer: _Writer, node: IntegerNode) -> None:
    constants = _weights(writer, node, node.arrays["weight"], 0)
    fused = _fused(node, writer.tensor_of(node))
    writer.emit(node, "FULLY_CONNECTED", 4, constants, "FullyConnectedOptions", fusedActivationFunction=fused)


def _elementwise(writer: _Writer, node: IntegerNode) -> None:
    name, version, table = {
        "add": ("ADD", 2, "AddOptions"),
        "sub": ("SUB", 3, "SubOptions"),
        "mul": ("MUL", 2, "MulOptions"),
    }[node.op]
    fused = _fused(node, writer.tensor_of(node))
    writer.emit(node, name, version, (), table, fusedActivationFunction=fused)


def _pool(writer: _Writer, node: IntegerNode) -> None:
    out, x, kernel = writer.tensor_of(node), writer.source(node), node.attrs["kernel"]
    kind = _padding_kind(node, x, out, kernel)
    index = writer.index[x.name]
    if kind is None:
        if node.op == "avg_pool2d":
            raise UnsupportedOpError(
                node.op,
                node.name,
                "TFLite cannot leave this padding out of the average; use SAME padding or none.",
            )
        index, _ = writer.padded(node, node.attrs["padding"], value=-128)
        kind = "VALID"
    options = {
        "padding": TfliteFile.padding(kind),
        "strideH": node.attrs["stride"][0],
        "strideW": node.attrs["stride"][1],
        "filterHeight": kernel[0],
        "filterWidth": kernel[1],
        "fusedActivationFunction": _fused(node, out),
    }
    name = "MAX_POOL_2D" if node.op == "max_pool2d" else "AVERAGE_POOL_2D"
    writer.file.operator(name, 2, [index], [writer.activation(out)], "Pool2DOptions", **options)


def _global_avg_pool(writer: _Writer, node: IntegerNode) -> None:
    axes = writer.integers(f"{node.name}/axes", [1, 2])
    keep = len(writer.tensor_of(node).shape) == 3
    writer.emit(node, "MEAN", 2, [axes], "ReducerOptions", keepDims=keep)


def _lut(writer: _Writer, node: IntegerNode) -> None:
    kind = node.attrs["kind"]
    if kind == "leaky_relu":
        writer.emit(node, "LEAKY_RELU", 2, (), "LeakyReluOptions", alpha=float(np.float32(node.attrs["alpha"])))
    elif kind == "hard_swish":
        writer.emit(node, "HARD_SWISH", 1, (), "HardSwishOptions")
    elif kind in ("sigmoid", "tanh"):
        writer.emit(node, {"sigmoid": "LOGISTIC", "tanh": "TANH"}[kind], 2)
    else:
        raise UnsupportedOpError(node.op, node.name, "TFLite has no operator for a table of one's own.")


def _concat(writer: _Writer, node: IntegerNode) -> None:
    writer.emit(node, "CONCATENATION", 2, (), "ConcatenationOptions", axis=int(node.attrs["axis"]) + 1)


def _pad(writer: _Writer, node: IntegerNode) -> None:
    amounts = writer.integers(f"{node.name}/paddings", _paddings(node.attrs["padding"]))
    writer.emit(node, "PAD", 2, [amounts], "PadOptions")


def _reshape(writer: _Writer, node: IntegerNode) -> None:
    shape = [1, *writer.tensor_of(node).shape]
    constant = writer.integers(f"{node.name}/shape", shape)
    writer.emit(node, "RESHAPE", 1, [constant], "ReshapeOptions", newShape=shape)


def _requantize(writer: _Writer, node: IntegerNode) -> None:
    """QUANTIZE; or RELU, with RELU6 behind it (TFLM's RELU6 does not rescale) where the bound 6 is within reach."""
    out = writer.tensor_of(node)
    if node.attrs["kind"] == "quantize":
        writer.emit(node, "QUANTIZE", 2, (), "QuantizeOptions")
    elif node.clamp[1] == 127:
        writer.emit(node, "RELU", 2)
    else:
        inner = QTensor(f"{node.name}/relu", out.shape, out.scale, out.zero_point)
        writer.file.operator("RELU", 2, [writer.index[node.inputs[0]]], [writer.activation(inner)])
        writer.file.operator("RELU6", 2, [writer.index[inner.name]], [writer.activation(out)])


def _resize_nearest(writer: _Writer, node: IntegerNode) -> None:
    size = writer.integers(f"{node.name}/size", node.attrs["size"])
    writer.emit(node, "RESIZE_NEAREST_NEIGHBOR", 2, [size], "ResizeNearestNeighborOptions")


def _slice(writer: _Writer, node: IntegerNode) -> None:
    out, axis = writer.tensor_of(node), int(node.attrs["axis"]) + 1
    begin = [0] * (len(out.shape) + 1)
    begin[axis] = int(node.attrs["start"])
    constants = [
        writer.integers(f"{node.name}/begin", begin),
        writer.integers(f"{node.name}/size", [1, *out.shape]),
    ]
    writer.emit(node, "SLICE", 2, constants, "SliceOptions")


def _softmax(writer: _Writer, node: IntegerNode) -> None:
    writer.emit(node, "SOFTMAX", 2, (), "SoftmaxOptions", beta=1.0)


_SPELLING: dict[str, Callable[[_Writer, IntegerNode], None]] = {
    "conv2d": _convolution,
    "depthwise_conv2d": _convolution,
    "dense": _dense,
    "add": _elementwise,
    "sub": _elementwise,
    "mul": _elementwise,
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
    "global_avg_pool": _global_avg_pool,
    "lut": _lut,
    "concat": _concat,
    "pad": _pad,
    "reshape": _reshape,
    "requantize": _requantize,
    "resize_nearest": _resize_nearest,
    "slice": _slice,
    "softmax": _softmax,
}
