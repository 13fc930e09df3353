"""From the float graph to the integer graph: the only place where layout changes (NCHW to NHWC).

Lowering takes a cleaned graph (batch norms folded, activations fused) and the observed range of every value, and fixes
all integer parameters once; simulator, TFLite and C only spell them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.errors import ModelError, UnsupportedOpError
from thumbnet.graph.graph import Graph, Node, Shape
from thumbnet.integer import build
from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor
from thumbnet.integer.quantization import KEEPS_QUANTIZATION, QParams, assign, batch_norm_affine, check_weight_bits
from thumbnet.integer.tables import SIGMOID_OUTPUT

__all__ = ["KEEPS_QUANTIZATION", "lower"]

_HARD_SIGMOID_GRID = (
    6 / 256,
    0,
)  # x stored at this scale has the bits of (x + 3) / 6 stored at SIGMOID_OUTPUT
Floats = npt.NDArray[np.float32]


def lower(
    graph: Graph,
    ranges: Mapping[str, tuple[float, float]] | None,
    *,
    fixed: Mapping[str, QParams] | None = None,
    weight_bits: Mapping[str, int] | None = None,
) -> IntegerGraph:
    """The integer graph of a cleaned float graph.

    `ranges[value]` is the observed (low, high) of every graph input and node; None lowers for costs alone, with unit
    ranges. `fixed[value]` forces (scale, zero point), such as those of an image input. Values of operations that keep
    their input's quantization share one range, the union. `weight_bits[node]` is 4 or 8, by default 8. Raises
    `UnsupportedOpError` for an operation without integer form, and `ModelError` where a range is missing or not finite,
    or where a node named in `weight_bits` has no weights.
    """
    bits = weight_bits or {}
    check_weight_bits(graph, bits)
    work = _Work(graph, assign(graph, ranges, fixed or {}, bits), bits)
    for value in graph.inputs:
        work.tensor(value.name, value.shape)
    for node in graph.nodes:
        lowerer = _LOWER.get(node.op)
        if lowerer is None:
            raise UnsupportedOpError(node.op, node.name, "It has no integer form; fold or replace it first.")
        lowerer(work, node)
    for v in graph.outputs:
        if v in work.flattened:
            raise UnsupportedOpError(
                "flatten", v, "A flattened image cannot be an output; pool it or add a dense layer."
            )
    inputs = tuple(i.name for i in graph.inputs)
    return IntegerGraph(graph.name, work.tensors, inputs, tuple(work.nodes), graph.outputs)


# --- nodes


@dataclass(eq=False)
class _Work:
    """What has been lowered so far."""

    graph: Graph
    qparams: dict[str, QParams]
    weight_bits: Mapping[str, int]
    tensors: dict[str, QTensor] = field(default_factory=dict)
    nodes: list[IntegerNode] = field(default_factory=list)
    flattened: dict[str, Shape] = field(default_factory=dict)  # value -> (C, H, W) whose order it has lost

    def tensor(self, name: str, shape: Shape, qparams: QParams | None = None) -> QTensor:
        """Registers a tensor under its NHWC shape."""
        scale, zero_point = qparams or self.qparams[name]
        stored = (shape[1], shape[2], shape[0]) if len(shape) == 3 else tuple(shape)
        self.tensors[name] = QTensor(name, stored, float(np.float32(scale)), int(zero_point))
        return self.tensors[name]

    def out(self, node: Node) -> QTensor:
        return self.tensor(node.name, self.graph.shapes[node.name])

    def inputs(self, node: Node) -> list[QTensor]:
        return [self.tensors[v] for v in node.inputs]


_Lowerer = Callable[[_Work, Node], None]


def _weighted_options(work: _Work, node: Node) -> dict[str, Any]:
    keys = ("stride", "padding", "dilation", "activation")
    return {k: node.attrs[k] for k in keys if k in node.attrs} | {"weight_bits": work.weight_bits.get(node.name, 8)}


def _conv2d(work: _Work, node: Node) -> None:
    (x,) = work.inputs(node)
    weight = np.ascontiguousarray(node.weights["weight"].transpose(0, 2, 3, 1))
    groups = int(node.attrs.get("groups", 1))
    bias = node.weights.get("bias")
    work.nodes.append(
        build.conv2d(node.name, x, work.out(node), weight, bias, groups=groups, **_weighted_options(work, node))
    )


def _depthwise_conv2d(work: _Work, node: Node) -> None:
    (x,) = work.inputs(node)
    weight = np.ascontiguousarray(node.weights["weight"][:, 0].transpose(1, 2, 0))
    bias = node.weights.get("bias")
    options = _weighted_options(work, node)
    work.nodes.append(build.depthwise_conv2d(node.name, x, work.out(node), weight, bias, **options))


def _dense(work: _Work, node: Node) -> None:
    (x,) = work.inputs(node)
    weight: Floats = node.weights["weight"]
    if node.inputs[0] in work.flattened:  # the input is stored height, width, channel; the weights follow
        c, h, w = work.flattened[node.inputs[0]]
        weight = weight.reshape(-1, c, h, w).transpose(0, 2, 3, 1).reshape(len(weight), -1)
    bias = node.weights.get("bias")
    work.nodes.append(build.dense(node.name, x, work.out(node), weight, bias, **_weighted_options(work, node)))


def _batch_norm(work: _Work, node: Node) -> None:
    """One that no convolution could take in: a 1×1 depthwise convolution."""
    (x,) = work.inputs(node)
    if len(x.shape) != 3:
        raise UnsupportedOpError(
            node.op, node.name, "Batch norm of a vector must follow a dense layer, to fold into it."
        )
    gain, offset = batch_norm_affine(node)
    work.nodes.append(build.depthwise_conv2d(node.name, x, work.out(node), gain.reshape(1, 1, -1), offset))


def _two_inputs(work: _Work, node: Node) -> tuple[QTensor, QTensor]:
    """Both inputs; one that has a single number per channel comes second."""
    _same_order(work, node)
    a, b = work.inputs(node)
    if a.bytes < b.bytes:
        if node.op == "sub":
            raise UnsupportedOpError(node.op, node.name, "Only its second input may have one number per channel.")
        a, b = b, a
    return a, b


def _same_order(work: _Work, node: Node) -> None:
    """Elementwise operations on flattened values pass their order on; two different orders cannot meet."""
    orders = {work.flattened.get(v) for v in node.inputs}
    if len(orders) != 1:
        raise UnsupportedOpError(node.op, node.name, "It combines flattened images with vectors of another order.")
    order = orders.pop()
    if order is not None:
        work.flattened[node.name] = order


def _add(work: _Work, node: Node) -> None:
    a, b = _two_inputs(work, node)
    make = build.add if node.op == "add" else build.subtract
    activation = str(node.attrs.get("activation", "none"))
    work.nodes.append(make(node.name, a, b, work.out(node), activation=activation))


def _mul(work: _Work, node: Node) -> None:
    a, b = _two_inputs(work, node)
    activation = str(node.attrs.get("activation", "none"))
    work.nodes.append(build.multiply(node.name, a, b, work.out(node), activation=activation))


def _pool(work: _Work, node: Node) -> None:
    (x,) = work.inputs(node)
    padding = list(node.attrs.get("padding", (0, 0, 0, 0)))
    if node.op == "avg_pool2d" and node.attrs.get("count_include_pad") and any(padding):
        x, padding = _padded(work, node, x, padding), [0, 0, 0, 0]
    work.out(node)
    work.nodes.append(build.pool(node.name, node.op, x, node.attrs["kernel"], node.attrs["stride"], padding))


def _padded(work: _Work, node: Node, x: QTensor, padding: list[int]) -> QTensor:
    """Zeros around the node's input, by a pad of their own."""
    top, left, bottom, right = padding
    shape = (x.shape[0] + top + bottom, x.shape[1] + left + right, x.shape[2])
    out = QTensor(f"{node.name}.pad", shape, x.scale, x.zero_point)
    work.tensors[out.name] = out
    work.nodes.append(IntegerNode(out.name, "pad", (x.name,), {"padding": padding}))
    return out


def _global_avg_pool(work: _Work, node: Node) -> None:
    (x,) = work.inputs(node)
    work.nodes.append(build.global_avg_pool(node.name, x, work.out(node)))


def _relu(work: _Work, node: Node) -> None:
    (x,) = work.inputs(node)
    _same_order(work, node)
    work.nodes.append(build.relu(node.name, x, work.out(node), activation=node.op))


def _table(work: _Work, node: Node) -> None:
    (x,) = work.inputs(node)
    _same_order(work, node)
    out, alpha = work.out(node), float(node.attrs.get("alpha", 0.0))
    if node.op == "hard_swish" and not 2.0**-8 <= x.scale / out.scale < 2.0**7:
        raise ModelError(  # beyond TFLM's 16-bit arithmetic, and nothing of the input would be left
            f"'{node.name}' (hard_swish) has an input scale of {x.scale:.3g} and an output scale of {out.scale:.3g}.",
            "Such ranges come from a damaged network or calibration; check both.",
        )
    work.nodes.append(build.lut(node.name, x, out, node.op, alpha=alpha))


def _silu(work: _Work, node: Node) -> None:
    (x,) = work.inputs(node)
    _same_order(work, node)
    gate = work.tensor(f"{node.name}.sigmoid", work.graph.shapes[node.name], SIGMOID_OUTPUT)
    work.nodes.append(build.lut(gate.name, x, gate, "sigmoid"))
    work.nodes.append(build.multiply(node.name, x, gate, work.out(node)))


def _hard_sigmoid(work: _Work, node: Node) -> None:
    """relu6(x + 3) / 6: x on a grid that saturates at ±3, read as another grid."""
    (x,) = work.inputs(node)
    _same_order(work, node)
    grid = work.tensor(f"{node.name}.grid", work.graph.shapes[node.name], _HARD_SIGMOID_GRID)
    work.nodes.append(build.requantize(grid.name, x, grid))
    out = work.out(node)
    work.nodes.append(IntegerNode(node.name, "reshape", (grid.name,), {"shape": list(out.shape)}))


def _softmax(work: _Work, node: Node) -> None:
    (x,) = work.inputs(node)
    work.out(node)
    work.nodes.append(build.softmax(node.name, x))


def _concat(work: _Work, node: Node) -> None:
    out = work.out(node)
    names = []
    for x in work.inputs(node):
        if (x.scale, x.zero_point) != (out.scale, out.zero_point):
            same = QTensor(f"{node.name}.{x.name}", x.shape, out.scale, out.zero_point)
            work.tensors[same.name] = same
            work.nodes.append(build.requantize(same.name, x, same))
            x = same
        names.append(x.name)
    axis = _stored_axis(work, node)
    work.nodes.append(IntegerNode(node.name, "concat", tuple(names), {"axis": axis}))


def _slice(work: _Work, node: Node) -> None:
    work.out(node)
    attrs = {
        "axis": _stored_axis(work, node),
        "start": int(node.attrs["start"]),
        "stop": int(node.attrs["stop"]),
    }
    work.nodes.append(IntegerNode(node.name, "slice", node.inputs, attrs))


def _stored_axis(work: _Work, node: Node) -> int:
    """The node's axis in the stored order."""
    if any(v in work.flattened for v in node.inputs):
        raise UnsupportedOpError(node.op, node.name, "It works on a flattened image; do it before flattening.")
    axis = int(node.attrs["axis"])
    return (axis - 1) % 3 if len(work.graph.shapes[node.name]) == 3 else axis


def _pad(work: _Work, node: Node) -> None:
    work.out(node)
    work.nodes.append(IntegerNode(node.name, "pad", node.inputs, {"padding": list(node.attrs["padding"])}))


def _resize(work: _Work, node: Node) -> None:
    size = list(work.out(node).shape[:2])
    work.nodes.append(IntegerNode(node.name, "resize_nearest", node.inputs, {"size": size}))


def _reshape(work: _Work, node: Node) -> None:
    before, after = work.graph.shapes[node.inputs[0]], work.graph.shapes[node.name]
    (source,) = node.inputs
    if len(before) == 3 and len(after) == 1:
        if before[1] * before[2] > 1 and before[0] > 1:
            work.flattened[node.name] = before
    elif len(before) == len(after) == 1:
        if source in work.flattened:
            work.flattened[node.name] = work.flattened[source]
    elif source in work.flattened or (sum(d > 1 for d in after) > 1 and before != after):
        raise UnsupportedOpError(node.op, node.name, "Only flattening and reshapes of vectors have an integer form.")
    out = work.out(node)
    work.nodes.append(IntegerNode(node.name, "reshape", node.inputs, {"shape": list(out.shape)}))


_LOWER: dict[str, _Lowerer] = {
    "conv2d": _conv2d,
    "depthwise_conv2d": _depthwise_conv2d,
    "dense": _dense,
    "batch_norm": _batch_norm,
    "add": _add,
    "sub": _add,
    "mul": _mul,
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
    "global_avg_pool": _global_avg_pool,
    "relu": _relu,
    "relu6": _relu,
    "sigmoid": _table,
    "tanh": _table,
    "hard_swish": _table,
    "leaky_relu": _table,
    "silu": _silu,
    "hard_sigmoid": _hard_sigmoid,
    "softmax": _softmax,
    "concat": _concat,
    "slice": _slice,
    "pad": _pad,
    "resize": _resize,
    "flatten": _reshape,
    "reshape": _reshape,
}
