"""Integer arithmetic as TensorFlow Lite for Microcontrollers defines it, vectorised over int64 arrays.

Formulas follow gemmlowp's fixed-point conventions, which TFLM's int8 kernels are written in: a real multiplier is a
Q31 integer and a power of two, and scaling rounds *twice* (once in the high multiplication, once in the right shift).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Int8s = npt.NDArray[np.int8]

INT32_MAX = (1 << 31) - 1
INT32_MIN = -(1 << 31)
INT8_MIN, INT8_MAX = -128, 127
INT4_MIN, INT4_MAX = -8, 7
# Largest weight by bits. Weights are symmetric: never −128, which lets kernels pair them in 16-bit lanes, nor −8.
WEIGHT_MAX: Mapping[int, int] = MappingProxyType({8: INT8_MAX, 4: INT4_MAX})
MIN_WEIGHT_SCALE = 1e-12
MIN_SPAN = 2.0**-16  # of a real range; narrower ones are widened so that scales stay far from denormal


def weight_scales(weight: npt.ArrayLike, axis: int | None, bits: int = 8) -> npt.NDArray[np.float32]:
    """Symmetric scales: largest magnitude / `WEIGHT_MAX[bits]`, one per index of `axis`, or one where `axis` is None.

    Returns float32 [weight.shape[axis]], or [1]. A channel of zeros gets scale 1 (any scale represents it); no scale is
    below `MIN_WEIGHT_SCALE`.
    """
    w = np.abs(np.asarray(weight, np.float32))
    if axis is None:
        peak = np.array([w.max(initial=0.0)], np.float32)
    else:
        peak = np.moveaxis(w, axis, 0).reshape(w.shape[axis], -1).max(1, initial=0.0)
    scales = np.maximum(peak / np.float32(WEIGHT_MAX[bits]), np.float32(MIN_WEIGHT_SCALE))
    return np.where(peak > 0, scales, np.float32(1)).astype(np.float32)


def quantize_weight(weight: npt.ArrayLike, scales: npt.NDArray[np.float32], axis: int | None, bits: int = 8) -> Int8s:
    """Weights in ±`WEIGHT_MAX[bits]`: rint(weight · (1 / scale)), in float32, as torch's fake quantization has them."""
    w = np.asarray(weight, np.float32)
    inverse = np.float32(1) / scales
    if axis is not None:
        inverse = inverse.reshape([-1 if k == axis % w.ndim else 1 for k in range(w.ndim)])
    q = np.rint(w * inverse)
    return np.clip(q, -WEIGHT_MAX[bits], WEIGHT_MAX[bits], out=q).astype(np.int8)


def pack_int4(values: Int8s) -> npt.NDArray[np.uint8]:
    """Values in −8 … 7, flattened, two in a byte: the first in the lower half. An odd last one leaves 0 above it."""
    halves = np.append(values.reshape(-1), np.zeros(values.size % 2, np.int8)).view(np.uint8).reshape(-1, 2)
    packed: npt.NDArray[np.uint8] = halves[:, 0] & np.uint8(15) | halves[:, 1] << np.uint8(4)
    return packed


def activation_qparams(low: float, high: float) -> tuple[float, int]:
    """(scale, zero point) of an asymmetric int8 tensor that covers [low, high] and represents 0 exactly.

    The range is widened to contain 0 and to span at least `MIN_SPAN`. `scale` is a float32 value.
    """
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"a range must be finite, not [{low}, {high}]")
    if high - low < MIN_SPAN:
        high = low + MIN_SPAN
    scale = float(np.float32((high - low) / 255))
    zero_point = round(INT8_MIN - low / scale)
    return scale, min(max(zero_point, INT8_MIN), INT8_MAX)


def quantize_multiplier(real: npt.ArrayLike) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Real multipliers ≥ 0 (float64) as (Q31 multiplier, shift): real ≈ multiplier · 2^(shift − 31).

    The multiplier is 0 or in [2^30, 2^31); values below 2^−32 become 0. Rounds halves away from zero, as TFLM.
    """
    mantissa, exponent = np.frexp(np.asarray(real, np.float64))
    q = np.floor(mantissa * 2.0**31 + 0.5).astype(np.int64)
    full = q == 1 << 31
    q = np.where(full, 1 << 30, q)
    shift = exponent.astype(np.int64) + full
    tiny = shift < -31
    return np.where(tiny, 0, q).astype(np.int32), np.where(tiny, 0, shift).astype(np.int32)


def scalar_multiplier(real: float) -> tuple[int, int]:
    """`quantize_multiplier` of one number, as Python integers."""
    multiplier, shift = quantize_multiplier(real)
    return int(multiplier), int(shift)


def high_multiply(a: Any, b: Any) -> Ints:
    """round(a · b / 2^31), halves up: gemmlowp's SaturatingRoundingDoublingHighMul away from −2^31 · −2^31."""
    product = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    product += 1 << 30
    product >>= 31
    return product


def rounding_right_shift(x: Any, exponent: Any) -> Ints:
    """round(x / 2^exponent), halves away from zero: gemmlowp's RoundingDivideByPOT."""
    x, n = np.asarray(x, np.int64), np.asarray(exponent, np.int64)
    shifted: Ints = np.asarray(x + ((1 << n) >> 1))  # and from here in place: most of a simulation passes through here
    negative = x >> 63
    shifted += negative if np.all(n) else negative * (n > 0)
    shifted >>= n
    return shifted


def multiply_by_quantized_multiplier(x: Any, multiplier: Any, shift: Any) -> Ints:
    """x · multiplier · 2^(shift − 31) with both roundings of TFLM's MultiplyByQuantizedMultiplier.

    `multiplier` and `shift` broadcast against `x`. |x · 2^max(shift, 0)| must stay below 2^31.
    """
    shift = np.asarray(shift, np.int64)
    left = np.maximum(shift, 0)
    shifted = np.asarray(x, np.int64) << left if np.any(left) else x
    return rounding_right_shift(high_multiply(shifted, multiplier), np.maximum(-shift, 0))


def requantize(
    accumulators: npt.NDArray[Any], multiplier: Any, shift: Any, zero_point: int, clamp: tuple[int, int]
) -> Int8s:
    """Accumulators scaled, offset by the output's zero point and clamped, as int8."""
    q = multiply_by_quantized_multiplier(accumulators, multiplier, shift)
    q += zero_point
    return np.clip(q, clamp[0], clamp[1], out=q).astype(np.int8)


def round_half_away(x: float) -> int:
    """C's round(): halves away from zero."""
    return int(np.copysign(np.floor(abs(x) + 0.5), x))


def activation_clamp(activation: str, scale: float, zero_point: int) -> tuple[int, int]:
    """(low, high) of the stored int8 output that a fused activation allows ("none", "relu", "relu6").

    As TFLM's CalculateActivationRangeQuantized: bounds are quantized in float32, halves away from zero.
    """
    low, high = INT8_MIN, INT8_MAX
    if activation in ("relu", "relu6"):
        low = max(low, zero_point)
    if activation == "relu6":
        high = min(high, zero_point + round_half_away(float(np.float32(6) / np.float32(scale))))
    return low, high
