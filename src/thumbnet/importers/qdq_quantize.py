"""QuantizeLinear and DequantizeLinear, quantized constants, and the inputs of a quantized ONNX graph."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from thumbnet.errors import ModelError
from thumbnet.graph.layout import Layout
from thumbnet.importers.onnx_reader import Port
from thumbnet.importers.onnx_tensors import DTYPES, Array
from thumbnet.importers.qdq_axes import flattened, reshaped, squeezed, unsqueezed
from thumbnet.importers.qdq_operands import Operands
from thumbnet.importers.qdq_values import Floats, Pending, Quantization, QuantizedConstant, Stored
from thumbnet.importers.quantized import GraphBuilder
from thumbnet.integer.graph import QTensor

_INT8 = "Quantize activations and weights to int8 or uint8 (QuantType.QInt8, QuantType.QUInt8)."
_LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int32": (-(1 << 31), (1 << 31) - 1)}


class Input(Pending):
    """An input of the graph; the first QuantizeLinear, or DequantizeLinear, says how it is stored."""

    def __init__(self, port: Port, layout: Layout, builder: GraphBuilder, where: str) -> None:
        super().__init__(layout, dtype=port.dtype)
        self.port, self.builder, self.where = port, builder, where
        self.tensor: QTensor | None = None

    def _make(self, q: Quantization) -> QTensor:
        if self.tensor is not None or q.clamp != (-128, 127):
            raise ModelError(
                f"{self.where}: its input '{self.port.name}' is quantized in two ways, or clipped before.",
                "Give it to one QuantizeLinear.",
            )
        self.tensor = self.builder.tensor(self.port.name, self.layout.memory_shape, q.scale, q.zero_point)
        return self.tensor


# --- scales and zero points


def _numbers(o: Operands, dtype: str) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Scales and zero points [n] of a node whose integers are `dtype`."""
    if o.integer("block_size", 0):
        raise o.refuse("Quantize by tensor or by channel, not by blocks.")
    scales = o.reals(1).reshape(-1)
    points = o.constant(2).reshape(-1) if o.has(2) else np.zeros(1, np.int64)
    if not scales.size or len(points) not in (1, len(scales)):
        raise o.broken(f"has {scales.size} scales and {points.size} zero points")
    if o.has(2) and points.dtype != dtype:
        raise o.broken(f"has zero points of {points.dtype} for {dtype}")
    return scales, np.broadcast_to(points.astype(np.int64), scales.shape)


def _quantization(o: Operands, dtype: str) -> Quantization:
    """Of an activation, as int8."""
    if dtype not in ("int8", "uint8"):
        raise o.refuse(f"It has activations of {dtype}. {_INT8}")
    scales, points = _numbers(o, dtype)
    if len(scales) != 1:
        raise o.refuse("Activations must have one scale per tensor.")
    t = o.builder.checked(o.name, (1,), float(scales[0]), int(points[0]) - (128 if dtype == "uint8" else 0))
    return Quantization.of(t)


def _axis(o: Operands, stored: Array, scales: Floats) -> int:
    if len(scales) == 1:
        return 0
    axis = o.axis(o.integer("axis", 1), stored.ndim)
    if stored.shape[axis] != len(scales):
        raise o.broken(f"has {len(scales)} scales along axis {axis} of {list(stored.shape)}")
    return axis


# --- the two operators


def _quantize(o: Operands) -> None:
    x = o.value()
    dtype = str(o.constant(2).dtype) if o.has(2) else DTYPES.get(o.integer("output_dtype", 0) or 2, "other types")
    if isinstance(x, np.ndarray | QuantizedConstant):
        o.done(_quantized_constant(o, dtype))
        return
    q = _quantization(o, dtype)
    if isinstance(x, Stored):
        if not x.real:
            raise o.broken("quantizes integers")
        made = Stored(o.requantized(x.tensor, q), x.layout)
    elif x.integers:
        raise o.broken("quantizes integers")
    else:
        made = x.stored(q)
    o.done(replace(made, real=False, unsigned=dtype == "uint8"))


def _quantized_constant(o: Operands, dtype: str) -> QuantizedConstant:
    if dtype not in ("int8", "uint8"):
        raise o.refuse(f"It has constants of {dtype}. {_INT8}")
    values, (scales, points) = o.reals(0), _numbers(o, dtype)
    if np.any(scales <= 0):
        raise o.broken("has scales that are not positive")
    plain = QuantizedConstant(values, scales, points, _axis(o, values, scales), real=False)
    stored = np.clip(np.rint(values / plain.along(scales)) + plain.along(points), *_LIMITS[dtype])
    return replace(plain, stored=np.asarray(stored, dtype))


def _dequantize(o: Operands) -> None:
    x = o.value()
    if isinstance(x, QuantizedConstant):
        if x.real:
            raise o.broken("dequantizes floats")
        x = x.stored
    if isinstance(x, np.ndarray):
        if str(x.dtype) not in _LIMITS:
            raise o.refuse(f"It has constants of {x.dtype}. {_INT8}")
        scales, points = _numbers(o, str(x.dtype))
        if x.dtype == np.int32 and np.any(points):
            raise o.broken("has zero points other than 0 for int32")
        o.done(QuantizedConstant(x, scales, points, _axis(o, x, scales), real=True))
    elif isinstance(x, Stored):
        if x.real:
            raise o.broken("dequantizes floats")
        q = _quantization(o, "uint8" if x.unsigned else "int8")
        if (q.scale, q.zero_point) != (x.tensor.scale, x.tensor.zero_point):
            raise o.refuse("It must have the scale and zero point of the QuantizeLinear before it.")
        o.done(replace(x, real=True))
    elif x.integers:
        o.done(x.stored(_quantization(o, x.dtype)))
    else:
        raise o.broken("dequantizes floats")


def _cast(o: Operands) -> None:
    """Of an integer input to float: a DequantizeLinear of scale 1. Between floats nothing changes."""
    x, to = o.computed(), DTYPES.get(o.integer("to", 0), "other types")
    if to != "float32" or (isinstance(x, Stored) and not x.real):
        raise o.refuse(f"A conversion to {to} is not supported in the middle of a network.")
    if isinstance(x, Pending) and x.integers:
        x = x.stored(Quantization(1.0, -128 if x.dtype == "uint8" else 0))
    o.done(x)


QUANTIZE: dict[str, Callable[[Operands], None]] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "Cast": _cast,
}


# --- other axes, or bounds, for a quantized constant


def moved_constant(o: Operands, x: QuantizedConstant) -> QuantizedConstant:
    """What a node of `MOVES_CONSTANT` makes of a quantized constant."""
    if o.op == "Transpose":
        order = o.integers("perm", list(range(x.stored.ndim))[::-1])
        if sorted(order) != list(range(x.stored.ndim)):
            raise o.broken(f"has the order {order} of axes")
        return replace(x, stored=x.stored.transpose(order), axis=order.index(x.axis) if order else 0)
    if o.op == "Clip":  # of integers, before the DequantizeLinear: exporters narrow weights to seven bits so
        if x.real:
            raise o.refuse("Clip the weights before they are quantized.")
        low, high = (o.scalar(k, default) for k, default in ((1, -np.inf), (2, np.inf)))
        return replace(x, stored=np.asarray(np.clip(x.stored, low, high), x.stored.dtype))
    if o.op in _RESHAPES:
        before = x.stored.shape
        after = _RESHAPES[o.op](o, before)
        return replace(x, stored=x.stored.reshape(after), axis=_moved_axis(o, x, before, tuple(after)))
    return x


_RESHAPES: dict[str, Callable[[Operands, tuple[int, ...]], list[int]]] = {
    "Reshape": reshaped,
    "Squeeze": squeezed,
    "Unsqueeze": unsqueezed,
    "Flatten": flattened,
}


MOVES_CONSTANT = ("Identity", "Transpose", "Clip", *_RESHAPES)


def _moved_axis(o: Operands, x: QuantizedConstant, before: tuple[int, ...], after: tuple[int, ...]) -> int:
    """Where the axis of the scales is after a reshape that leaves it whole."""
    if len(x.scales) == 1:
        return 0
    lead, size = math.prod(before[: x.axis]), before[x.axis]
    found = [k for k, d in enumerate(after) if d == size and math.prod(after[:k]) == lead]
    if not found:
        raise o.refuse("It tears the axis along which the scales of the weights run.")
    return found[0]
