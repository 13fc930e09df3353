"""exp, logistic, tanh and softmax in Q31 fixed point, bit for bit as gemmlowp computes them.

A value with `n` integer bits is stored as round(real · 2^(31 − n)) in 32 bits. All functions take and return int64
arrays that hold int32 values.
"""

from __future__ import annotations

import math

import numpy as np

from thumbnet.integer.arithmetic import INT32_MAX, INT32_MIN, Ints, high_multiply, rounding_right_shift

ONE = INT32_MAX  # 1 with no integer bits
_EXP_STEPS = range(-2, 5)  # exp(−2^k) for each bit of the exponent's integer and upper fractional part


def saturating_left_shift(x: Ints, amount: int) -> Ints:
    saturated: Ints = np.clip(x << amount, INT32_MIN, INT32_MAX)
    return saturated


def exp_on_negative_values(x: Ints, integer_bits: int) -> Ints:
    """exp(x) for x ≤ 0 with `integer_bits` (at most 5) integer bits; the result has none.

    What x exceeds a multiple of a quarter by goes through a polynomial, the rest through one constant per bit.
    """
    fractional = 31 - integer_bits
    quarter = 1 << (fractional - 2)
    rest = (x & (quarter - 1)) - quarter
    result = _exp_in_last_quarter(saturating_left_shift(rest, integer_bits))
    remainder = rest - x
    for k in _EXP_STEPS:
        if integer_bits > k:
            factor = round(math.exp(-(2.0**k)) * 2**31)
            result = np.where((remainder >> (fractional + k)) & 1, high_multiply(result, factor), result)
    return np.where(x == 0, ONE, result)


def _exp_in_last_quarter(x: Ints) -> Ints:
    """exp(x) for x in [−1/4, 0): Taylor's polynomial of degree 4 around −1/8, no integer bits."""
    center = round(math.exp(-0.125) * 2**31)
    third = round(2**31 / 3)
    d = x + (1 << 28)
    d2 = high_multiply(d, d)
    d3 = high_multiply(d2, d)
    d4_over_4 = rounding_right_shift(high_multiply(d2, d2), 2)
    tail = rounding_right_shift(high_multiply(d4_over_4 + d3, third) + d2, 1)
    return center + high_multiply(np.int64(center), d + tail)


def _reciprocal_of_half_sum(x: Ints) -> Ints:
    """2 / (1 + x) for x in [0, 1) by three Newton steps, with two integer bits."""
    half_denominator = (x + ONE + 1) // 2
    y = round(48 / 17 * 2**29) + high_multiply(half_denominator, round(-32 / 17 * 2**29))
    for _ in range(3):
        error = (1 << 29) - high_multiply(half_denominator, y)
        y = y + saturating_left_shift(high_multiply(y, error), 2)
    return y


def one_over_one_plus_x(x: Ints) -> Ints:
    """1 / (1 + x) for x in [0, 1); neither has integer bits."""
    return saturating_left_shift(_reciprocal_of_half_sum(x), 1)


def logistic(x: Ints) -> Ints:
    """1 / (1 + exp(−x)) for x with 4 integer bits; the result has none."""
    positive = one_over_one_plus_x(exp_on_negative_values(-np.abs(x), 4))
    return np.where(x == 0, 1 << 30, np.where(x > 0, positive, ONE - positive))


def tanh(x: Ints) -> Ints:
    """tanh(x) for x with 4 integer bits; the result has none."""
    e = exp_on_negative_values(-np.abs(x), 5)  # exp(−2|x|): doubling moves the point, not the bits
    positive = saturating_left_shift(_reciprocal_of_half_sum(e) - (1 << 29), 2)
    return np.where(x == 0, 0, np.where(x > 0, positive, -positive))


def softmax(x: Ints, multiplier: int, shift: int, diff_min: int) -> Ints:
    """Softmax over the last axis of int8 values; the result is int8 at scale 1/256, zero point −128.

    `multiplier`, `shift` scale differences to 5 integer bits; differences below `diff_min` count as −∞.
    """
    diff = x - x.max(axis=-1, keepdims=True)
    counts = diff >= diff_min
    scaled = high_multiply(np.where(counts, diff, 0) << shift, multiplier)
    e = np.where(counts, exp_on_negative_values(scaled, 5), 0)
    total = rounding_right_shift(e, 12).sum(axis=-1, keepdims=True)  # 12 integer bits
    leading_zeros = 32 - np.frexp(total.astype(np.float64))[1].astype(np.int64)
    scale = one_over_one_plus_x((total << leading_zeros) - (1 << 31))
    exponent = 12 - leading_zeros + 31 - 8
    out = rounding_right_shift(high_multiply(scale, e), exponent) - 128
    return np.where(counts, np.clip(out, -128, 127), -128)
