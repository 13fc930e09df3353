"""Lowering of operations that compute: one function each, which appends its integer nodes."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.errors import ModelError, UnsupportedOpError
from thumbnet.graph.graph import Node
from thumbnet.graph.layout import Layout, order_of, parts_of
from thumbnet.graph.ops.activation import Softmax
from thumbnet.integer import build
from thumbnet.integer.binary import fits
from thumbnet.integer.graph import IntegerNode, QTensor
from thumbnet.integer.lowering import Lowerer, Work, canonical_axes, requantized
from thumbnet.integer.quantization import batch_norm_affine, weight_bits
from thumbnet.integer.reductions import blocks
from thumbnet.integer.tables import SIGMOID_OUTPUT

Floats = npt.NDArray[np.float32]
# x stored at this scale has the bits of (x + 3) / 6 stored at SIGMOID_OUTPUT
_HARD_SIGMOID_GRID = (6 / 256, 0)


def _weighted_options(node: Node) -> dict[str, Any]:
    keys = ("stride", "padding", "dilation", "activation")
    return {k: node.attrs[k] for k in keys if k in node.attrs} | {"weight_bits": weight_bits(node)}


def _conv2d(work: Work, node: Node) -> None:
    (x,) = work.inputs(node)
    weight = np.ascontiguousarray(node.weights["weight"].transpose(0, 2, 3, 1))
    groups = int(node.attrs.get("groups", 1))
    bias = node.weights.get("bias")
    work.nodes.append(
        build.conv2d(node.name, x, work.out(node), weight, bias, groups=groups, **_weighted_options(node))
    )


def _depthwise_conv2d(work: Work, node: Node) -> None:
    (x,) = work.inputs(node)
    weight = np.ascontiguousarray(node.weights["weight"][:, 0].transpose(1, 2, 0))
    bias = node.weights.get("bias")
    options = _weighted_options(node)
    work.nodes.append(build.depthwise_conv2d(node.name, x, work.out(node), weight, bias, **options))


def _conv_transpose2d(work: Work, node: Node) -> None:
    (x,) = work.inputs(node)
    weight = np.ascontiguousarray(node.weights["weight"].transpose(0, 2, 3, 1))
    options = {"stride": node.attrs["stride"], "activation": str(node.attrs.get("activation", "none"))}
    out, bias, padding = work.out(node), node.weights.get("bias"), list(node.attrs["padding"][:2])
    work.nodes.append(build.conv_transpose2d(node.name, x, out, weight, bias, padding=padding, **options))


def _dense(work: Work, node: Node) -> None:
    (source,) = node.inputs
    layout, x = work.layouts[source], work.tensors[source]
    if len(x.shape) != 1:
        x = work.canonical(source)
        layout = Layout.row_major(layout.shape)
    weight: Floats = node.weights["weight"][:, order_of(layout.axes[0], layout.stored)]  # as the input lies
    bias = node.weights.get("bias")
    work.nodes.append(build.dense(node.name, x, work.out(node), weight, bias, **_weighted_options(node)))


def _batch_norm(work: Work, node: Node) -> None:
    """One that no convolution could take in: a 1×1 depthwise convolution."""
    (x,) = work.inputs(node)
    if len(x.shape) != 3:
        raise UnsupportedOpError(
            node.op, node.name, "Batch norm of a vector must follow a dense layer, to fold into it."
        )
    gain, offset = batch_norm_affine(node)
    work.nodes.append(build.depthwise_conv2d(node.name, x, work.out(node), gain.reshape(1, 1, -1), offset))


def _two_inputs(work: Work, node: Node) -> tuple[QTensor, QTensor, QTensor]:
    """Both inputs and the output; of operations that commute, the larger input first."""
    first, second = node.inputs
    shapes = [work.graph.shapes[v] for v in node.inputs]
    if shapes[0] == shapes[1] and work.layouts[first].key() == work.layouts[second].key():
        a, b = work.tensors[first], work.tensors[second]
        if a.shape == b.shape:
            return a, b, work.alike(node.name, first)
    a, b = work.inputs(node)
    out = work.out(node)
    if not fits(node.op, a.shape, b.shape, out.shape):
        raise UnsupportedOpError(
            node.op, node.name, f"The smaller of {shapes[0]} and {shapes[1]} must repeat over whole axes that adjoin."
        )
    return (b, a, out) if a.bytes < b.bytes and node.op != "sub" else (a, b, out)


def _add(work: Work, node: Node) -> None:
    a, b, out = _two_inputs(work, node)
    make = build.add if node.op == "add" else build.subtract
    activation = str(node.attrs.get("activation", "none"))
    work.nodes.append(make(node.name, a, b, out, activation=activation))


def _mul(work: Work, node: Node) -> None:
    a, b, out = _two_inputs(work, node)
    activation = str(node.attrs.get("activation", "none"))
    work.nodes.append(build.multiply(node.name, a, b, out, activation=activation))


def _extreme(work: Work, node: Node) -> None:
    a, b, out = _two_inputs(work, node)
    a, b = (requantized(work, node, x, out) for x in (a, b))
    work.nodes.append(build.extreme(node.name, node.op, a, b))


def _prelu(work: Work, node: Node) -> None:
    (x,) = work.inputs(node)
    out, slope = work.out(node), node.weights["slope"]
    scale = float(np.float32(max(float(np.abs(slope).max()), 1e-6) / 127))
    constant = QTensor(f"{node.name}/slope", (1,) * (len(x.shape) - 1) + slope.shape, scale, 0)
    values = np.rint(slope / scale).astype(np.int8).reshape(constant.shape)
    work.nodes.append(build.with_constant(build.prelu(node.name, x, constant, out), constant, values))


def _reduction(work: Work, node: Node) -> None:
    (x,) = work.inputs(node)
    gone = [int(a) for a in node.attrs["axes"]]
    axes = [k for k, a in enumerate(canonical_axes(tuple(range(len(x.shape))))) if a in gone]
    if blocks(axes, x.shape) is None:
        raise UnsupportedOpError(node.op, node.name, "It works over height and width, or over channels, not over both.")
    if node.attrs.get("keepdims"):
        out = work.out(node)
    else:  # what is left lies as it lay
        shape = tuple(s for k, s in enumerate(x.shape) if k not in axes) or (1,)
        parts = [parts_of(s) for s in work.graph.shapes[node.inputs[0]]]
        stored = [p for k, p in enumerate(canonical_axes(tuple(parts))) if k not in axes]
        kept = tuple(p for k, p in enumerate(parts) if k not in gone) or ((),)
        out = work.register(node.name, shape, Layout(kept, tuple(chain(*stored))))
    work.nodes.append(build.reduction(node.name, node.op, x, out, axes))


def _pool(work: Work, node: Node) -> None:
    (x,) = work.inputs(node)
    padding = list(node.attrs.get("padding", (0, 0, 0, 0)))
    if node.op == "avg_pool2d" and node.attrs.get("count_include_pad") and any(padding):
        x, padding = _padded(work, node, x, padding), [0, 0, 0, 0]
    work.out(node)
    work.nodes.append(build.pool(node.name, node.op, x, node.attrs["kernel"], node.attrs["stride"], padding))


def _padded(work: Work, node: Node, x: QTensor, padding: list[int]) -> QTensor:
    """Zeros around the node's input, by a pad of their own."""
    top, left, bottom, right = padding
    shape = (x.shape[0] + top + bottom, x.shape[1] + left + right, x.shape[2])
    out = QTensor(f"{node.name}.pad", shape, x.scale, x.zero_point)
    work.tensors[out.name] = out
    work.nodes.append(IntegerNode(out.name, "pad", (x.name,), {"padding": padding}))
    return out


def _global_avg_pool(work: Work, node: Node) -> None:
    (x,) = work.inputs(node)
    work.nodes.append(build.global_avg_pool(node.name, x, work.out(node)))


def _as_it_lies(work: Work, node: Node) -> tuple[QTensor, QTensor]:
    """Input and output of a function of each number by itself."""
    return work.tensors[node.inputs[0]], work.alike(node.name, node.inputs[0])


def _relu(work: Work, node: Node) -> None:
    x, out = _as_it_lies(work, node)
    work.nodes.append(build.relu(node.name, x, out, activation=node.op))


def _clip(work: Work, node: Node) -> None:
    """The grid of the output ends where the clip does."""
    x, out = _as_it_lies(work, node)
    work.nodes.append(build.requantize(node.name, x, out))


def _table(work: Work, node: Node) -> None:
    x, out = _as_it_lies(work, node)
    alpha = float(node.attrs.get("alpha", 0.0))
    if node.op == "hard_swish" and not 2.0**-8 <= x.scale / out.scale < 2.0**7:
        raise ModelError(  # beyond TFLM's 16-bit arithmetic, and nothing of the input would be left
            f"'{node.name}' (hard_swish) has an input scale of {x.scale:.3g} and an output scale of {out.scale:.3g}.",
            "Such ranges come from a damaged network or calibration; check both.",
        )
    work.nodes.append(build.lut(node.name, x, out, node.op, alpha=alpha))


def _silu(work: Work, node: Node) -> None:
    x, out = _as_it_lies(work, node)
    gate = work.alike(f"{node.name}.sigmoid", node.inputs[0], SIGMOID_OUTPUT)
    work.nodes.append(build.lut(gate.name, x, gate, "sigmoid"))
    work.nodes.append(build.multiply(node.name, x, gate, out))


def _hard_sigmoid(work: Work, node: Node) -> None:
    """relu6(x + 3) / 6: x on a grid that saturates at ±3, read as another grid."""
    x, out = _as_it_lies(work, node)
    grid = work.alike(f"{node.name}.grid", node.inputs[0], _HARD_SIGMOID_GRID)
    work.nodes.append(build.requantize(grid.name, x, grid))
    work.nodes.append(IntegerNode(node.name, "reshape", (grid.name,), {"shape": list(out.shape)}))


def _softmax(work: Work, node: Node) -> None:
    (x,) = work.inputs(node)
    if canonical_axes(tuple(range(len(x.shape))))[-1] != Softmax.axis(node):
        raise UnsupportedOpError(node.op, node.name, "Softmax works over channels, or over the last axis of rows.")
    work.out(node)
    work.nodes.append(build.softmax(node.name, x))


LAYERS: dict[str, Lowerer] = {
    "conv2d": _conv2d,
    "depthwise_conv2d": _depthwise_conv2d,
    "conv_transpose2d": _conv_transpose2d,
    "dense": _dense,
    "batch_norm": _batch_norm,
    "add": _add,
    "sub": _add,
    "mul": _mul,
    "maximum": _extreme,
    "minimum": _extreme,
    "prelu": _prelu,
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
    "global_avg_pool": _global_avg_pool,
    **dict.fromkeys(("mean", "sum", "reduce_max", "reduce_min"), _reduction),
    "relu": _relu,
    "relu6": _relu,
    "clip": _clip,
    "sigmoid": _table,
    "tanh": _table,
    "hard_swish": _table,
    "elu": _table,
    "abs": _table,
    "leaky_relu": _table,
    "silu": _silu,
    "hard_sigmoid": _hard_sigmoid,
    "softmax": _softmax,
}
