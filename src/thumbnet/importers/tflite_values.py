"""One operator of a TFLite file, in terms of the float graph in the making."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from thumbnet.importers import values
from thumbnet.importers.builder import Builder, Floats, Origin, Value
from thumbnet.importers.patterns import never_negative
from thumbnet.importers.tflite_operator import OperatorReader, short
from thumbnet.importers.tflite_reader import FileTensor

RANGES = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
_SIX = 0.03  # a range that ends this close to 6 is that of a ReLU6


@dataclass(frozen=True, eq=False)
class FloatOperator(OperatorReader):
    """`values` and `constants`: tensors of the file by their index, as values of the graph and as numbers."""

    builder: Builder
    values: dict[int, Value]
    constants: dict[int, Floats]

    @property
    def origin(self) -> Origin:
        return Origin(self.op, self.name)

    def part(self, what: str) -> Origin:
        return Origin(self.op, f"{self.name}.{what}")

    # --- operands

    def computed(self, k: int = 0) -> Value:
        t = self.required(k)
        if t.index not in self.values:
            if t.stored is not None or t.index in self.constants:
                raise self.refuse(f"Its input '{short(t)}' is a constant; only computed ones are supported there.")
            raise self.broken(f"reads '{short(t)}', which nothing has computed as a real number")
        return self.values[t.index]

    def is_number(self, k: int) -> bool:
        """Whether input `k` is a constant, plain or unpacked."""
        t = self.required(k)
        return t.stored is not None or t.index in self.constants

    def reals(self, k: int) -> Floats:
        """Input `k`, a constant, as real numbers."""
        t = self.required(k)
        if t.index in self.constants:
            return self.constants[t.index]
        if t.values is None:
            raise self.refuse(f"Its input '{short(t)}' must be a constant.")
        return real(t, self)

    def bias(self, k: int, channels: int) -> Floats | None:
        """Of quantized files the bias has the scale of input times weights, whatever the file says."""
        t = self.file(k)
        if t is None:
            return None
        x, weight = self.required(2 if self.op == "TRANSPOSE_CONV" else 0), self.required(1)
        if t.dtype == "int32" and t.values is not None and len(x.scales) and len(weight.scales):
            scales = float(x.scales[0]) * weight.scales.astype(np.float64)
            found = np.asarray(t.values.reshape(-1) * scales, np.float32)
        else:
            found = self.reals(k).reshape(-1)
        if found.size != channels:
            raise self.broken(f"has {found.size} biases for {channels} channels")
        return np.asarray(found, np.float32)

    # --- axes

    def axis(self, axis: int, k: int = 0) -> int:
        """An axis of input `k` in the file among those of its value, which has no batch axis."""
        shape = self.required(k).shape
        if not -len(shape) <= axis < len(shape):
            raise self.broken(f"works along axis {axis} of {len(shape)}")
        axis %= len(shape)
        if has_batch(shape) and axis == 0:
            raise self.refuse("The batch axis must stay as it is.")
        return axis - has_batch(shape)

    # --- results

    def done(self, made: Value, k: int = 0) -> None:
        """`made` holds the numbers of output `k`, under the file's shape, and with what its range cuts off."""
        t = self.content.tensors[self.operator.outputs[k]]
        shape = own_shape(t, self)
        if t.index in self.values:
            raise self.broken("computes a tensor for the second time")
        if prod(shape) != prod(made.shape):
            raise self.broken(f"gives {list(t.shape)}, but computes {list(made.shape)}")
        made = made if made.shape == shape else self.builder.reshape(self.part("shape"), made, shape)
        self.values[t.index] = self._within_range(made, t)

    def activated(self, x: Value) -> Value:
        name = self.activation_name
        if name == "none":
            return x
        if name == "relu_n1_to_1":
            return values.clip(self.builder, self.part("activation"), x, -1.0, 1.0)
        return values.elementwise(self.builder, self.part("activation"), name, x)

    def _within_range(self, x: Value, t: FileTensor) -> Value:
        """A quantized tensor that cannot hold negative numbers may be all that is left of a ReLU."""
        if t.dtype not in RANGES or len(t.scales) != 1 or x.ref not in self.builder.nodes:
            return x
        low, high = RANGES[t.dtype]
        if int(t.zero_points[0]) != low or never_negative(self.builder, x.ref):
            return x
        top = (high - low) * float(t.scales[0])
        return values.elementwise(self.builder, self.part("range"), "relu6" if abs(top - 6) < _SIX else "relu", x)


Convert = Callable[[FloatOperator], None]


def has_batch(shape: Sequence[int]) -> bool:
    return len(shape) > 0 and shape[0] == 1


def own_shape(t: FileTensor, o: OperatorReader) -> tuple[int, ...]:
    """The shape of a computed tensor of real numbers, less its batch axis of 1. Raises for others."""
    if t.dtype != "float32" and not (t.dtype in RANGES and len(t.scales) == 1):
        raise o.refuse(
            f"Its tensor '{short(t)}' is {t.dtype}; only real numbers, floats or quantized, can be computed."
        )
    if t.dynamic or 0 in t.shape:
        raise o.refuse(f"Its tensor '{short(t)}' has no fixed shape; convert the model for one input shape.")
    return t.shape[1:] if has_batch(t.shape) else t.shape


def real(t: FileTensor, o: OperatorReader) -> Floats:
    """A constant as real numbers: scale · (stored − zero point), where it is quantized."""
    stored = t.values
    assert stored is not None
    if t.dtype in ("float32", "float16"):
        return np.asarray(stored, np.float32)
    if not len(t.scales) or t.dtype not in (*RANGES, "int4", "int32"):
        raise o.refuse(f"Its constant '{short(t)}' is {t.dtype}, without a scale.")
    axis = t.axis if 0 <= t.axis < max(1, stored.ndim) else 0
    if len(t.scales) > 1 and (stored.ndim == 0 or stored.shape[axis] != len(t.scales)):
        raise o.broken(f"has {len(t.scales)} scales along axis {axis} of {list(t.shape)}")
    along = [-1 if k == axis else 1 for k in range(stored.ndim)] if len(t.scales) > 1 else [1] * stored.ndim
    scales, zeros = t.scales.reshape(along), t.zero_points.reshape(along)
    return np.asarray((stored.astype(np.int64) - zeros) * scales.astype(np.float64), np.float32)
