"""What importers of quantized files share: an integer graph in the making, with every number checked.

The integers are made as `thumbnet.integer.build` makes them, from scales that the file gives. Where a file's numbers
would leave 32 bits on the way, runtimes differ or behave as they like; such a file is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.errors import ModelError, UnsupportedOpError
from thumbnet.integer import build
from thumbnet.integer.arithmetic import activation_clamp, quantize_multiplier, round_half_away
from thumbnet.integer.binary import fits, operands_of
from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor
from thumbnet.integer.kernels import KERNELS

MIN_SCALE, MAX_SCALE = 1e-15, 1e9
MAX_SIZE = 65535  # of an axis or a stride, as the C kernels count
MAX_TENSOR_BYTES = 64 << 20
_INT32 = 1 << 31
_AGAIN = "Convert the model again; such numbers come from a damaged file or a failed calibration."

Shape = tuple[int, ...]
Int8s = npt.NDArray[np.int8]


@dataclass(eq=False)
class GraphBuilder:
    """Tensors and nodes collected so far. Nodes are checked as they come in; `finish` gives the graph."""

    name: str
    tensors: dict[str, QTensor] = field(default_factory=dict)
    nodes: list[IntegerNode] = field(default_factory=list)

    def unique(self, wanted: str) -> str:
        """`wanted`, or with a number behind it where that is taken."""
        name, k = wanted, 1
        while name in self.tensors:
            k += 1
            name = f"{wanted}_{k}"
        return name

    @staticmethod
    def checked(name: str, shape: Sequence[int], scale: float, zero_point: int) -> QTensor:
        """Raises `ModelError` for numbers that no int8 tensor has."""
        if not (np.isfinite(scale) and MIN_SCALE <= scale <= MAX_SCALE and -128 <= zero_point <= 127):
            raise ModelError(
                f"'{name}' has the scale {scale:g} and the zero point {zero_point}, which no int8 tensor has.", _AGAIN
            )
        if not shape or not all(0 < d <= MAX_SIZE for d in shape):
            raise ModelError(f"'{name}' has the shape {list(shape)}; every size must be 1 to {MAX_SIZE}.")
        if math.prod(shape) > MAX_TENSOR_BYTES:
            raise ModelError(f"'{name}' has the shape {list(shape)}, more than any microcontroller holds.")
        return QTensor(name, tuple(int(d) for d in shape), float(np.float32(scale)), int(zero_point))

    def tensor(self, name: str, shape: Sequence[int], scale: float, zero_point: int) -> QTensor:
        """Registers a tensor, checked, under a name that is still free."""
        made = self.checked(self.unique(name), shape, scale, zero_point)
        self.tensors[made.name] = made
        return made

    def like(self, name: str, x: QTensor, shape: Sequence[int]) -> QTensor:
        """A tensor with another shape and the quantization of `x`."""
        return self.tensor(name, shape, x.scale, x.zero_point)

    def add(self, node: IntegerNode) -> QTensor:
        """Appends a node whose tensor is registered, and returns that tensor.

        Raises `ModelError` where its numbers could leave 32 bits.
        """
        _check(node, [self.tensors[v] for v in node.inputs])
        self.nodes.append(node)
        return self.tensors[node.name]

    def reshape(self, name: str, x: QTensor, shape: Sequence[int]) -> QTensor:
        """`x` under another shape; itself where it has that already."""
        if x.shape == tuple(shape):
            return x
        out = self.like(name, x, shape)
        return self.add(IntegerNode(out.name, "reshape", (x.name,), {"shape": list(out.shape)}))

    def finish(self, inputs: Sequence[str], outputs: Sequence[str]) -> IntegerGraph:
        return IntegerGraph(self.name, self.tensors, tuple(inputs), tuple(self.nodes), tuple(outputs))


def clamp_of(activation: str, out: QTensor) -> tuple[int, int]:
    """As `activation_clamp`, with "relu_n1_to_1" besides."""
    if activation != "relu_n1_to_1":
        return activation_clamp(activation, out.scale, out.zero_point)
    one = round_half_away(float(np.float32(1) / np.float32(out.scale)))
    return max(-128, out.zero_point - one), min(127, out.zero_point + one)


def weighted(
    op: str,
    x: QTensor,
    out: QTensor,
    weight: Int8s,
    bias: npt.NDArray[np.int32] | None,
    scales: npt.NDArray[np.float32],
    activation: str,
    attrs: dict[str, Any],
) -> IntegerNode:
    """A convolution or dense layer from stored integers: `weight` in the layout of the operation, `bias` [O] or None,
    `scales` [O] or [1]. The multiplier is formed in float64 from scales that are float32 values.
    """
    channels = out.shape[-1]
    if (
        len(scales) not in (1, channels)
        or not np.all(np.isfinite(scales))
        or np.any((scales < 0) | (scales > MAX_SCALE))
    ):
        raise ModelError(f"'{out.name}' ({op}) has no usable scales for its weights.", _AGAIN)
    multiplier, shift = quantize_multiplier(np.float64(x.scale) * scales.astype(np.float64) / np.float64(out.scale))
    arrays: dict[str, npt.NDArray[Any]] = {
        "weight": np.ascontiguousarray(weight, np.int8),
        "bias": np.zeros(channels, np.int32) if bias is None else bias.astype(np.int32),
        "multiplier": np.broadcast_to(multiplier, channels).copy(),
        "shift": np.broadcast_to(shift, channels).copy(),
    }
    clamp = clamp_of(activation, out)
    return IntegerNode(out.name, op, (x.name,), attrs, arrays, clamp, tuple(float(s) for s in scales))


_MAKE: dict[str, Callable[[str, QTensor, QTensor, QTensor], IntegerNode]] = {
    "add": build.add,
    "sub": build.subtract,
    "mul": build.multiply,
    "prelu": build.prelu,
}


def elementwise(op: str, a: QTensor, b: QTensor, out: QTensor, activation: str) -> IntegerNode:
    """An operation of `BINARY` on two computed tensors."""
    _check_operands(op, a, b, out)
    return _binary(op, a, b, out, activation)


def with_constant(
    op: str, x: QTensor, constant: QTensor, values: Int8s, out: QTensor, activation: str, constant_first: bool
) -> IntegerNode:
    """The operation with a constant: int8 `values`, quantized as `constant`, which has their shape.

    One number makes a function of one byte: a table. A product by channel is a 1×1 depthwise convolution, which scales
    and rounds alike, if the weights fit int8.
    """
    pair = (constant, x) if constant_first else (x, constant)
    _check_operands(op, *pair, out)
    flat = values.reshape(-1)
    if bool(np.all(flat == flat[0])) and x.shape == out.shape:
        return _table(op, x, constant, int(flat[0]), out, activation, constant_first)
    weight = flat.astype(np.int64) - constant.zero_point
    by_channel = len(out.shape) == 3 and x.shape == out.shape and len(flat) == values.shape[-1] == out.shape[-1]
    if op == "mul" and by_channel and weight.min() >= -128 and weight.max() <= 127:
        attrs = {"stride": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1]}
        scales = np.array([constant.scale], np.float32)
        factors = weight.astype(np.int8).reshape(1, 1, -1)
        return weighted("depthwise_conv2d", x, out, factors, None, scales, activation, attrs)
    return build.with_constant(_binary(op, *pair, out, activation), constant, values, first=constant_first)


def _binary(op: str, a: QTensor, b: QTensor, out: QTensor, activation: str) -> IntegerNode:
    if op in ("add", "sub") and 2.0 * max(a.scale, b.scale) >= (1 << build.ADD_LEFT_SHIFT) * out.scale:
        raise ModelError(f"'{out.name}' ({op}) has an output scale a million times finer than its inputs'.", _AGAIN)
    if op in ("maximum", "minimum"):
        return build.extreme(out.name, op, a, b)
    make = _MAKE[op]
    return replace(make(out.name, a, b, out), clamp=clamp_of(activation, out))


def _check_operands(op: str, a: QTensor, b: QTensor, out: QTensor) -> None:
    """Raises `UnsupportedOpError` for shapes that the integer graph does not combine."""
    if not fits(op, a.shape, b.shape, out.shape):
        raise UnsupportedOpError(
            op.upper(),
            out.name,
            f"It makes {list(out.shape)} of {list(a.shape)} and {list(b.shape)}. One operand must have the output's "
            "shape, the other the same, or one number for all, for each channel or for each pixel.",
        )


def _table(
    op: str, x: QTensor, constant: QTensor, value: int, out: QTensor, activation: str, constant_first: bool
) -> IntegerNode:
    """The operation with one number, as a table over the 256 values of `x`."""
    every, single = replace(x, shape=(256,)), replace(constant, shape=(256,))
    pair = (single, every) if constant_first else (every, single)
    node = _binary(op, *pair, replace(out, shape=(256,)), activation)
    _check(node, pair)
    stored = np.arange(-128, 128, dtype=np.int8)[None]
    other = np.full_like(stored, value)
    operands = (other, stored) if constant_first else (stored, other)
    table = KERNELS[op](node, operands, pair, replace(out, shape=(256,)))[0]
    return IntegerNode(out.name, "lut", (x.name,), {"kind": "table"}, {"table": table})


def hard_swish(name: str, x: QTensor, out: QTensor) -> IntegerNode:
    if not 2.0**-8 <= x.scale / out.scale < 2.0**7:
        raise ModelError(f"'{name}' (hard_swish) goes from the scale {x.scale:.3g} to {out.scale:.3g}.", _AGAIN)
    return build.lut(name, x, out, "hard_swish")


def leaky_relu(name: str, x: QTensor, out: QTensor, alpha: float) -> IntegerNode:
    for factor in (1.0, abs(alpha)):
        if not (math.isfinite(alpha) and factor * x.scale / out.scale < 1 << 22):
            raise ModelError(f"'{name}' (leaky_relu) scales beyond 32 bits.", _AGAIN)
    return build.lut(name, x, out, "leaky_relu", alpha=alpha)


def clamped_table(name: str, x: QTensor, out: QTensor, activation: str) -> IntegerNode:
    """A requantization that clamps, as a table."""
    node = replace(build.requantize(name, x, out), clamp=clamp_of(activation, out))
    _check(node, [x])
    every, stored = replace(x, shape=(256,)), np.arange(-128, 128, dtype=np.int8)[None]
    table = KERNELS["requantize"](node, [stored], [every], replace(out, shape=(256,)))[0]
    return IntegerNode(name, "lut", (x.name,), {"kind": "table"}, {"table": table})


def absolute(name: str, x: QTensor, out: QTensor) -> IntegerNode:
    if x.scale / out.scale >= 1 << 22:
        raise ModelError(f"'{name}' (abs) scales beyond 32 bits.", _AGAIN)
    return build.lut(name, x, out, "abs")


def softmax(name: str, x: QTensor, beta: float) -> IntegerNode:
    """Over the last axis. The scale of the differences must not vanish: x.scale · beta > 2^−26."""
    if not (math.isfinite(beta) and 2.0**-26 < x.scale * beta <= MAX_SCALE):
        raise ModelError(f"'{name}' (softmax) has the scale {x.scale:g} and beta {beta:g}.", _AGAIN)
    return build.softmax(name, replace(x, scale=x.scale * beta))


def _reach(x: QTensor) -> int:
    """The largest magnitude of a stored value less the zero point."""
    return max(127 - x.zero_point, x.zero_point + 128)


def _check(node: IntegerNode, inputs: Sequence[QTensor]) -> None:
    """Raises `ModelError` where an accumulator, shifted left before it is scaled, could leave 32 bits."""
    if "weight" in node.arrays:
        weight = np.abs(node.arrays["weight"].astype(np.int64))
        weight = weight.reshape(-1, weight.shape[-1]).T if node.op == "depthwise_conv2d" else weight
        sums = weight.reshape(len(weight), -1).sum(1) * _reach(inputs[0])
        sums = sums + np.abs(node.arrays["bias"].astype(np.int64))
        shifts = np.where(node.arrays["multiplier"] > 0, node.arrays["shift"], 0)
    elif node.op in ("mul", "prelu"):
        a, b = (_reach(t) for t in operands_of(node, inputs))
        sums, shifts = (
            (np.array([a * b]), np.array([node.attrs["shift"]]))
            if node.op == "mul"
            else (np.array([a, a * b]), np.array(node.attrs["shifts"]))
        )
    elif node.op in ("requantize", "global_avg_pool"):
        pixels = math.prod(inputs[0].shape[:2]) if node.op == "global_avg_pool" else 1
        sums, shifts = np.array([_reach(inputs[0]) * pixels]), np.array([node.attrs["shift"]])
    else:
        return
    left = np.clip(shifts, 0, 40).astype(np.int64)
    if np.any((sums >= _INT32) | (sums >= _INT32 >> np.minimum(left, 31))):
        raise ModelError(f"'{node.name}' ({node.op}) has sums that leave 32 bits.", _AGAIN)
