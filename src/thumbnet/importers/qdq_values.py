"""What the values of a quantized ONNX graph become.

Between a DequantizeLinear and the next QuantizeLinear an ONNX graph computes in floats; the integer graph has no such
values. So an operation of the file only says how its output can be made (`Pending`), and the QuantizeLinear behind it,
which knows scale and zero point, has it made (`Stored`). What stands between the two, such as a Relu, narrows or moves
what is made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.graph.layout import Layout
from thumbnet.importers.quantized import GraphBuilder
from thumbnet.integer.graph import IntegerNode, QTensor

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Int8s = npt.NDArray[np.int8]

_STORED = np.arange(-128, 128, dtype=np.float32)


@dataclass(frozen=True)
class Quantization:
    """Of an int8 tensor; uint8 ones are stored less 128. Values are clamped to [low, high], which are stored ones."""

    scale: float
    zero_point: int
    low: int = -128
    high: int = 127

    @staticmethod
    def of(x: QTensor) -> Quantization:
        return Quantization(x.scale, x.zero_point)

    @property
    def numbers(self) -> tuple[float, int]:
        return self.scale, self.zero_point

    @property
    def clamp(self) -> tuple[int, int]:
        return self.low, self.high

    def quantized(self, real: npt.ArrayLike) -> Int8s:
        """As QuantizeLinear: the quotient in float32, halves to even, saturated."""
        q = np.rint(np.asarray(real, np.float32) / np.float32(self.scale)) + np.float32(self.zero_point)
        stored: Int8s = np.clip(q, self.low, self.high).astype(np.int8)
        return stored

    def within(self, low: float, high: float) -> Quantization:
        """Clamped to reals in [low, high] as well: as quantizing is monotone, clamping may come after it."""
        return replace(self, low=int(self.quantized(low)), high=int(self.quantized(high)))


@dataclass(frozen=True, eq=False)
class Stored:
    """A tensor of the integer graph. `real` is False between QuantizeLinear and DequantizeLinear, where the file has
    integers; `unsigned` says that these are uint8.
    """

    tensor: QTensor
    layout: Layout
    real: bool = True
    unsigned: bool = False


class Pending(ABC):
    """A value that is made when its quantization is known. `own` is the one it takes where the file gives none.

    `dtype` is "float32", but for inputs that the file has as integers: "int8" or "uint8", and the DequantizeLinear
    behind them knows their quantization.
    """

    def __init__(self, layout: Layout, own: Quantization | None = None, dtype: str = "float32") -> None:
        self.layout, self.own, self.dtype = layout, own, dtype
        self._made: dict[Quantization, QTensor] = {}

    def stored(self, q: Quantization) -> Stored:
        if q not in self._made:
            self._made[q] = self._make(q)
        return Stored(self._made[q], self.layout)

    @property
    def integers(self) -> bool:
        return self.dtype != "float32"

    @abstractmethod
    def _make(self, q: Quantization) -> QTensor:
        """The tensor, quantized and clamped as `q` says, with the values in the order of `layout`."""


class Made(Pending):
    """Made by a function."""

    def __init__(
        self,
        layout: Layout,
        make: Callable[[Quantization], QTensor],
        own: Quantization | None = None,
        dtype: str = "float32",
    ) -> None:
        super().__init__(layout, own, dtype)
        self.make = make

    def _make(self, q: Quantization) -> QTensor:
        return self.make(q)


@dataclass(frozen=True, eq=False)
class QuantizedConstant:
    """A constant as integers, with scales and zero points [n], along `axis` where n > 1. `real` as of `Stored`."""

    stored: Array
    scales: Floats
    zero_points: npt.NDArray[np.int64]
    axis: int
    real: bool

    def along(self, numbers: Array) -> Array:
        shape = [1] * self.stored.ndim
        if len(numbers) > 1:
            shape[self.axis] = len(numbers)
        return numbers.reshape(shape)

    @property
    def centred(self) -> npt.NDArray[np.int64]:
        """Less the zero points."""
        return self.stored.astype(np.int64) - self.along(self.zero_points)

    @property
    def reals(self) -> Floats:
        made: Floats = self.centred.astype(np.float32) * self.along(self.scales)
        return made


Value = Array | QuantizedConstant | Stored | Pending


# --- functions of one stored byte, as tables


def reals_of(x: QTensor) -> Floats:
    """What the 256 stored values of a tensor stand for, float32, from −128 up."""
    made: Floats = (_STORED - np.float32(x.zero_point)) * np.float32(x.scale)
    return made


def tabulated(builder: GraphBuilder, name: str, x: QTensor, reals: Floats, q: Quantization) -> QTensor:
    """The function of `x` with the values `reals` [256], from stored −128 up; `x` itself where it changes no byte."""
    table = q.quantized(reals)
    if q.numbers == (x.scale, x.zero_point) and np.array_equal(table, _STORED):
        return x
    out = builder.tensor(name, x.shape, q.scale, q.zero_point)
    return builder.add(IntegerNode(out.name, "lut", (x.name,), {"kind": "table"}, {"table": table}))
