"""Functions that sources spell with several operations, found again: x · sigmoid(x) and the like.

The nodes they were spelled with stay, and go with the dead ones.
"""

from __future__ import annotations

import numpy as np

from thumbnet.graph.graph import Node
from thumbnet.importers import values
from thumbnet.importers.builder import Builder, Origin, Value

_MAX_WALK = 256
_NEVER_NEGATIVE = ("relu", "relu6", "sigmoid", "hard_sigmoid", "softmax", "abs")
_AS_THEIR_INPUTS = (
    *("max_pool2d", "avg_pool2d", "global_avg_pool", "concat", "flatten", "reshape", "transpose", "slice", "pad"),
    *("resize", "add", "mul", "maximum", "mean", "sum"),
)
_WITH_ITSELF = {"sigmoid": "silu", "hard_sigmoid": "hard_swish"}


def product(b: Builder, o: Origin, x: Value, y: Value) -> Value:
    """x · y; silu and hard_swish where one is the other's sigmoid."""
    for whole, part in ((x, y), (y, x)):
        node = b.nodes.get(part.ref)
        if node is not None and node.op in _WITH_ITSELF and _same(b, whole, part, node.inputs[0]):
            return values.elementwise(b, o, _WITH_ITSELF[node.op], whole)
    return values.binary(b, o, "mul", x, y)


def scaled(b: Builder, o: Origin, x: Value, factor: float) -> Value:
    """factor · x; hard_sigmoid or hard_swish where x is relu6(v + 3), or v times that, and the factor 1/6."""
    if np.isclose(factor, 1 / 6, rtol=1e-5, atol=0):
        source = _before_relu6(b, b.nodes.get(x.ref))
        if source is not None and b.shapes[source] == b.shapes[x.ref]:
            return Value(b.add(o, "hard_sigmoid", [source]), x.layout)
        node = b.nodes.get(x.ref)
        if node is not None and node.op == "mul":
            for k in (0, 1):
                if _before_relu6(b, b.nodes.get(node.inputs[1 - k])) == node.inputs[k]:
                    return Value(b.add(o, "hard_swish", [node.inputs[k]]), x.layout)
    return values.with_constant(b, o, "mul", x, factor)


def _same(b: Builder, x: Value, y: Value, ref: str) -> bool:
    """Whether `ref` is x, and y lies as x does."""
    return ref == x.ref and x.shape == y.shape and x.layout.key() == y.layout.key()


def _before_relu6(b: Builder, node: Node | None) -> str | None:
    """v of relu6(v + 3); None for everything else."""
    if node is None or node.op != "relu6":
        return None
    shift = b.nodes.get(node.inputs[0])
    if shift is None or shift.op != "batch_norm" or float(shift.attrs["eps"]) != 0.0:
        return None
    wanted = {"weight": 1.0, "bias": 3.0, "mean": 0.0, "var": 1.0}
    return shift.inputs[0] if all(np.all(shift.weights[k] == v) for k, v in wanted.items()) else None


def never_negative(b: Builder, ref: str) -> bool:
    """Whether a value cannot be below 0, by the operations that made it."""
    todo, seen = [ref], 0
    while todo:
        node, seen = b.nodes.get(todo.pop()), seen + 1
        if node is None or seen > _MAX_WALK:
            return False
        if node.op in _AS_THEIR_INPUTS:
            todo.extend(node.inputs)
        elif node.op not in _NEVER_NEGATIVE:
            return False
    return True
