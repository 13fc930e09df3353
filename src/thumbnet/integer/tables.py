"""Tables of elementwise functions: for each of the 256 int8 inputs, what TFLM's kernel of that function returns.

Each function returns int8 [256], indexed by stored value + 128.
"""

from __future__ import annotations

import numpy as np

from thumbnet.integer.arithmetic import (
    INT32_MAX,
    Int8s,
    Ints,
    high_multiply,
    multiply_by_quantized_multiplier,
    rounding_right_shift,
    scalar_multiplier,
)
from thumbnet.integer.fixed_point import logistic, tanh

SIGMOID_OUTPUT = (1 / 256, -128)  # (scale, zero point) that TFLM prescribes
TANH_OUTPUT = (1 / 128, 0)
SOFTMAX_OUTPUT = (1 / 256, -128)
_INTEGER_BITS = 4  # of the inputs of logistic and tanh: they saturate at ±16
_STORED = np.arange(-128, 128, dtype=np.int64)


def input_radius(integer_bits: int, left_shift: int) -> int:
    """The largest difference from the zero point that still fits `integer_bits` after scaling."""
    return int(np.floor(((1 << integer_bits) - 1) * 2.0 ** (31 - integer_bits) / 2.0**left_shift))


def _in_q4(scale: float, zero_point: int) -> tuple[Ints, Ints, int]:
    """Inputs less zero point, the same in Q4.27, and the radius outside which the latter saturates."""
    multiplier, shift = scalar_multiplier(scale * (1 << (31 - _INTEGER_BITS)))
    radius = input_radius(_INTEGER_BITS, shift)
    x = _STORED - zero_point
    inside = np.clip(x, -radius, radius)
    return x, multiply_by_quantized_multiplier(inside, multiplier, shift), radius


def sigmoid_table(scale: float, zero_point: int) -> Int8s:
    """Logistic function; the output has the quantization `SIGMOID_OUTPUT`."""
    x, q4, radius = _in_q4(scale, zero_point)
    y = rounding_right_shift(logistic(q4), 31 - 8) - 128
    return _saturated(x, y, radius)


def tanh_table(scale: float, zero_point: int) -> Int8s:
    """Hyperbolic tangent; the output has the quantization `TANH_OUTPUT`."""
    x, q4, radius = _in_q4(scale, zero_point)
    return _saturated(x, rounding_right_shift(tanh(q4), 31 - 7), radius)


def _saturated(x: Ints, y: Ints, radius: int) -> Int8s:
    y = np.where(x <= -radius, -128, np.where(x >= radius, 127, y))
    return np.clip(y, -128, 127).astype(np.int8)


def leaky_relu_table(scale: float, zero_point: int, out_scale: float, out_zero_point: int, alpha: float) -> Int8s:
    """x where x ≥ 0, else alpha · x, with `alpha` rounded to float32."""
    identity = scalar_multiplier(scale / out_scale)
    slope = scalar_multiplier(abs(scale * float(np.float32(alpha)) / out_scale))
    x = _STORED - zero_point
    below = multiply_by_quantized_multiplier(x, *slope) * (1 if alpha >= 0 else -1)
    y = np.where(x >= 0, multiply_by_quantized_multiplier(x, *identity), below)
    table: Int8s = np.clip(y + out_zero_point, -128, 127).astype(np.int8)
    return table


def elu_table(scale: float, zero_point: int, out_scale: float, out_zero_point: int) -> Int8s:
    """x where x ≥ 0, else exp(x) − 1; in float32, as TFLM fills its own table."""
    x = np.float32(scale) * (_STORED - zero_point).astype(np.float32)
    below = np.exp(np.minimum(x, 0).astype(np.float64)).astype(np.float32) - np.float32(1)
    y = np.where(x < 0, below, x) * (np.float32(1) / np.float32(out_scale))
    rounded = np.copysign(np.floor(np.abs(y.astype(np.float64)) + 0.5), y)  # halves away from zero
    table: Int8s = np.clip(rounded + out_zero_point, -128, 127).astype(np.int8)
    return table


def abs_table(scale: float, zero_point: int, out_scale: float, out_zero_point: int) -> Int8s:
    x = np.abs(_STORED - zero_point)
    if scale != out_scale:
        x = multiply_by_quantized_multiplier(x, *scalar_multiplier(scale / out_scale))
    table: Int8s = np.clip(x + out_zero_point, -128, 127).astype(np.int8)
    return table


def hard_swish_table(scale: float, zero_point: int, out_scale: float, out_zero_point: int) -> Int8s:
    """x · relu6(x + 3) / 6 in 16-bit fixed point; needs scale / out_scale < 128."""
    hires = scale / 128  # the input's scale once it is shifted left by 7 bits
    out_multiplier, out_exponent = scalar_multiplier(hires / out_scale)
    gate_multiplier, gate_exponent = scalar_multiplier(hires / (3 / 32768))
    x = (_STORED - zero_point) << 7
    linear = _high_multiply16(x, _to_int16(out_multiplier))
    gate = x
    if gate_exponent > 0:
        gate = _saturate16(gate << (gate_exponent - 1))
    gate = _high_multiply16(gate, _to_int16(gate_multiplier))
    if gate_exponent > 0:
        gate = _saturate16(gate << 1)
    elif gate_exponent < 0:
        gate = rounding_right_shift(gate, -gate_exponent)
    gate = (gate + (1 << 15)) >> 1  # [−1, 1] to [0, 1]
    product = gate * linear
    product = np.sign(product) * (np.abs(product) >> 15)  # toward zero: cancels the bias of the roundings before
    y = rounding_right_shift(product, -out_exponent) + out_zero_point
    return np.clip(y, -128, 127).astype(np.int8)


def _to_int16(multiplier: int) -> int:
    """A Q31 multiplier as Q15, rounded, saturated."""
    return 32767 if multiplier >= INT32_MAX - (1 << 15) else (multiplier + (1 << 15)) >> 16


def _high_multiply16(a: Ints, b: int) -> Ints:
    """round(a · b / 2^15), halves up."""
    return high_multiply(a << 8, b << 8)


def _saturate16(x: Ints) -> Ints:
    return np.clip(x, -32768, 32767)
