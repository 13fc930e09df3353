"""Float `Graph` → float ONNX file, for ONNX Runtime and everything else that reads ONNX.

Inputs and outputs are float32 [N, *shape] with N free. Every operation of the float graph has its spelling in
`SPELLINGS`; the arithmetic is that of `evaluate_graph` but for the order of sums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from thumbnet.errors import UnsupportedOpError
from thumbnet.exporters.onnx_model import OnnxModel
from thumbnet.graph.graph import Graph, Node, Shape


class FloatWriter:
    """The file in the making; `values` are the names there of the graph's values."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.shapes = graph, graph.shapes
        self.model = OnnxModel(graph.name)
        self.values: dict[str, str] = {}

    def shape(self, value: str) -> Shape:
        return self.shapes[value]

    def inputs(self, node: Node) -> list[str]:
        return [self.values[v] for v in node.inputs]

    def weights(self, node: Node, *keys: str) -> list[str]:
        """Constants for those of `keys` that the node has."""
        return [
            self.model.constant(f"{node.name}.{key}", node.weights[key], np.float32)
            for key in keys
            if key in node.weights
        ]

    def emit(self, node: Node, op: str, inputs: Sequence[str], **attributes: Any) -> None:
        """An operator that makes the node's value, its fused activation behind it."""
        activation = str(node.attrs.get("activation", "none"))
        if activation == "none":
            self.values[node.name] = self.model.node(op, inputs, node.name, **attributes)
            return
        inner = self.model.node(op, inputs, f"{node.name}/linear", **attributes)
        self.values[node.name] = self.activation(node, activation, inner)

    def activation(self, node: Node, activation: str, x: str) -> str:
        if activation == "relu":
            return self.model.node("Relu", [x], node.name)
        if activation == "relu6":
            return self.model.node("Clip", [x, *self.scalars(node, 0.0, 6.0)], node.name)
        raise UnsupportedOpError(activation, node.name, "It cannot be written as ONNX.")

    def scalars(self, node: Node, *numbers: float) -> list[str]:
        return [self.model.constant(f"{node.name}.bound", np.float32(v)) for v in numbers]


Spelling = Callable[[FloatWriter, Node], None]


def to_onnx(graph: Graph) -> bytes:
    """The file's bytes; equal graphs give equal bytes.

    Raises `UnsupportedOpError` for an operation without a spelling, and `ToolchainError` without the package `onnx`.
    """
    writer = FloatWriter(graph)
    for made in graph.inputs:
        writer.values[made.name] = writer.model.input(made.name, made.shape)
    for node in graph.nodes:
        if node.op not in SPELLINGS:
            raise UnsupportedOpError(node.op, node.name, "It cannot be written as ONNX; replace it.")
        SPELLINGS[node.op](writer, node)
    inputs = {i.name for i in graph.inputs}
    for value in graph.outputs:
        name = writer.values[value]
        if value in inputs or graph.outputs.count(value) > 1:  # an output must be a value of its own
            name = writer.model.node("Identity", [name], f"{value}/output")
        writer.model.output(name, writer.shape(value))
    return writer.model.finish()


# --- windows


def _window(node: Node) -> dict[str, Any]:
    """Strides and padding (top, left, bottom, right), which is ONNX's order too."""
    pads = [int(p) for p in node.attrs.get("padding", (0, 0, 0, 0))]
    return {"strides": [int(s) for s in node.attrs["stride"]], "pads": pads}


def _convolution(w: FloatWriter, node: Node) -> None:
    channels = w.shape(node.inputs[0])[0]
    groups = channels if node.op == "depthwise_conv2d" else int(node.attrs.get("groups", 1))
    attributes = {"dilations": [int(d) for d in node.attrs.get("dilation", (1, 1))], "group": groups, **_window(node)}
    w.emit(node, "Conv", [*w.inputs(node), *w.weights(node, "weight", "bias")], **attributes)


def _conv_transpose2d(w: FloatWriter, node: Node) -> None:
    w.emit(node, "ConvTranspose", [*w.inputs(node), *w.weights(node, "weight", "bias")], **_window(node))


def _dense(w: FloatWriter, node: Node) -> None:
    w.emit(node, "Gemm", [*w.inputs(node), *w.weights(node, "weight", "bias")], transB=1)


def _batch_norm(w: FloatWriter, node: Node) -> None:
    weights = w.weights(node, "weight", "bias", "mean", "var")
    w.emit(node, "BatchNormalization", [*w.inputs(node), *weights], epsilon=float(node.attrs["eps"]))


def _pool(w: FloatWriter, node: Node) -> None:
    op = "MaxPool" if node.op == "max_pool2d" else "AveragePool"
    attributes: dict[str, Any] = {"kernel_shape": [int(k) for k in node.attrs["kernel"]], **_window(node)}
    counted = op == "AveragePool" and bool(node.attrs.get("count_include_pad"))
    (x,) = w.inputs(node)
    if counted or max(attributes["pads"]) >= min(attributes["kernel_shape"]):  # runtimes take less than a window
        if op == "AveragePool" and not counted and any(attributes["pads"]):
            raise UnsupportedOpError(
                node.op, node.name, "Padding that is not averaged must be smaller than the window."
            )
        x = _padded(w, node, x, attributes["pads"], 0.0 if op == "AveragePool" else -np.inf)
        attributes["pads"] = [0, 0, 0, 0]
    w.emit(node, op, [x], **attributes)


def _padded(w: FloatWriter, node: Node, x: str, padding: Sequence[int], value: float) -> str:
    top, left, bottom, right = (int(p) for p in padding)
    amounts = w.model.integers(f"{node.name}.padding", [0, 0, top, left, 0, 0, bottom, right])
    constant = w.model.constant(f"{node.name}.padding_value", np.float32(value))
    return w.model.node("Pad", [x, amounts, constant], f"{node.name}/padded")


def _pad(w: FloatWriter, node: Node) -> None:
    top, left, bottom, right = (int(p) for p in node.attrs["padding"])
    w.emit(
        node, "Pad", [*w.inputs(node), w.model.integers(f"{node.name}.padding", [0, 0, top, left, 0, 0, bottom, right])]
    )


def _global_avg_pool(w: FloatWriter, node: Node) -> None:
    (x,) = w.inputs(node)
    if node.attrs.get("keepdims"):
        w.emit(node, "GlobalAveragePool", [x])
    else:
        w.emit(node, "Flatten", [w.model.node("GlobalAveragePool", [x], f"{node.name}/pooled")], axis=1)


# --- value by value


def _plain(op: str, **attributes: Any) -> Spelling:
    return lambda w, node: w.emit(node, op, w.inputs(node), **attributes)


def _relu6(w: FloatWriter, node: Node) -> None:
    w.emit(node, "Clip", [*w.inputs(node), *w.scalars(node, 0.0, 6.0)])


def _silu(w: FloatWriter, node: Node) -> None:
    (x,) = w.inputs(node)
    w.emit(node, "Mul", [x, w.model.node("Sigmoid", [x], f"{node.name}/sigmoid")])


def _alpha(op: str, default: float | None = None) -> Spelling:
    def spell(w: FloatWriter, node: Node) -> None:
        alpha = node.attrs["alpha"] if default is None else node.attrs.get("alpha", default)
        w.emit(node, op, w.inputs(node), alpha=float(alpha))

    return spell


def _clip(w: FloatWriter, node: Node) -> None:
    low, high = (float(node.attrs[k]) for k in ("low", "high"))
    w.emit(node, "Clip", [*w.inputs(node), *w.scalars(node, low, high)])


def _prelu(w: FloatWriter, node: Node) -> None:
    """Slopes per channel [C], or one."""
    slope = node.weights["weight"].reshape(-1, *[1] * (len(w.shape(node.name)) - 1))
    w.emit(node, "PRelu", [*w.inputs(node), w.model.constant(f"{node.name}.slope", slope, np.float32)])


def _reduce(w: FloatWriter, node: Node) -> None:
    op = {"mean": "ReduceMean", "sum": "ReduceSum", "max": "ReduceMax", "min": "ReduceMin"}[str(node.attrs["kind"])]
    axes, keep = [int(a) + 1 for a in node.attrs["axes"]], int(bool(node.attrs.get("keepdims")))
    if op == "ReduceSum":  # the first of them whose axes became an input
        w.emit(node, op, [*w.inputs(node), w.model.integers(f"{node.name}.axes", axes)], keepdims=keep)
    else:
        w.emit(node, op, w.inputs(node), axes=axes, keepdims=keep)


# --- values that move


def _axis(op: str) -> Spelling:
    return lambda w, node: w.emit(node, op, w.inputs(node), axis=int(node.attrs["axis"]) + 1)


def _slice(w: FloatWriter, node: Node) -> None:
    names = ("start", "stop", "axis")
    axis, start, stop = (int(node.attrs[k]) for k in ("axis", "start", "stop"))
    bounds = [w.model.integers(f"{node.name}.{k}", [v]) for k, v in zip(names, (start, stop, axis + 1), strict=True)]
    w.emit(node, "Slice", [*w.inputs(node), *bounds])


def _transpose(w: FloatWriter, node: Node) -> None:
    w.emit(node, "Transpose", w.inputs(node), perm=[0, *(int(a) + 1 for a in node.attrs["perm"])])


def _reshape(w: FloatWriter, node: Node) -> None:
    shape = w.model.integers(f"{node.name}.shape", [0, *w.shape(node.name)])  # 0: the batch as it is
    w.emit(node, "Reshape", [*w.inputs(node), shape])


def _resize(w: FloatWriter, node: Node) -> None:
    """By factors, as the batch is free; torch's nearest neighbour reads pixel ⌊i · in / out⌋."""
    before, after = w.shape(node.inputs[0]), w.shape(node.name)
    if str(node.attrs.get("mode", "nearest")) == "nearest":
        mode = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    else:
        kind = "align_corners" if node.attrs.get("align_corners") else "asymmetric"
        kind = "half_pixel" if node.attrs.get("half_pixel_centers") else kind
        mode = {"mode": "linear", "coordinate_transformation_mode": kind}
    scales = w.model.constant(f"{node.name}.scales", resize_factors(before[1:], after[1:]), np.float32)
    w.emit(node, "Resize", [*w.inputs(node), "", scales], **mode)


def resize_factors(before: Sequence[int], after: Sequence[int]) -> list[np.float32]:
    """Factors [1, 1, height, width] for which ONNX's ⌊size · factor⌋ is the size wanted."""
    factors = [np.float32(1), np.float32(1)]
    for n, m in zip(before, after, strict=True):
        factor = np.float32(m) / np.float32(n)
        while int(np.floor(np.float32(n) * factor)) < m:
            factor = np.nextafter(factor, np.float32(np.inf))
        factors.append(factor)
    return factors


SPELLINGS: Mapping[str, Spelling] = {
    "conv2d": _convolution,
    "depthwise_conv2d": _convolution,
    "conv_transpose2d": _conv_transpose2d,
    "dense": _dense,
    "batch_norm": _batch_norm,
    "add": _plain("Add"),
    "sub": _plain("Sub"),
    "mul": _plain("Mul"),
    "maximum": _plain("Max"),
    "minimum": _plain("Min"),
    "reduce": _reduce,
    "concat": _axis("Concat"),
    "slice": _slice,
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
    "global_avg_pool": _global_avg_pool,
    "relu": _plain("Relu"),
    "relu6": _relu6,
    "hard_swish": _plain("HardSwish"),
    "hard_sigmoid": _plain("HardSigmoid", alpha=1 / 6, beta=0.5),
    "sigmoid": _plain("Sigmoid"),
    "tanh": _plain("Tanh"),
    "silu": _silu,
    "abs": _plain("Abs"),
    "clip": _clip,
    "elu": _alpha("Elu", 1.0),
    "leaky_relu": _alpha("LeakyRelu"),
    "prelu": _prelu,
    "softmax": _plain("Softmax", axis=1),
    "log_softmax": _plain("LogSoftmax", axis=1),
    "pad": _pad,
    "flatten": _plain("Flatten", axis=1),
    "reshape": _reshape,
    "resize": _resize,
    "transpose": _transpose,
}
