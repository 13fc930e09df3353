"""Functions of one quantized value, however many operations of the file they take: tables of 256 bytes.

They are computed as ONNX Runtime computes them, in float32 between DequantizeLinear and QuantizeLinear, so a table
gives its very bytes (where its exp and ours round alike).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.errors import ModelError
from thumbnet.importers.qdq_operands import Operands
from thumbnet.importers.qdq_values import Floats, Pending, Quantization, Stored, reals_of, tabulated
from thumbnet.importers.quantized import GraphBuilder
from thumbnet.integer.arithmetic import activation_qparams
from thumbnet.integer.graph import QTensor

Unary = Callable[[Operands, Floats], npt.ArrayLike]

_f32 = np.float32


class Function(Pending):
    """A float function of a stored tensor, element by element: `reals` [256] are its values, from stored −128 up."""

    def __init__(self, name: str, builder: GraphBuilder, source: Stored, reals: Floats) -> None:
        if np.isnan(reals).any():
            raise ModelError(f"'{name}' gives no number for some of the values that it can get.")
        finite = np.clip(reals, -1e9, 1e9)
        super().__init__(source.layout, Quantization(*activation_qparams(finite.min(), finite.max())))
        self.name, self.builder, self.source, self.reals = name, builder, source, reals

    def then(self, name: str, reals: npt.ArrayLike) -> Function:
        """Another function of the same tensor."""
        return Function(name, self.builder, self.source, np.asarray(reals).astype(np.float32))

    def _make(self, q: Quantization) -> QTensor:
        return tabulated(self.builder, self.name, self.source.tensor, self.reals, q)


def function_of(o: Operands, x: Stored | Pending) -> Function | None:
    """`x` as a function of a stored tensor; None where it is no such thing."""
    if isinstance(x, Function):
        return x
    if isinstance(x, Stored) and x.real:
        return Function(o.name, o.builder, x, reals_of(x.tensor))
    return None


class Narrowed(Pending):
    """A pending value between two bounds: its own quantization with a narrower clamp."""

    def __init__(self, inner: Pending, low: float, high: float) -> None:
        super().__init__(inner.layout, inner.own)
        self.inner, self.bounds = inner, (low, high)

    def _make(self, q: Quantization) -> QTensor:
        return self.inner.stored(q.within(*self.bounds)).tensor


def _clipped(o: Operands, low: float, high: float) -> None:
    x = o.computed()
    if low > high:
        raise o.broken(f"has the bounds {low:g} and {high:g}")
    found = function_of(o, x)
    if found is not None:
        o.done(found.then(o.name, np.clip(found.reals, np.float32(low), np.float32(high))))
    elif isinstance(x, Pending):
        if x.integers:
            raise o.refuse("Give its input a DequantizeLinear first.")
        o.done(Narrowed(x, low, high))
    else:  # integers
        shift = 128 if x.unsigned else 0
        ends = [int(min(max(b - shift, -128), 127)) for b in (low, high)]
        q = Quantization(x.tensor.scale, x.tensor.zero_point, *ends)
        o.done(Stored(o.requantized(x.tensor, q), x.layout, False, x.unsigned))


def _clip(o: Operands) -> None:
    _clipped(o, o.scalar(1, -np.inf), o.scalar(2, np.inf))


def _relu(o: Operands) -> None:
    _clipped(o, 0.0, np.inf)


def applied(o: Operands, x: Stored | Pending, f: Callable[[Floats], npt.ArrayLike]) -> Function | None:
    """`f` of `x`; None where `x` is no function of a stored tensor."""
    found = function_of(o, x)
    if found is None:
        return None
    with np.errstate(all="ignore"):  # infinities saturate, what is no number is refused
        return found.then(o.name, f(found.reals))


def _unary(f: Unary) -> Callable[[Operands], None]:
    def convert(o: Operands) -> None:
        made = applied(o, o.computed(), lambda v: f(o, v))
        if made is None:
            raise o.floating(0)
        o.done(made)

    return convert


def _erf(v: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.array([math.erf(x) for x in v.tolist()])


def _gelu(o: Operands, v: Floats) -> npt.ArrayLike:
    tanh = o.text("approximate", "none") == "tanh"
    inner = np.tanh(np.sqrt(2 / np.pi) * (v + 0.044715 * v**3)) if tanh else _erf(v / np.sqrt(2))
    return np.asarray(0.5 * v * (1 + inner))


def _prelu(o: Operands) -> None:
    slopes = o.reals(1)
    if slopes.size != 1:
        raise o.refuse("Use one slope for all channels (LeakyRelu) instead.")
    _unary(lambda o, v: np.where(v >= 0, v, v * slopes.reshape(())))(o)


FUNCTIONS: dict[str, Callable[[Operands], None]] = {
    "Clip": _clip,
    "Relu": _relu,
    "PRelu": _prelu,
    "Sigmoid": _unary(lambda o, v: 1 / (1 + np.exp(-v))),
    "Tanh": _unary(lambda o, v: np.tanh(v)),
    "HardSigmoid": _unary(lambda o, v: np.clip(v * _f32(o.number("alpha", 0.2)) + _f32(o.number("beta", 0.5)), 0, 1)),
    "HardSwish": _unary(lambda o, v: v * np.clip(v / np.float32(6) + np.float32(0.5), 0, 1)),
    "LeakyRelu": _unary(lambda o, v: np.where(v >= 0, v, v * _f32(o.number("alpha", 0.01)))),
    "Elu": _unary(lambda o, v: np.where(v >= 0, v, _f32(o.number("alpha", 1.0)) * np.expm1(v))),
    "Softplus": _unary(lambda o, v: np.logaddexp(v, _f32(0))),
    "Softsign": _unary(lambda o, v: v / (1 + np.abs(v))),
    "Mish": _unary(lambda o, v: v * np.tanh(np.logaddexp(v, _f32(0)))),
    "Gelu": _unary(_gelu),
    "Erf": _unary(lambda o, v: _erf(v)),
    "Exp": _unary(lambda o, v: np.exp(v)),
    "Log": _unary(lambda o, v: np.log(v)),
    "Sqrt": _unary(lambda o, v: np.sqrt(v)),
    "Reciprocal": _unary(lambda o, v: 1 / v),
    "Abs": _unary(lambda o, v: np.abs(v)),
    "Neg": _unary(lambda o, v: -v),
}
