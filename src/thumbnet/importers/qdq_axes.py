"""Operators of a quantized ONNX file that give other axes to the same values; nothing moves in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from thumbnet.graph.layout import Layout
from thumbnet.importers.qdq_operands import Operands


def _axes_only(layout_of: Callable[[Operands, Layout], Layout]) -> Callable[[Operands], None]:
    def convert(o: Operands) -> None:
        x = o.computed()
        o.done(o.moved(x, layout_of(o, x.layout)))

    return convert


def _identity(o: Operands) -> None:
    if o.op == "Dropout" and (len(o.node.outputs) > 1 and o.node.outputs[1]):
        raise o.refuse("Export the network in evaluation mode.")
    if o.op == "Dropout" and o.has(2) and bool(o.constant(2).any()):
        raise o.refuse("Export the network in evaluation mode.")
    o.done(o.value())


def _transpose(o: Operands, x: Layout) -> Layout:
    rank = len(x.axes)
    order = o.integers("perm", list(range(rank))[::-1])
    if sorted(order) != list(range(rank)):
        raise o.broken(f"has the order {order} of axes")
    return x.transposed(order)


def reshaped(o: Operands, shape: Sequence[int]) -> list[int]:
    """The shape that a Reshape gives to a tensor of `shape`."""
    given = o.listed(1, "shape")
    if not o.flag("allowzero"):
        given = [shape[k] if d == 0 and k < len(shape) else d for k, d in enumerate(given)]
    count, known = math.prod(shape), math.prod(d for d in given if d != -1)
    if given.count(-1) > 1 or min(given, default=1) < -1 or not known or count % known:
        raise o.broken(f"makes {given} of {list(shape)}")
    made = [count // known if d == -1 else d for d in given]
    if math.prod(made) != count:
        raise o.broken(f"makes {given} of {list(shape)}")
    return made


def flattened(o: Operands, shape: Sequence[int]) -> list[int]:
    axis = o.integer("axis", 1)
    axis = axis if axis == len(shape) else o.axis(axis, len(shape))
    return [math.prod(shape[:axis]), math.prod(shape[axis:])]


def squeezed(o: Operands, shape: Sequence[int]) -> list[int]:
    axes = {o.axis(a, len(shape)) for a in o.listed(1, "axes", [k for k, d in enumerate(shape) if d == 1])}
    if any(shape[a] != 1 for a in axes):
        raise o.broken(f"squeezes axes {sorted(axes)} of {list(shape)}")
    return [d for k, d in enumerate(shape) if k not in axes]


def unsqueezed(o: Operands, shape: Sequence[int]) -> list[int]:
    given = o.listed(1, "axes")
    rank = len(shape) + len(given)
    axes = {o.axis(a, rank) for a in given}
    if len(axes) != len(given):
        raise o.broken(f"makes the axes {given}")
    rest = iter(shape)
    return [1 if k in axes else next(rest) for k in range(rank)]


AXES: dict[str, Callable[[Operands], None]] = {
    **dict.fromkeys(("Identity", "Dropout"), _identity),
    "Transpose": _axes_only(_transpose),
    "Flatten": _axes_only(lambda o, x: x.reshaped(flattened(o, x.shape))),
    "Reshape": _axes_only(lambda o, x: x.reshaped(reshaped(o, x.shape))),
    "Squeeze": _axes_only(lambda o, x: x.reshaped(squeezed(o, x.shape))),
    "Unsqueeze": _axes_only(lambda o, x: x.reshaped(unsqueezed(o, x.shape))),
}
