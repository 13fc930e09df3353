"""How quantized ONNX spells operations without weights that compute: sums, products, pools, functions, softmax."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from thumbnet.exporters.onnx_qdq_writer import QdqWriter, file_axis
from thumbnet.integer.binary import BINARY, constant_of
from thumbnet.integer.graph import IntegerNode
from thumbnet.integer.reductions import EXTREMES, SUMS

_OPERATORS = {"add": "Add", "sub": "Sub", "mul": "Mul", "maximum": "Max", "minimum": "Min", "prelu": "PRelu"}
_REDUCTIONS = {"mean": "ReduceMean", "sum": "ReduceSum", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin"}
_FUNCTIONS = {"sigmoid": "Sigmoid", "tanh": "Tanh", "hard_swish": "HardSwish", "elu": "Elu", "abs": "Abs"}


def _binary(w: QdqWriter, node: IntegerNode) -> None:
    inputs = [w.operand(node, k) for k in range(len(node.inputs))]
    constant = constant_of(node)
    if constant is not None:
        value = w.constant(constant, node.arrays["constant"], len(w.tensor(node).shape))
        inputs.insert(0 if node.attrs.get("constant_first") else 1, value)
    w.done(node, w.step(node, _OPERATORS[node.op], inputs, "real"))


def _pool(w: QdqWriter, node: IntegerNode) -> None:
    """Padding counts in neither pool; runtimes take less of it than the window is large."""
    op = "MaxPool" if node.op == "max_pool2d" else "AveragePool"
    kernel, stride, pads = ([int(v) for v in node.attrs[k]] for k in ("kernel", "stride", "padding"))
    w.done(node, w.step(node, op, [w.real(node)], "pooled", kernel_shape=kernel, strides=stride, pads=pads))


def _global_avg_pool(w: QdqWriter, node: IntegerNode) -> None:
    pooled = w.step(node, "GlobalAveragePool", [w.real(node)], "pooled")
    channels = w.source(node).shape[-1]
    w.done(node, w.reshaped(node, pooled, (1, 1, channels), w.tensor(node).shape))


def _reduction(w: QdqWriter, node: IntegerNode) -> None:
    """Axes stay with size 1; then the shape is made what the graph has."""
    x, op = w.source(node), _REDUCTIONS[node.op]
    axes = sorted(file_axis(int(a), len(x.shape)) for a in node.attrs["axes"])
    if op == "ReduceSum":  # the first of them whose axes became an input
        value = w.step(node, op, [w.real(node), w.model.integers(f"{node.name}/axes", axes)], "reduced")
    else:
        value = w.step(node, op, [w.real(node)], "reduced", axes=axes)
    left = tuple(1 if k in node.attrs["axes"] else n for k, n in enumerate(x.shape))
    w.done(node, w.reshaped(node, value, left, w.tensor(node).shape))


def _lut(w: QdqWriter, node: IntegerNode) -> None:
    kind = str(node.attrs["kind"])
    if kind in _FUNCTIONS:
        w.done(node, w.step(node, _FUNCTIONS[kind], [w.real(node)], kind))
    elif kind == "leaky_relu":
        w.done(node, w.step(node, "LeakyRelu", [w.real(node)], kind, alpha=float(np.float32(node.attrs["alpha"]))))
    else:
        _table(w, node)


def _table(w: QdqWriter, node: IntegerNode) -> None:
    """Any function of a byte: its 256 values, in real units, looked up by the stored value + 128."""
    x, out = w.source(node), w.tensor(node)
    table = node.arrays["table"].astype(np.float32)
    reals = (table - np.float32(out.zero_point)) * np.float32(out.scale)
    scale = w.model.constant(f"{node.name}/input_scale", np.float32(x.scale))
    zero = w.model.constant(f"{node.name}/input_zero_point", np.uint8(x.zero_point + 128))
    stored = w.step(node, "QuantizeLinear", [w.real(node), scale, zero], "stored_input")
    index = w.step(node, "Cast", [stored], "index", to=6)  # int32
    w.done(node, w.step(node, "Gather", [w.model.constant(f"{node.name}/table", reals), index], "real", axis=0))


def _requantize(w: QdqWriter, node: IntegerNode) -> None:
    """The pair of the output behind the pair of the input; bounds, such as those of a relu, come between."""
    w.done(node, w.real(node))


def _softmax(w: QdqWriter, node: IntegerNode) -> None:
    rank = len(w.tensor(node).shape)
    w.done(node, w.step(node, "Softmax", [w.real(node)], "real", axis=file_axis(rank - 1, rank)))


COMPUTE: Mapping[str, Callable[[QdqWriter, IntegerNode], None]] = {
    **dict.fromkeys(BINARY, _binary),
    **dict.fromkeys(("max_pool2d", "avg_pool2d"), _pool),
    "global_avg_pool": _global_avg_pool,
    **dict.fromkeys((*SUMS, *EXTREMES), _reduction),
    "lut": _lut,
    "requantize": _requantize,
    "softmax": _softmax,
}
