"""Constant channels that stay: no weights, small numbers, the same bytes in every tensor."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from integer_cases import graph_of, stimuli
from integer_pass_cases import assert_lossless, random_weights, weighted
from random_integer_graphs import integer_graphs

from thumbnet.integer.graph import IntegerGraph, QTensor
from thumbnet.integer.passes import dead_channels, silence_constants
from thumbnet.integer.simulate import trace

X = QTensor("x", (5, 4, 2), 0.05, 3)
H = QTensor("h", (5, 4, 3), 0.05, -128)


@given(integer_graphs())
@settings(max_examples=80, deadline=None)
def test_every_tensor_keeps_its_bytes(ig: IntegerGraph) -> None:
    after = silence_constants(ig)
    feeds = stimuli(ig, 5, 6)
    expected, got = trace(ig, feeds), trace(after, feeds)
    for name, y in expected.items():
        np.testing.assert_array_equal(got[name], y)
    assert silence_constants(after) is after


@pytest.mark.parametrize("bias", [2**30, -(2**30), 60000])
def test_a_saturated_channel_loses_weights_and_a_large_bias(bias: int) -> None:
    node = weighted("conv2d", X, H, random_weights(1, 3, 1, 1, 2), [0, bias, 0])
    before = graph_of([X, H], [X], [node])
    after = silence_constants(before)
    assert assert_lossless(before, after)
    got = after.by_name["h"].arrays
    assert not got["weight"][1].any()
    assert abs(int(got["bias"][1])) < 2**16
    for k in ("weight", "bias"):
        np.testing.assert_array_equal(np.delete(got[k], 1, 0), np.delete(node.arrays[k], 1, 0))


@pytest.mark.parametrize("scale", [300.0, 1e-9])
def test_a_constant_channel_takes_over_a_plain_multiplier(scale: float) -> None:
    """Weight scales of silent channels may be anything; one would need a left shift, the other a bias of 30 bits."""
    weight = random_weights(1, 3, 1, 1, 2)
    weight[1] = 0
    bias = [0, 3 if scale > 1 else 2**29, 0]
    node = weighted("conv2d", X, H, weight, bias, scale=[0.01, scale, 0.02])
    before = graph_of([X, H], [X], [node])
    assert not -24 < node.arrays["shift"][1] < 0
    after = silence_constants(before)
    assert assert_lossless(before, after)
    got = after.by_name["h"]
    assert got.weight_scale[1] == got.weight_scale[2]
    assert got.arrays["shift"][1] == got.arrays["shift"][2]
    assert got.arrays["multiplier"][1] == got.arrays["multiplier"][2]
    assert 0 < abs(int(got.arrays["bias"][1])) < 2**17


def test_a_multiplier_that_cannot_give_the_constant_is_not_taken_over() -> None:
    """The only multipliers below 1 are so small that no 32-bit sum gets anywhere."""
    weight = np.zeros((3, 1, 1, 2))
    before = graph_of([X, H], [X], [weighted("conv2d", X, H, weight, [0, 1, 0], scale=[1e-10, 30, 1e-10])])
    after = silence_constants(before)
    assert assert_lossless(before, after)
    np.testing.assert_array_equal(after.by_name["h"].arrays["bias"], [0, 1, 0])


def test_a_dense_layer_keeps_its_one_multiplier() -> None:
    x, y = QTensor("x", (6,), 0.05, 3), QTensor("y", (3,), 0.05, -128)
    before = graph_of([x, y], [x], [weighted("dense", x, y, random_weights(1, 3, 6), [0, 2**29, -(2**29)])])
    after = silence_constants(before)
    assert assert_lossless(before, after)
    assert len(set(after.by_name["y"].arrays["multiplier"])) == 1
    assert after.by_name["y"].arrays["bias"][2] == 0
    assert after.by_name["y"].arrays["weight"].any(axis=1).tolist() == [True, False, False]


def test_what_a_constant_read_becomes_dead() -> None:
    """Channel 0 of h stays behind a padded convolution, but frees channel 1 of what it reads."""
    h = QTensor("h", (5, 4, 2), 0.05, -5)
    k, y = QTensor("k", (5, 4, 2), 0.05, -5), QTensor("y", (5, 4, 1), 0.05, 0)
    middle = random_weights(2, 2, 1, 1, 2)
    middle[1, ..., 1] = 0
    nodes = [
        weighted("conv2d", X, h, random_weights(1, 2, 1, 1, 2)),
        weighted("conv2d", h, k, middle, [2**20, 0]),
        weighted("conv2d", k, y, random_weights(3, 1, 3, 3, 2), padding=[1] * 4),
    ]
    before = graph_of([X, h, k, y], [X], nodes)
    assert dead_channels(before) is before
    after = dead_channels(silence_constants(before))
    assert assert_lossless(before, after)
    assert after.tensors["h"].shape[-1] == 1
    assert after.tensors["k"].shape[-1] == 2
