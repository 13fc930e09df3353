"""Bounds: they hold whatever goes in, and are reached where the arithmetic is simple."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from integer_cases import Draw, graph_of, stimuli
from integer_pass_cases import random_weights, weighted
from random_integer_graphs import integer_graphs

from thumbnet.integer import build
from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor
from thumbnet.integer.passes.intervals import accumulator_bounds, anything, bounds_of
from thumbnet.integer.passes.windows import tap_patterns
from thumbnet.integer.simulate import trace


@given(integer_graphs())
@settings(max_examples=150, deadline=None)
def test_every_value_lies_within_its_bounds(ig: IntegerGraph) -> None:
    bounds = bounds_of(ig)
    for name, y in trace(ig, stimuli(ig, 3, 12)).items():
        rows = y.reshape(-1, y.shape[-1])
        assert np.all(bounds[name].low <= rows.min(axis=0)), name
        assert np.all(rows.max(axis=0) <= bounds[name].high), name


def quantized(name: str, *shape: int, scale: float = 0.05, zero_point: int = 0) -> QTensor:
    return QTensor(name, shape, scale, zero_point)


@pytest.mark.parametrize("op", ["conv2d", "depthwise_conv2d"])
@pytest.mark.parametrize("padding", [[0] * 4, [1] * 4])
def test_sums_are_bounded_by_sums_that_occur(op: str, padding: list[int]) -> None:
    """The image that takes each weight's sign at one pixel reaches both ends there."""
    x, y = quantized("x", 3, 3, 2, zero_point=17), quantized("y", 1, 1, 2)
    weight = random_weights(1, *((3, 3, 2) if op == "depthwise_conv2d" else (2, 3, 3, 2)))
    node = weighted(op, x, y, weight, [1000, -7], stride=[3, 3], padding=padding)
    sums = accumulator_bounds(node, anything(2), x, y)
    if op == "depthwise_conv2d":
        rows = np.moveaxis(weight, -1, 0)[..., None] * np.eye(2, dtype=np.int64)[:, None, None]
    else:
        rows = weight.astype(np.int64)
    seen = rows[:, 1:, 1:] if any(padding) else rows  # the only window starts at (−1, −1)
    high = np.where(seen > 0, 127, -128)
    low = np.where(seen > 0, -128, 127)
    bias = np.array([1000, -7])
    np.testing.assert_array_equal(sums.high, (seen * (high - 17)).sum(axis=(1, 2, 3)) + bias)
    np.testing.assert_array_equal(sums.low, (seen * (low - 17)).sum(axis=(1, 2, 3)) + bias)


def test_taps_that_never_see_the_image_do_not_count() -> None:
    x, y = quantized("x", 1, 2, 1), quantized("y", 1, 2, 1)
    node = weighted("conv2d", x, y, np.ones((1, 3, 3, 1)), padding=[1] * 4)
    patterns = tap_patterns(node, x, y)
    expected = np.array([[0, 0, 0, 0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0, 0, 0, 0]], bool)
    assert sorted(map(tuple, patterns)) == sorted(map(tuple, expected))
    sums = accumulator_bounds(node, anything(1), x, y)
    assert (sums.low[0], sums.high[0]) == (-256, 254)


def test_a_constant_is_told_from_a_border() -> None:
    """Channel 0 is silent at the zero point, channel 1 at another value, whose border differs behind padding."""
    x, h, y = quantized("x", 4, 4, 1), quantized("h", 4, 4, 2, zero_point=-5), quantized("y", 4, 4, 2)
    first = weighted("conv2d", x, h, np.zeros((2, 1, 1, 1)), [0, 4000])
    second = weighted("depthwise_conv2d", h, y, np.full((3, 3, 2), 3), padding=[1] * 4)
    bounds = bounds_of(graph_of([x, h, y], [x], [first, second]))
    assert bounds["h"].constant.tolist() == [True, True]
    assert bounds["y"].constant.tolist() == [True, False]
    inner = IntegerNode("y", second.op, second.inputs, {**second.attrs, "padding": [0] * 4}, second.arrays)
    bounds = bounds_of(graph_of([x, h, quantized("y", 2, 2, 2)], [x], [first, inner]))
    assert bounds["y"].constant.tolist() == [True, True]


def test_bounds_pass_through_joins_and_moves() -> None:
    x, a, b = quantized("x", 2, 2, 2), quantized("a", 2, 2, 2, zero_point=-128), quantized("b", 2, 2, 4)
    conv = weighted("conv2d", x, a, [[[[0, 0]]], [[[1, 1]]]], [2000, 0], activation="relu")
    high = int(bounds_of(graph_of([x, a], [x], [conv]))["a"].high[1])
    cat = IntegerNode("b", "concat", ("a", "x"), {"axis": 2})
    flat = IntegerNode("f", "reshape", ("b",), {"shape": [16]})
    part = IntegerNode("s", "slice", ("f",), {"axis": 0, "start": 3, "stop": 7})
    tensors = [x, a, b, quantized("f", 16), quantized("s", 4)]
    bounds = bounds_of(graph_of(tensors, [x], [conv, cat, flat, part]))
    constant = int(bounds["a"].low[0])
    assert bounds["a"].constant.tolist() == [True, False]
    assert bounds["s"].low.tolist() == [-128, constant, -128, -128]
    assert bounds["s"].high.tolist() == [127, constant, high, 127]


@pytest.mark.parametrize("make", [build.add, build.subtract, build.multiply])
@pytest.mark.parametrize("seed", range(5))
def test_pairs_of_values_reach_the_bounds(make: Callable[..., IntegerNode], seed: int) -> None:
    """Inputs clamped to different spans, all pairs of their values: the bounds are the extremes."""
    d = Draw(seed)
    x, z = d.tensor("x", (256, 256, 1)), d.tensor("z", (256, 256, 1))
    a, b = replace(x, name="a"), replace(z, name="b")
    y = d.tensor("y", (256, 256, 1), x.scale * z.scale * 99 if make is build.multiply else max(x.scale, z.scale) * 2)
    spans = [sorted(d.integer(-128, 127) for _ in range(2)) for _ in range(2)]
    same = [
        replace(build.requantize(o.name, i, o), clamp=tuple(s)) for i, o, s in zip((x, z), (a, b), spans, strict=True)
    ]
    ig = graph_of([x, z, a, b, y], [x, z], [*same, make("y", a, b, y)])
    stored = np.arange(-128, 128).astype(np.int8)
    feeds = {
        v: np.broadcast_to(s, (1, 256, 256, 1)).copy()
        for v, s in (("x", stored[:, None, None]), ("z", stored[:, None]))
    }
    values = trace(ig, feeds)["y"]
    assert bounds_of(ig)["y"].range == (values.min(), values.max())


def test_a_table_that_goes_up_and_down_is_looked_through() -> None:
    x, y = quantized("x", 2, zero_point=0), quantized("y", 2)
    table = np.abs(np.arange(-128, 128)).clip(max=127).astype(np.int8)
    node = IntegerNode("y", "lut", ("x",), {"kind": "table"}, {"table": table})
    bounds = bounds_of(graph_of([x, y], [x], [node]))
    assert bounds["y"].range == (0, 127)


def test_an_unknown_operation_may_give_anything() -> None:
    x, y = quantized("x", 3), quantized("y", 2)
    relu = build.relu("r", x, QTensor("r", (3,), 0.05, 0))
    nodes = [relu, IntegerNode("y", "mystery", ("r",))]
    bounds = bounds_of(graph_of([x, QTensor("r", (3,), 0.05, 0), y], [x], nodes))
    assert bounds["r"].range == (0, 127)
    assert bounds["y"].range == (-128, 127)
