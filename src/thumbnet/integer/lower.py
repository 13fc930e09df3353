"""From the float graph to the integer graph: the only place where layout changes (NCHW to NHWC).

Lowering takes a cleaned graph (batch norms folded, activations fused) and the observed range of every value, and fixes
all integer parameters once; simulator, TFLite and C only spell them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from thumbnet.errors import ModelError, UnsupportedOpError
from thumbnet.graph.graph import Graph, Node, Shape
from thumbnet.graph.layout import Layout, LayoutError, order_of, parts_of
from thumbnet.graph.ops.activation import Softmax
from thumbnet.integer import build
from thumbnet.integer.binary import fits
from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor
from thumbnet.integer.quantization import KEEPS_QUANTIZATION, QParams, assign, batch_norm_affine, check_weight_bits
from thumbnet.integer.reductions import blocks
from thumbnet.integer.resize import reads_inside
from thumbnet.integer.tables import SIGMOID_OUTPUT

__all__ = ["KEEPS_QUANTIZATION", "lower"]

_HARD_SIGMOID_GRID = (
    6 / 256,
    0,
)  # x stored at this scale has the bits of (x + 3) / 6 stored at SIGMOID_OUTPUT
Floats = npt.NDArray[np.float32]
_T = TypeVar("_T")


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
    outputs = tuple(work.canonical(v).name for v in graph.outputs)
    inputs = tuple(i.name for i in graph.inputs)
    return IntegerGraph(graph.name, work.tensors, inputs, tuple(work.nodes), outputs)


# --- nodes


@dataclass(eq=False)
class _Work:
    """What has been lowered so far. A value's tensor may hold its numbers in any order, which its layout tells; most
    operations ask for the canonical one: images as height, width, channels, everything else by its axes.
    """

    graph: Graph
    qparams: dict[str, QParams]
    weight_bits: Mapping[str, int]
    tensors: dict[str, QTensor] = field(default_factory=dict)
    nodes: list[IntegerNode] = field(default_factory=list)
    layouts: dict[str, Layout] = field(default_factory=dict)
    _ordered: dict[str, QTensor] = field(default_factory=dict)

    def tensor(self, name: str, shape: Shape, qparams: QParams | None = None) -> QTensor:
        """Registers a tensor for a value of this shape, in canonical order."""
        axes = tuple(parts_of(s) for s in shape)
        return self.register(name, _canonical(shape), Layout(axes, tuple(chain(*_canonical(axes)))), qparams)

    def alike(self, name: str, source: str, qparams: QParams | None = None) -> QTensor:
        """Registers a tensor whose numbers lie as those of the value `source` do."""
        return self.register(name, self.tensors[source].shape, self.layouts[source], qparams)

    def register(self, name: str, stored: Shape, layout: Layout, qparams: QParams | None = None) -> QTensor:
        """Registers a tensor by the shape and order in which it is stored."""
        self.layouts[name] = layout
        scale, zero_point = qparams or self.qparams[name]
        self.tensors[name] = QTensor(name, stored, float(np.float32(scale)), int(zero_point))
        return self.tensors[name]

    def out(self, node: Node) -> QTensor:
        return self.tensor(node.name, self.graph.shapes[node.name])

    def inputs(self, node: Node) -> list[QTensor]:
        return [self.canonical(v) for v in node.inputs]

    def canonical(self, value: str) -> QTensor:
        """The value's numbers in canonical order; moved there where they lie in another."""
        layout, x = self.layouts[value], self.tensors[value]
        shape, wanted = _canonical(layout.shape), tuple(chain(*_canonical(layout.axes)))
        if layout.stored == wanted and x.shape == shape:
            return x
        if value not in self._ordered:
            flat = Layout((wanted,), layout.stored).merged()
            if len(flat.stored) > 1:
                x = self._moved(x, "reshape", f"{value}.parts", tuple(p.size for p in flat.stored))
                order = tuple(flat.stored.index(p) for p in flat.axes[0])
                x = self._moved(x, "transpose", f"{value}.ordered", order)
            self._ordered[value] = self._moved(x, "reshape", f"{value}.whole", shape)
        return self._ordered[value]

    def _moved(self, x: QTensor, op: str, name: str, numbers: Shape) -> QTensor:
        shape = tuple(x.shape[a] for a in numbers) if op == "transpose" else numbers
        if shape == x.shape and op == "reshape":
            return x
        self.tensors[name] = replace(x, name=name, shape=shape)
        key = "perm" if op == "transpose" else "shape"
        self.nodes.append(IntegerNode(name, op, (x.name,), {key: list(numbers)}))
        return self.tensors[name]


def _canonical(axes: tuple[_T, ...]) -> tuple[_T, ...]:
    """Channels last, of images; other ranks as they are."""
    return (axes[1], axes[2], axes[0]) if len(axes) == 3 else axes


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


def _conv_transpose2d(work: _Work, node: Node) -> None:
    (x,) = work.inputs(node)
    weight = np.ascontiguousarray(node.weights["weight"].transpose(0, 2, 3, 1))
    options = {"stride": node.attrs["stride"], "activation": str(node.attrs.get("activation", "none"))}
    out, bias, padding = work.out(node), node.weights.get("bias"), list(node.attrs["padding"][:2])
    work.nodes.append(build.conv_transpose2d(node.name, x, out, weight, bias, padding=padding, **options))


def _dense(work: _Work, node: Node) -> None:
    (source,) = node.inputs
    layout, x = work.layouts[source], work.tensors[source]
    if len(x.shape) != 1:
        x = work.canonical(source)
        layout = Layout.row_major(layout.shape)
    weight: Floats = node.weights["weight"][:, order_of(layout.axes[0], layout.stored)]  # as the input lies
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


def _two_inputs(work: _Work, node: Node) -> tuple[QTensor, QTensor, QTensor]:
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


def _add(work: _Work, node: Node) -> None:
    a, b, out = _two_inputs(work, node)
    make = build.add if node.op == "add" else build.subtract
    activation = str(node.attrs.get("activation", "none"))
    work.nodes.append(make(node.name, a, b, out, activation=activation))


def _mul(work: _Work, node: Node) -> None:
    a, b, out = _two_inputs(work, node)
    activation = str(node.attrs.get("activation", "none"))
    work.nodes.append(build.multiply(node.name, a, b, out, activation=activation))


def _extreme(work: _Work, node: Node) -> None:
    a, b, out = _two_inputs(work, node)
    a, b = (_requantized(work, node, x, out) for x in (a, b))
    work.nodes.append(build.extreme(node.name, node.op, a, b))


def _prelu(work: _Work, node: Node) -> None:
    (x,) = work.inputs(node)
    out, slope = work.out(node), node.weights["slope"]
    scale = float(np.float32(max(float(np.abs(slope).max()), 1e-6) / 127))
    constant = QTensor(f"{node.name}/slope", (1,) * (len(x.shape) - 1) + slope.shape, scale, 0)
    values = np.rint(slope / scale).astype(np.int8).reshape(constant.shape)
    work.nodes.append(build.with_constant(build.prelu(node.name, x, constant, out), constant, values))


def _reduction(work: _Work, node: Node) -> None:
    (x,) = work.inputs(node)
    gone = [int(a) for a in node.attrs["axes"]]
    axes = [k for k, a in enumerate(_canonical(tuple(range(len(x.shape))))) if a in gone]
    if blocks(axes, x.shape) is None:
        raise UnsupportedOpError(node.op, node.name, "It works over height and width, or over channels, not over both.")
    if node.attrs.get("keepdims"):
        out = work.out(node)
    else:  # what is left lies as it lay
        shape = tuple(s for k, s in enumerate(x.shape) if k not in axes) or (1,)
        parts = [parts_of(s) for s in work.graph.shapes[node.inputs[0]]]
        stored = [p for k, p in enumerate(_canonical(tuple(parts))) if k not in axes]
        kept = tuple(p for k, p in enumerate(parts) if k not in gone) or ((),)
        out = work.register(node.name, shape, Layout(kept, tuple(chain(*stored))))
    work.nodes.append(build.reduction(node.name, node.op, x, out, axes))


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


def _as_it_lies(work: _Work, node: Node) -> tuple[QTensor, QTensor]:
    """Input and output of a function of each number by itself."""
    return work.tensors[node.inputs[0]], work.alike(node.name, node.inputs[0])


def _relu(work: _Work, node: Node) -> None:
    x, out = _as_it_lies(work, node)
    work.nodes.append(build.relu(node.name, x, out, activation=node.op))


def _clip(work: _Work, node: Node) -> None:
    """The grid of the output ends where the clip does."""
    x, out = _as_it_lies(work, node)
    work.nodes.append(build.requantize(node.name, x, out))


def _table(work: _Work, node: Node) -> None:
    x, out = _as_it_lies(work, node)
    alpha = float(node.attrs.get("alpha", 0.0))
    if node.op == "hard_swish" and not 2.0**-8 <= x.scale / out.scale < 2.0**7:
        raise ModelError(  # beyond TFLM's 16-bit arithmetic, and nothing of the input would be left
            f"'{node.name}' (hard_swish) has an input scale of {x.scale:.3g} and an output scale of {out.scale:.3g}.",
            "Such ranges come from a damaged network or calibration; check both.",
        )
    work.nodes.append(build.lut(node.name, x, out, node.op, alpha=alpha))


def _silu(work: _Work, node: Node) -> None:
    x, out = _as_it_lies(work, node)
    gate = work.alike(f"{node.name}.sigmoid", node.inputs[0], SIGMOID_OUTPUT)
    work.nodes.append(build.lut(gate.name, x, gate, "sigmoid"))
    work.nodes.append(build.multiply(node.name, x, gate, out))


def _hard_sigmoid(work: _Work, node: Node) -> None:
    """relu6(x + 3) / 6: x on a grid that saturates at ±3, read as another grid."""
    x, out = _as_it_lies(work, node)
    grid = work.alike(f"{node.name}.grid", node.inputs[0], _HARD_SIGMOID_GRID)
    work.nodes.append(build.requantize(grid.name, x, grid))
    work.nodes.append(IntegerNode(node.name, "reshape", (grid.name,), {"shape": list(out.shape)}))


def _softmax(work: _Work, node: Node) -> None:
    (x,) = work.inputs(node)
    if _canonical(tuple(range(len(x.shape))))[-1] != Softmax.axis(node):
        raise UnsupportedOpError(node.op, node.name, "Softmax works over channels, or over the last axis of rows.")
    work.out(node)
    work.nodes.append(build.softmax(node.name, x))


def _concat(work: _Work, node: Node) -> None:
    inputs, out = work.inputs(node), work.out(node)
    names = tuple(_requantized(work, node, x, out).name for x in inputs)
    work.nodes.append(IntegerNode(node.name, "concat", names, {"axis": _stored_axis(work, node)}))


def _requantized(work: _Work, node: Node, x: QTensor, out: QTensor) -> QTensor:
    """An input of `node` in the quantization of its output."""
    if (x.scale, x.zero_point) == (out.scale, out.zero_point):
        return x
    same = replace(out, name=f"{node.name}.{x.name}", shape=x.shape)
    work.tensors[same.name] = same
    work.nodes.append(build.requantize(same.name, x, same))
    return same


def _slice(work: _Work, node: Node) -> None:
    (x,) = work.inputs(node)
    work.out(node)
    attrs = {
        "axis": _stored_axis(work, node),
        "start": int(node.attrs["start"]),
        "stop": int(node.attrs["stop"]),
    }
    work.nodes.append(IntegerNode(node.name, "slice", (x.name,), attrs))


def _stored_axis(work: _Work, node: Node) -> int:
    """The node's axis in the canonical order."""
    axis, rank = int(node.attrs["axis"]), len(work.graph.shapes[node.name])
    return (axis - 1) % 3 if rank == 3 else axis


def _pad(work: _Work, node: Node) -> None:
    (x,) = work.inputs(node)
    work.out(node)
    padding, mode = list(node.attrs["padding"]), str(node.attrs.get("mode", "constant"))
    if mode == "constant":
        work.nodes.append(IntegerNode(node.name, "pad", (x.name,), {"padding": padding}))
    else:
        work.nodes.append(IntegerNode(node.name, "mirror_pad", (x.name,), {"padding": padding, "mode": mode}))


def _resize(work: _Work, node: Node) -> None:
    (x,) = work.inputs(node)
    options = {k: True for k in ("align_corners", "half_pixel_centers") if node.attrs.get(k)}
    attrs: dict[str, Any] = {"size": list(work.out(node).shape[:2]), **options}
    op = f"resize_{node.attrs.get('mode', 'nearest')}"
    if op == "resize_bilinear" and not all(
        reads_inside(attrs, a, b) for a, b in zip(x.shape[:2], attrs["size"], strict=True)
    ):
        raise UnsupportedOpError(node.op, node.name, f"It enlarges {x.shape[:2]} too far; resize in two steps.")
    work.nodes.append(IntegerNode(node.name, op, (x.name,), attrs))


def _axes_only(work: _Work, node: Node) -> None:
    """flatten, reshape, transpose: other axes for the same bytes, unless an axis would be torn."""
    (source,) = node.inputs
    x, layout, shape = work.tensors[source], work.layouts[source], work.graph.shapes[node.name]
    if node.op == "transpose":
        made = layout.transposed([int(a) for a in node.attrs["perm"]])
    else:
        try:
            made = layout.reshaped(shape)
        except LayoutError:
            x, made = _by_axes(work, source), Layout.row_major(shape)
    ordered = made.stored == tuple(chain(*_canonical(made.axes)))
    stored = _canonical(shape) if ordered else (x.bytes,)
    work.layouts[node.name] = made
    work.tensors[node.name] = replace(x, name=node.name, shape=stored)
    work.nodes.append(IntegerNode(node.name, "reshape", (x.name,), {"shape": list(stored)}))


def _by_axes(work: _Work, value: str) -> QTensor:
    """The value's numbers in the order of its axes, moved there from the canonical order of images."""
    x = work.canonical(value)
    if len(x.shape) == 3 and x.shape[2] > 1 and x.shape[0] * x.shape[1] > 1:
        return work._moved(x, "transpose", f"{value}.by_axes", (2, 0, 1))
    return x


_LOWER: dict[str, _Lowerer] = {
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
    "concat": _concat,
    "slice": _slice,
    "pad": _pad,
    "resize": _resize,
    **dict.fromkeys(("flatten", "reshape", "transpose"), _axes_only),
}
