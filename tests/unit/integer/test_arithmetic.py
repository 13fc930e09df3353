"""Scaling, rounding and the choice of scales."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thumbnet.integer.arithmetic import (
    MIN_SPAN,
    activation_clamp,
    activation_qparams,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    quantize_weight,
    rounding_right_shift,
    weight_scales,
)

finite = st.floats(-1e4, 1e4, width=32)


def half_up(x: Fraction) -> int:
    return int((x + Fraction(1, 2)).__floor__())


def half_away(x: Fraction) -> int:
    return half_up(x) if x >= 0 else -half_up(-x)


@given(st.floats(1e-9, 1e6))
def test_a_multiplier_is_its_real_to_31_bits(real: float) -> None:
    multiplier, shift = quantize_multiplier(real)
    assert 1 << 30 <= multiplier < 1 << 31
    assert Fraction(int(multiplier)) * Fraction(2) ** (int(shift) - 31) == pytest.approx(real, rel=2**-31)


@pytest.mark.parametrize(("real", "expected"), [(0.0, (0, 0)), (0.5, (1 << 30, 0)), (1.0, (1 << 30, 1))])
def test_multipliers_at_powers_of_two(real: float, expected: tuple[int, int]) -> None:
    multiplier, shift = quantize_multiplier(real)
    assert (int(multiplier), int(shift)) == expected


def test_a_multiplier_that_rounds_up_to_one_moves_the_shift() -> None:
    multiplier, shift = quantize_multiplier(np.nextafter(1.0, 0))
    assert (int(multiplier), int(shift)) == (1 << 30, 1)


def test_a_multiplier_below_all_bits_is_zero() -> None:
    assert [int(v) for v in quantize_multiplier(2.0**-33)] == [0, 0]


@given(st.integers(-(2**31) + 1, 2**31 - 1), st.integers(1 << 30, (1 << 31) - 1), st.integers(-31, 0))
def test_scaling_rounds_twice(x: int, multiplier: int, shift: int) -> None:
    """First halves up to 31 bits, then halves away from zero: exact rational arithmetic says so."""
    high = half_up(Fraction(x * multiplier, 1 << 31))
    expected = half_away(Fraction(high, 1 << -shift))
    assert int(multiply_by_quantized_multiplier(x, multiplier, shift)) == expected


@given(st.integers(-(2**20), 2**20), st.integers(1 << 30, (1 << 31) - 1), st.integers(0, 10))
def test_left_shifts_come_first(x: int, multiplier: int, shift: int) -> None:
    expected = half_up(Fraction((x << shift) * multiplier, 1 << 31))
    assert int(multiply_by_quantized_multiplier(x, multiplier, shift)) == expected


def test_shifts_broadcast_per_channel() -> None:
    x = np.array([[5, 5, -5, 7]])
    assert rounding_right_shift(x, [0, 1, 1, 2]).tolist() == [[5, 3, -3, 2]]


@given(finite, finite)
def test_activation_ranges_contain_an_exact_zero(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    scale, zero_point = activation_qparams(low, high)
    assert -128 <= zero_point <= 127
    assert scale == float(np.float32(scale)) > 0
    stored = np.arange(-128, 128)
    real = scale * (stored - zero_point)
    assert 0.0 in real
    slack = 0.51 * scale
    assert real.min() <= min(low, 0) + slack
    assert real.max() >= max(high, 0) - slack
    assert real.max() - real.min() <= max(high, 0, min(low, 0) + MIN_SPAN) - min(low, 0) + 0.01 * scale


@pytest.mark.parametrize(
    ("low", "high", "zero_point"), [(0, 6, -128), (-6, 0, 127), (-1.28, 1.27, 0), (2, 6, -128), (0, 0, -128)]
)
def test_zero_points_of_common_ranges(low: float, high: float, zero_point: int) -> None:
    assert activation_qparams(low, high)[1] == zero_point


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_ranges_must_be_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        activation_qparams(-1, bad)


def test_weight_scales_per_channel_and_per_tensor() -> None:
    w = np.array([[1.0, -2.54], [0.0, 0.0], [0.5, 0.127]], np.float32)
    np.testing.assert_allclose(weight_scales(w, 0), [0.02, 1.0, 0.5 / 127], rtol=1e-6)
    np.testing.assert_allclose(weight_scales(w, 1), [1 / 127, 0.02], rtol=1e-6)
    np.testing.assert_allclose(weight_scales(w, None), [0.02], rtol=1e-6)


@given(st.lists(finite, min_size=1, max_size=8), st.sampled_from([0, None]), st.sampled_from([(8, 127), (4, 7)]))
def test_weights_stay_symmetric_and_within_half_a_step(
    values: list[float], axis: int | None, bits: tuple[int, int]
) -> None:
    w = np.array(values, np.float32)[:, None]
    scales = weight_scales(w, axis, bits[0])
    q = quantize_weight(w, scales, axis, bits[0])
    assert np.abs(q.astype(int)).max() <= bits[1]
    step = scales[:, None] if axis == 0 else scales
    assert (np.abs(q * step.astype(np.float64) - w) <= 0.501 * step).all()


def test_clamps_of_fused_activations() -> None:
    assert activation_clamp("none", 0.1, 5) == (-128, 127)
    assert activation_clamp("relu", 0.1, 5) == (5, 127)
    assert activation_clamp("relu6", 0.1, -20) == (-20, 40)
    assert activation_clamp("relu6", 0.01, -20) == (-20, 127)
