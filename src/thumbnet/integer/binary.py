"""Operations on two operands, element by element: what they compute, and how the smaller operand repeats.

The second operand may be a constant: a node with one input and, in `arrays["constant"]`, int8 values of scale
`attrs["constant_scale"]` and zero point `attrs["constant_zero_point"]`; with `attrs["constant_first"]` it is the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from thumbnet.integer.arithmetic import Int8s, Ints, multiply_by_quantized_multiplier, requantize
from thumbnet.integer.graph import IntegerNode, QTensor

BINARY = frozenset(("add", "sub", "mul", "maximum", "minimum", "prelu"))


def constant_of(node: IntegerNode) -> QTensor | None:
    """The constant operand's shape and quantization; None where both operands are computed."""
    if "constant" not in node.arrays:
        return None
    scale, zero_point = float(node.attrs["constant_scale"]), int(node.attrs["constant_zero_point"])
    return QTensor(f"{node.name}/constant", node.arrays["constant"].shape, scale, zero_point)


def operands_of(node: IntegerNode, tensors: Sequence[QTensor]) -> tuple[QTensor, QTensor]:
    """Both operands in their order, given the node's inputs."""
    constant = constant_of(node)
    if constant is None:
        return tensors[0], tensors[1]
    return (constant, tensors[0]) if node.attrs.get("constant_first") else (tensors[0], constant)


def repetition(small: Sequence[int], shape: Sequence[int]) -> tuple[int, int] | None:
    """(repeat, period) by which a tensor of shape `small` spreads over one of `shape`: each value comes `repeat` times
    in a row, and after `period` values it starts again. None where it is not as simple as that, or shapes do not fit.
    """
    wide = (1,) * (len(shape) - len(small)) + tuple(small)
    if len(wide) != len(shape) or any(a not in (1, b) for a, b in zip(wide, shape, strict=True)):
        return None
    own = [k for k, (a, b) in enumerate(zip(wide, shape, strict=True)) if a == b > 1]
    if not own:
        return prod(shape), 1
    within = range(own[0], own[-1] + 1)
    if any(wide[k] != shape[k] for k in within):
        return None
    return prod(shape[own[-1] + 1 :]), prod(small)


def fits(op: str, a: Sequence[int], b: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether one operand (for prelu the first) is as large as the output of this shape, and each repeats simply."""
    whole = prod(shape) in ((prod(a),) if op == "prelu" else (prod(a), prod(b)))
    return whole and bool(repetition(a, shape) and repetition(b, shape))


# --- kernels


def _stored(
    node: IntegerNode, inputs: Sequence[Int8s], tensors: Sequence[QTensor], out: QTensor
) -> tuple[tuple[Int8s, QTensor], tuple[Int8s, QTensor]]:
    """Both operands [N or 1, ...] with as many axes as the output."""
    values = list(inputs)
    if "constant" in node.arrays:
        values.insert(0 if node.attrs.get("constant_first") else 1, node.arrays["constant"][None])
    a, b = (
        x.reshape(len(x), *(1,) * (len(out.shape) - x.ndim + 1), *x.shape[1:]) if x.ndim <= len(out.shape) else x
        for x in values
    )
    first, second = operands_of(node, tensors)
    return (a, first), (b, second)


def add(node: IntegerNode, inputs: Sequence[Int8s], tensors: Sequence[QTensor], out: QTensor) -> Int8s:
    """add and sub."""
    multipliers, shifts, up = node.attrs["multipliers"], node.attrs["shifts"], node.attrs["left_shift"]
    a, b = (
        _scaled_values(t, up, m, s)[x.view(np.uint8)]
        for (x, t), m, s in zip(_stored(node, inputs, tensors, out), multipliers[:2], shifts[:2], strict=True)
    )
    total = a + b if node.op == "add" else a - b
    return requantize(total, multipliers[2], shifts[2], out.zero_point, node.clamp)


def _scaled_values(tensor: QTensor, up: int, multiplier: int, shift: int) -> Ints:
    """What each stored value becomes at the common scale, indexed by its bits."""
    stored = np.arange(256).astype(np.uint8).view(np.int8).astype(np.int64)
    return multiply_by_quantized_multiplier((stored - tensor.zero_point) << up, multiplier, shift)


def multiply(node: IntegerNode, inputs: Sequence[Int8s], tensors: Sequence[QTensor], out: QTensor) -> Int8s:
    a, b = (x.astype(np.int64) - t.zero_point for x, t in _stored(node, inputs, tensors, out))
    return requantize(a * b, node.attrs["multiplier"], node.attrs["shift"], out.zero_point, node.clamp)


def extreme(node: IntegerNode, inputs: Sequence[Int8s], tensors: Sequence[QTensor], out: QTensor) -> Int8s:
    """maximum and minimum, of stored values."""
    (a, _), (b, _) = _stored(node, inputs, tensors, out)
    larger: Int8s = np.maximum(a, b) if node.op == "maximum" else np.minimum(a, b)
    return larger


def prelu(node: IntegerNode, inputs: Sequence[Int8s], tensors: Sequence[QTensor], out: QTensor) -> Int8s:
    """x where it is not negative, else the second operand times x."""
    x, slope = (v.astype(np.int64) - t.zero_point for v, t in _stored(node, inputs, tensors, out))
    (plain, sloped), shifts = node.attrs["multipliers"], node.attrs["shifts"]
    above = requantize(x, plain, shifts[0], out.zero_point, node.clamp)
    below = requantize(x * slope, sloped, shifts[1], out.zero_point, node.clamp)
    return np.where(x >= 0, above, below)
