"""Which scale and zero point every value of a float graph gets when it is lowered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from thumbnet.errors import ModelError
from thumbnet.graph.graph import Graph, Node
from thumbnet.graph.ops.activation import Clip
from thumbnet.integer.arithmetic import WEIGHT_MAX, activation_qparams
from thumbnet.integer.tables import SIGMOID_OUTPUT, SOFTMAX_OUTPUT, TANH_OUTPUT

KEEPS_QUANTIZATION = frozenset(
    (
        *("max_pool2d", "avg_pool2d", "reduce_max", "reduce_min", "concat", "maximum", "minimum"),
        *("pad", "flatten", "reshape", "transpose", "resize", "slice"),
    )
)
"""Operations whose output is stored with the scale and zero point of their input."""

JOINS = frozenset(("concat", "maximum", "minimum"))
"""Of these, those that need the quantization of all their inputs to be that of the output."""

PRESCRIBED = {
    "sigmoid": SIGMOID_OUTPUT,
    "hard_sigmoid": SIGMOID_OUTPUT,
    "tanh": TANH_OUTPUT,
    "softmax": SOFTMAX_OUTPUT,
}
WEIGHTED = frozenset(("conv2d", "depthwise_conv2d", "conv_transpose2d", "dense", "batch_norm"))
WEIGHT_AXES = {"conv2d": 0, "depthwise_conv2d": 0, "conv_transpose2d": 0, "dense": None}
"""Of the operations whose weights are rounded, the axis of the float weights' scales; None: one scale for all."""

QParams = tuple[float, int]
Floats = npt.NDArray[np.float32]
Ranges = Mapping[str, tuple[float, float]]

_UNIT = (-1.0, 1.0)
_MARGIN = 1 + 2.0**-20  # keeps multipliers strictly below 1 after rounding to float32


def assign(graph: Graph, ranges: Ranges | None, fixed: Mapping[str, QParams]) -> dict[str, QParams]:
    """(scale, zero point) of every value.

    Values that an operation of `KEEPS_QUANTIZATION` ties together get the union of their ranges; a concat ties all its
    inputs, except those whose quantization is fixed. Raises `ModelError` where a range is missing or not finite.
    """
    classes = _Classes(graph, dict(fixed))
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    for v in classes.parent:
        root = classes.find(v)
        if root in classes.fixed:
            continue
        a, b = _range(v, ranges)
        low[root], high[root] = min(low.get(root, 0.0), a), max(high.get(root, 0.0), b)
    made = {root: activation_qparams(low[root], high[root]) for root in low} | classes.fixed
    _coarsen(graph, classes, made)
    return {v: made[classes.find(v)] for v in classes.parent}


def shared_quantization(graph: Graph, fixed: Mapping[str, QParams]) -> tuple[dict[str, str], dict[str, QParams]]:
    """Which values share their quantization: the value that stands for each one, and the (scale, zero point) of those
    that are fixed, be it by `fixed` or by the operation. For training with the rounding that `assign` will decide on.
    """
    classes = _Classes(graph, dict(fixed))
    return {v: classes.find(v) for v in classes.parent}, classes.fixed


def weight_bits(node: Node) -> int:
    """How many bits each weight of the node gets, by its attr `weight_bits`. Float arithmetic does not look at it."""
    return int(node.attrs.get("weight_bits", 8))


def with_weight_bits(graph: Graph, bits: Mapping[str, int]) -> Graph:
    """The graph with 4 or 8 bits for the weights of each node named. Raises `ModelError` as `check_weight_bits`."""
    for name in bits:
        if name not in graph.by_name:
            raise _no_weights(name)
    changed = graph.with_nodes(_with_bits(n, bits[n.name]) if n.name in bits else n for n in graph.nodes)
    check_weight_bits(changed)
    return changed


def check_weight_bits(graph: Graph) -> None:
    """Raises `ModelError` where a node without weights has the attr `weight_bits`, or one whose kernels lack it."""
    for node in graph.nodes:
        if "weight_bits" not in node.attrs:
            continue
        if node.op not in WEIGHT_AXES:
            raise _no_weights(node.name)
        bits = weight_bits(node)
        if bits not in WEIGHT_MAX or (bits != 8 and node.op == "conv_transpose2d"):
            raise ModelError(f"The weights of '{node.name}' cannot have {bits} bits.", "Choose 4 or 8.")


def _with_bits(node: Node, bits: int) -> Node:
    attrs = {k: v for k, v in node.attrs.items() if k != "weight_bits"}
    plain = bits == 8 and node.op in WEIGHT_AXES
    return replace(node, attrs=attrs if plain else {**attrs, "weight_bits": bits})


def _no_weights(name: str) -> ModelError:
    return ModelError(f"'{name}' has no weights whose bits could be chosen.", "Name convolutions or dense layers.")


def _range(value: str, ranges: Ranges | None) -> tuple[float, float]:
    if ranges is None:
        return _UNIT
    if value not in ranges:
        raise ModelError(f"The range of '{value}' was not observed.", "Calibrate the network on data first.")
    low, high = ranges[value]
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ModelError(f"The range of '{value}' is not finite: [{low}, {high}].", "Check the weights and the data.")
    return low, high


class _Classes:
    """Values that share their quantization, as trees: `find` gives the root. `fixed` holds that of some roots."""

    def __init__(self, graph: Graph, fixed: dict[str, QParams]) -> None:
        self.fixed = fixed
        self.parent: dict[str, str] = {i.name: i.name for i in graph.inputs}
        for node in graph.nodes:
            self.parent[node.name] = node.name
            if node.op in PRESCRIBED:
                self.fixed[node.name] = PRESCRIBED[node.op]
            elif node.op == "clip":  # what the grid cannot hold is clipped
                self.fixed[node.name] = activation_qparams(*Clip.bounds(node))
            elif node.name in self.fixed:
                if node.op in KEEPS_QUANTIZATION:
                    raise ModelError(
                        f"The quantization of '{node.name}' ({node.op}) cannot be fixed: it is that of its input.",
                        f"Fix that of '{node.inputs[0]}'.",
                    )
            elif node.op in JOINS:
                for v in node.inputs:
                    if self.find(v) not in self.fixed:
                        self.parent[self.find(v)] = node.name
            elif node.op in KEEPS_QUANTIZATION:
                self.parent[node.name] = self.find(node.inputs[0])

    def find(self, v: str) -> str:
        while self.parent[v] != v:
            v = self.parent[v]
        return v


def _coarsen(graph: Graph, classes: _Classes, made: dict[str, QParams]) -> None:
    """Raises scales that are finer than what their producer's integers can tell apart.

    Such a scale (of a value that is always near 0, say) gains nothing and needs left shifts that could leave 32 bits.
    """
    kept = KEEPS_QUANTIZATION | set(PRESCRIBED)
    producers = [n for n in graph.nodes if n.op not in kept and classes.find(n.name) not in classes.fixed]
    factors = {n.name: _weight_factor(n) for n in producers}
    changed = True
    while changed:  # a class raised by a late producer may have been read by an earlier one
        changed = False
        for node in producers:
            root = classes.find(node.name)
            least = _finest(node, [made[classes.find(v)][0] for v in node.inputs], factors[node.name])
            scale, zero_point = made[root]
            if scale < least:
                made[root] = (float(np.float32(least * _MARGIN)), zero_point)
                changed = True


def _weight_factor(node: Node) -> float:
    """The largest weight scale, or 0."""
    if node.op not in WEIGHTED:
        return 0.0
    weight = node.weights["weight"] if node.op != "batch_norm" else batch_norm_affine(node)[0]
    return float(np.abs(weight).max(initial=0.0)) / WEIGHT_MAX[weight_bits(node)]


def _finest(node: Node, inputs: list[float], weight: float) -> float:
    """The smallest useful scale of the node's output, given those of its inputs."""
    if node.op in WEIGHTED:
        return inputs[0] * weight
    if node.op in ("add", "sub"):
        return max(inputs) * 2.0**-18
    if node.op in ("mul", "silu"):
        return inputs[0] * (inputs[1] if node.op == "mul" else SIGMOID_OUTPUT[0]) * 2.0**-10
    if node.op == "prelu":
        return inputs[0] * max(1.0, float(np.abs(node.weights["slope"]).max())) * 2.0**-6
    return inputs[0] * 2.0**-6


def batch_norm_affine(node: Node) -> tuple[Floats, Floats]:
    """A batch norm of its own as gain [C] and offset [C]: weight · (x − mean) / sqrt(var + eps) + bias."""
    w = {k: v.astype(np.float64) for k, v in node.weights.items()}
    gain = w["weight"] / np.sqrt(w["var"] + float(node.attrs["eps"]))
    return gain.astype(np.float32), (w["bias"] - w["mean"] * gain).astype(np.float32)
