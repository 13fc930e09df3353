"""IntegerGraph → int8 TFLite file.

Only spelling happens here: the scales in the file are those from which the integer graph's multipliers were made, so
TFLM arrives at the same integers. Paddings that TFLite's SAME does not describe become a PAD operation in front.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.errors import UnsupportedOpError
from thumbnet.exporters.tflite_file import TfliteFile
from thumbnet.exporters.tflite_moves import MOVES
from thumbnet.exporters.tflite_writer import Writer
from thumbnet.exporters.tflm import run_tflm
from thumbnet.integer.arithmetic import activation_clamp
from thumbnet.integer.binary import BINARY, constant_of
from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor
from thumbnet.integer.reductions import EXTREMES, SUMS

__all__ = ["run_tflm", "to_tflite"]

_ACTIVATIONS = ("none", "relu", "relu6")


def to_tflite(graph: IntegerGraph) -> bytes:
    """The file's bytes: tensors have a batch axis of 1 in front. Equal graphs give equal bytes.

    Raises `UnsupportedOpError` where TFLite has no spelling for a node: average pooling whose padding does not count
    and is not SAME.
    """
    writer = Writer(graph)
    for name in graph.inputs:
        writer.activation(graph.tensors[name])
    for node in graph.nodes:
        if node.op not in _SPELLING:
            raise UnsupportedOpError(node.op, node.name, "It cannot be written as TFLite.")
        _SPELLING[node.op](writer, node)
    return writer.file.finish(
        graph.name, [writer.index[v] for v in graph.inputs], [writer.index[v] for v in graph.outputs]
    )


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


def _weights(writer: Writer, node: IntegerNode, weight: npt.NDArray[np.int8], axis: int) -> list[int]:
    """Weight and bias tensors. A bias has the scale input · weight and zero point 0."""
    x = writer.source(node)
    scales = np.array(node.weight_scale, np.float32)
    bias = node.arrays["bias"]
    make, bits = writer.file.tensor, node.weight_bits
    return [
        make(f"{node.name}/weight", weight.shape, np.int8, scales=scales, axis=axis, data=weight, bits=bits),
        make(f"{node.name}/bias", bias.shape, np.int32, scales=np.float32(x.scale) * scales, data=bias),
    ]


def _convolution(writer: Writer, node: IntegerNode) -> None:
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
    version = 7 if node.weight_bits == 4 else 3
    writer.file.operator(name, version, inputs, [writer.activation(out)], table, **options)


def _conv_transpose2d(writer: Writer, node: IntegerNode) -> None:
    """With SAME padding where that cuts off the same; else whole, and a SLICE takes what is wanted of it."""
    x, out, (top, left) = writer.source(node), writer.tensor_of(node), node.attrs["padding"]
    (kh, kw), stride = node.arrays["weight"].shape[1:3], [int(s) for s in node.attrs["stride"]]
    full = [(x.shape[k] - 1) * stride[k] + n for k, n in enumerate((kh, kw))]
    same = all(
        out.shape[k] == x.shape[k] * stride[k] <= full[k] and cut == (full[k] - out.shape[k]) // 2
        for k, cut in enumerate((top, left))
    )
    beyond = [max(0, -((full[k] - cut - out.shape[k]) // stride[k])) for k, cut in enumerate((top, left))]
    index = writer.index[x.name]
    if any(beyond):  # rows below the last window have the bias alone: as zeros below the input give it
        index, _ = writer.padded(node, [0, 0, *beyond])
    whole = (full[0] + beyond[0] * stride[0], full[1] + beyond[1] * stride[1], out.shape[2])
    made = out if same or whole == out.shape else replace(out, name=f"{node.name}/whole", shape=whole)
    weight, bias = _weights(writer, node, node.arrays["weight"], 0)
    size = writer.integers(f"{node.name}/size", [1, *made.shape])
    options = {
        "padding": TfliteFile.padding("SAME" if same else "VALID"),
        "strideH": stride[0],
        "strideW": stride[1],
        "fusedActivationFunction": _fused(node, out),
    }
    inputs = [size, weight, index, bias]
    writer.file.operator("TRANSPOSE_CONV", 4, inputs, [writer.activation(made)], "TransposeConvOptions", **options)
    if made is not out:
        constants = [
            writer.integers(f"{node.name}/begin", [0, top, left, 0]),
            writer.integers(f"{node.name}/end", [1, *out.shape]),
        ]
        inputs = [writer.index[made.name], *constants]
        writer.file.operator("SLICE", 2, inputs, [writer.activation(out)], "SliceOptions")


def _dense(writer: Writer, node: IntegerNode) -> None:
    constants = _weights(writer, node, node.arrays["weight"], 0)
    fused = _fused(node, writer.tensor_of(node))
    version = 10 if node.weight_bits == 4 else 4
    writer.emit(node, "FULLY_CONNECTED", version, constants, "FullyConnectedOptions", fusedActivationFunction=fused)


def _elementwise(writer: Writer, node: IntegerNode) -> None:
    name, version, table = {
        "add": ("ADD", 2, "AddOptions"),
        "sub": ("SUB", 3, "SubOptions"),
        "mul": ("MUL", 2, "MulOptions"),
        "maximum": ("MAXIMUM", 2, "MaximumMinimumOptions"),
        "minimum": ("MINIMUM", 2, "MaximumMinimumOptions"),
        "prelu": ("PRELU", 1, ""),
    }[node.op]
    out = writer.tensor_of(node)
    options = {"fusedActivationFunction": _fused(node, out)} if node.op in ("add", "sub", "mul") else {}
    inputs = [writer.index[v] for v in node.inputs]
    constant = constant_of(node)
    if constant is not None:
        stored = writer.constant(constant, node.arrays["constant"])
        inputs.insert(0 if node.attrs.get("constant_first") else 1, stored)
    writer.file.operator(name, version, inputs, [writer.activation(out)], table, **options)


def _pool(writer: Writer, node: IntegerNode) -> None:
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


def _global_avg_pool(writer: Writer, node: IntegerNode) -> None:
    axes = writer.integers(f"{node.name}/axes", [1, 2])
    keep = len(writer.tensor_of(node).shape) == 3
    writer.emit(node, "MEAN", 2, [axes], "ReducerOptions", keepDims=keep)


def _reduction(writer: Writer, node: IntegerNode) -> None:
    x, out = writer.source(node), writer.tensor_of(node)
    axes = writer.integers(f"{node.name}/axes", [int(a) + 1 for a in node.attrs["axes"]])
    name = {"mean": "MEAN", "sum": "SUM", "reduce_max": "REDUCE_MAX", "reduce_min": "REDUCE_MIN"}[node.op]
    writer.emit(node, name, 2, [axes], "ReducerOptions", keepDims=len(out.shape) == len(x.shape))


def _lut(writer: Writer, node: IntegerNode) -> None:
    kind = node.attrs["kind"]
    if kind == "leaky_relu":
        writer.emit(node, "LEAKY_RELU", 2, (), "LeakyReluOptions", alpha=float(np.float32(node.attrs["alpha"])))
    elif kind == "hard_swish":
        writer.emit(node, "HARD_SWISH", 1, (), "HardSwishOptions")
    elif kind in ("sigmoid", "tanh"):
        writer.emit(node, {"sigmoid": "LOGISTIC", "tanh": "TANH"}[kind], 2)
    elif kind in ("elu", "abs"):
        writer.emit(node, kind.upper(), 1)
    else:
        raise UnsupportedOpError(node.op, node.name, "TFLite has no operator for a table of one's own.")


def _requantize(writer: Writer, node: IntegerNode) -> None:
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


def _softmax(writer: Writer, node: IntegerNode) -> None:
    writer.emit(node, "SOFTMAX", 2, (), "SoftmaxOptions", beta=1.0)


_SPELLING: dict[str, Callable[[Writer, IntegerNode], None]] = {
    "conv2d": _convolution,
    "depthwise_conv2d": _convolution,
    "conv_transpose2d": _conv_transpose2d,
    "dense": _dense,
    **dict.fromkeys(BINARY, _elementwise),
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
    "global_avg_pool": _global_avg_pool,
    **dict.fromkeys((*SUMS, *EXTREMES), _reduction),
    "lut": _lut,
    "requantize": _requantize,
    "softmax": _softmax,
    **MOVES,
}
