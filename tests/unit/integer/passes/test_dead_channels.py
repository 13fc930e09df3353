"""Constant and unread channels: which go, which must stay, and what is left in the biases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from integer_cases import graph_of, stimuli
from integer_pass_cases import assert_lossless, random_weights, weighted

from thumbnet.integer import build
from thumbnet.integer.arithmetic import INT32_MAX
from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor
from thumbnet.integer.passes import dead_channels
from thumbnet.integer.simulate import trace

X = QTensor("x", (5, 4, 2), 0.05, 3)


def tensor(name: str, *shape: int, zero_point: int = -5) -> QTensor:
    return QTensor(name, shape, 0.05, zero_point)


def producer(channels: int = 4, silent: dict[int, int] | None = None, zero_point: int = -5, **kw: Any) -> Any:
    """(tensor h, its 1×1 convolution of X, in which channel c has no weights and the bias silent[c])."""
    h = tensor("h", 5, 4, channels, zero_point=zero_point)
    weight, bias = random_weights(1, channels, 1, 1, 2), np.arange(channels) * 100
    for channel, value in (silent or {}).items():
        weight[channel], bias[channel] = 0, value
    return h, weighted("conv2d", X, h, weight, bias, **kw)


def after_pass(tensors: list[QTensor], *nodes: IntegerNode, multiple: int = 1) -> tuple[IntegerGraph, IntegerGraph]:
    before = graph_of([X, *tensors], [X], nodes)
    after = dead_channels(before, multiple)
    assert assert_lossless(before, after)
    return before, after


def channels_of(ig: IntegerGraph, name: str) -> int:
    return ig.tensors[name].shape[-1]


def constant(before: IntegerGraph, name: str, channel: int) -> int:
    values = np.unique(trace(before, stimuli(before, 0))[name][..., channel])
    assert len(values) == 1
    return int(values[0])


def test_a_constant_goes_into_the_bias_of_its_reader() -> None:
    h, first = producer(silent={1: 3000})
    y = tensor("y", 5, 4, 3)
    weight = random_weights(2, 3, 1, 1, 4)
    before, after = after_pass([h, y], first, weighted("conv2d", h, y, weight, [5, 6, 7]))
    assert after.by_name["h"].arrays["weight"].shape == (3, 1, 1, 2)
    np.testing.assert_array_equal(after.by_name["y"].arrays["weight"], weight[..., [0, 2, 3]])
    value = constant(before, "h", 1)
    assert value not in (h.zero_point, 127)
    share = (value - h.zero_point) * weight[:, 0, 0, 1].astype(int)
    np.testing.assert_array_equal(after.by_name["y"].arrays["bias"], np.array([5, 6, 7]) + share)


def test_saturation_makes_a_constant() -> None:
    """The weights of channel 2 are there, but its bias is beyond what they can reach."""
    h, first = producer(activation="relu")
    first.arrays["bias"][2] = -(2**17)
    y = tensor("y", 5, 4, 3)
    _, after = after_pass([h, y], first, weighted("conv2d", h, y, random_weights(2, 3, 3, 3, 4), padding=[1] * 4))
    assert channels_of(after, "h") == 3


@pytest.mark.parametrize(
    ("silent", "weight", "padding", "left"),
    [
        (0, "all", [1, 1, 1, 1], 3),  # the zero point itself: the border is no different
        (3000, "all", [1, 1, 1, 1], 4),
        (3000, "all", [0, 0, 0, 0], 3),
        (3000, "all", [0, 0, 1, 0], 4),
        (3000, "centre", [1, 1, 1, 1], 3),  # only the centre has a weight, and it is always inside
        (3000, "cancelling rows", [0, 1, 0, 1], 4),  # taps sum to 0 inside, but not at the border
    ],
)
def test_borders(silent: int, weight: str, padding: list[int], left: int) -> None:
    h, first = producer(silent={1: silent})
    w = random_weights(3, 3, 3, 3, 4)
    if weight == "centre":
        centre = w[:, 1, 1, 1].copy()
        w[..., 1] = 0
        w[:, 1, 1, 1] = centre
    elif weight == "cancelling rows":
        w[..., 1] = np.array([-1, 2, -1])
    size = [X.shape[k] + padding[k] + padding[k + 2] - 2 for k in (0, 1)]
    y = tensor("y", *size, 3)
    _, after = after_pass([h, y], first, weighted("conv2d", h, y, w, padding=padding))
    assert channels_of(after, "h") == left


def test_zero_padding_that_no_window_reaches_is_none() -> None:
    """Padding at the bottom that a stride of 2 steps over."""
    h, first = producer(silent={1: 3000})
    y = tensor("y", 2, 2, 3)
    node = weighted("conv2d", h, y, random_weights(3, 3, 2, 2, 4), stride=[3, 2], padding=[0, 0, 1, 0])
    _, after = after_pass([h, y], first, node)
    assert channels_of(after, "h") == 3


@pytest.mark.parametrize(("silent", "left"), [(0, 3), (3000, 4), (10**6, 3)])
def test_through_a_padded_depthwise_convolution(silent: int, left: int) -> None:
    """A constant that is not the zero point has another border, unless both saturate."""
    h, first = producer(silent={1: silent})
    d, y = tensor("d", 5, 4, 4), tensor("y", 5, 4, 2)
    depthwise = weighted("depthwise_conv2d", h, d, np.full((3, 3, 4), 9), [0, 3 if silent < 10**6 else 10**6, 0, 0])
    depthwise = replace(depthwise, attrs={**depthwise.attrs, "padding": [1] * 4})
    _, after = after_pass([h, d, y], first, depthwise, weighted("conv2d", d, y, random_weights(4, 2, 1, 1, 4)))
    assert channels_of(after, "h") == channels_of(after, "d") == left
    assert after.by_name["d"].arrays["weight"].shape == (3, 3, left)
    assert len(after.by_name["d"].weight_scale) == left


def test_a_depth_multiplier_goes_as_a_whole() -> None:
    h, first = producer(channels=2, silent={1: 0})
    for silent, left in (([3], 4), ([2, 3], 2)):
        d, y = tensor("d", 5, 4, 4), tensor("y", 5, 4, 2)
        weight = random_weights(5, 1, 1, 4)
        bias = np.array([7, 8, 2000, 3000])
        node = weighted("depthwise_conv2d", h, d, weight, bias)
        reader = random_weights(6, 2, 3, 3, 4)
        reader[..., silent] = 0
        before = graph_of([X, h, d, y], [X], [first, node, weighted("conv2d", d, y, reader, padding=[1] * 4)])
        after = dead_channels(before)
        assert assert_lossless(before, after)
        assert channels_of(after, "d") == left
        assert channels_of(after, "h") == left // 2


@pytest.mark.parametrize("pooled", [True, False])
def test_columns_of_a_dense_layer_behind_a_flatten(pooled: bool) -> None:
    h, first = producer(silent={0: 3000, 2: -2500})
    source = QTensor("p", (1, 1, 4), h.scale, h.zero_point) if pooled else h
    nodes = [first, build.global_avg_pool("p", h, source)] if pooled else [first]
    f, y = tensor("f", source.bytes), tensor("y", 3)
    nodes += [IntegerNode("f", "reshape", (source.name,), {"shape": [source.bytes]})]
    weight = random_weights(7, 3, source.bytes)
    nodes += [weighted("dense", f, y, weight, scale=0.002)]
    _, after = after_pass([h, source, f, y], *nodes)
    assert after.tensors["f"].shape == (source.bytes // 2,)
    assert after.by_name["f"].attrs["shape"] == [source.bytes // 2]
    np.testing.assert_array_equal(
        after.by_name["y"].arrays["weight"], weight.reshape(3, -1, 4)[..., [1, 3]].reshape(3, -1)
    )
    assert after.by_name["y"].weight_scale == nodes[-1].weight_scale


@pytest.mark.parametrize(("second", "left"), [({1: -900}, 3), ({2: -900}, 4), ({}, 4)])
def test_a_sum_ties_the_channels_of_both_inputs(second: dict[int, int], left: int) -> None:
    h, first = producer(silent={1: 3000})
    k = tensor("k", 5, 4, 4)
    other = replace(producer(silent=second)[1], name="k")
    s, y = tensor("s", 5, 4, 4), tensor("y", 5, 4, 2)
    total = build.add("s", h, k, s)
    _, after = after_pass([h, k, s, y], first, other, total, weighted("conv2d", s, y, random_weights(8, 2, 1, 1, 4)))
    assert {channels_of(after, v) for v in "hks"} == {left}


def test_a_product_with_zero_is_constant() -> None:
    """A gate of which one channel is shut."""
    h, first = producer()
    g = tensor("g", 1, 1, 4)
    gate = weighted("conv2d", tensor("p", 1, 1, 4), g, random_weights(9, 4, 1, 1, 4), [0, 0, -(2**20), 0])
    gate = replace(gate, clamp=(-5, 127))  # relu
    pooled = build.global_avg_pool("p", h, tensor("p", 1, 1, 4))
    m, y = tensor("m", 5, 4, 4), tensor("y", 5, 4, 2)
    nodes = [first, pooled, gate, build.multiply("m", h, g, m)]
    nodes += [weighted("conv2d", m, y, random_weights(4, 2, 3, 3, 4), padding=[1] * 4)]
    before, after = after_pass([h, tensor("p", 1, 1, 4), g, m, y], *nodes)
    assert constant(before, "m", 2) == m.zero_point
    assert channels_of(after, "m") == channels_of(after, "g") == 4  # the gate's own convolution reads h's channel 2
    nodes[2].arrays["weight"][..., 2] = 0
    _, after = after_pass([h, tensor("p", 1, 1, 4), g, m, y], *nodes)
    assert channels_of(after, "m") == channels_of(after, "g") == channels_of(after, "h") == 3


def test_unread_channels_go_whatever_they_hold_and_what_they_read_with_them() -> None:
    h, first = producer()
    k, y = tensor("k", 5, 4, 3), tensor("y", 5, 4, 2)
    middle, last = random_weights(10, 3, 1, 1, 4), random_weights(11, 2, 3, 3, 3)
    last[..., 1] = 0  # nothing reads channel 1 of k,
    middle[[0, 2], ..., 3] = 0  # which alone reads channel 3 of h
    nodes = [first, weighted("conv2d", h, k, middle), weighted("conv2d", k, y, last, padding=[1] * 4)]
    _, after = after_pass([h, k, y], *nodes)
    assert (channels_of(after, "h"), channels_of(after, "k")) == (3, 2)


def test_through_concat_and_slice_along_channels() -> None:
    h, first = producer(silent={1: 3000, 3: 200})
    c, s, y = tensor("c", 5, 4, 8), tensor("s", 5, 4, 4), tensor("y", 5, 4, 2)
    nodes = [first, IntegerNode("c", "concat", ("h", "h"), {"axis": 2})]
    nodes += [IntegerNode("s", "slice", ("c",), {"axis": 2, "start": 2, "stop": 6})]
    nodes += [weighted("conv2d", s, y, random_weights(12, 2, 1, 1, 4))]
    _, after = after_pass([h, c, s, y], *nodes)
    assert (channels_of(after, "h"), channels_of(after, "c"), channels_of(after, "s")) == (2, 4, 2)
    assert after.by_name["s"].attrs == {"axis": 2, "start": 1, "stop": 3}


@pytest.mark.parametrize(
    ("op", "attrs", "shape"),
    [
        ("max_pool2d", {"kernel": [2, 2], "stride": [2, 2], "padding": [1, 0, 0, 0]}, (3, 2)),
        ("avg_pool2d", {"kernel": [2, 2], "stride": [1, 1], "padding": [0, 0, 0, 0]}, (4, 3)),
        ("resize_nearest", {"size": [7, 8]}, (7, 8)),
        ("slice", {"axis": 0, "start": 1, "stop": 4}, (3, 4)),
    ],
)
def test_through_what_moves_pixels(op: str, attrs: dict[str, Any], shape: tuple[int, int]) -> None:
    h, first = producer(silent={2: 3000})
    m, y = tensor("m", *shape, 4), tensor("y", *shape, 2)
    last = weighted("conv2d", m, y, random_weights(13, 2, 1, 1, 4))
    _, after = after_pass([h, m, y], first, IntegerNode("m", op, ("h",), attrs), last)
    assert channels_of(after, "h") == channels_of(after, "m") == 3


def test_a_pad_around_a_constant_is_seen() -> None:
    for silent, left in ((0, 3), (3000, 4)):
        h, first = producer(silent={2: silent})
        p, y = tensor("p", 6, 4, 4), tensor("y", 6, 4, 2)
        pad = IntegerNode("p", "pad", ("h",), {"padding": [1, 0, 0, 0]})
        _, after = after_pass([h, p, y], first, pad, weighted("conv2d", p, y, random_weights(13, 2, 1, 1, 4)))
        assert channels_of(after, "p") == left


def test_inputs_outputs_groups_softmax_and_strangers_keep_their_channels() -> None:
    h, first = producer(silent={1: 0})
    before = graph_of([X, h], [X], [first])
    assert dead_channels(before) is before
    y = tensor("y", 5, 4, 4)
    grouped = weighted("conv2d", h, y, random_weights(1, 4, 1, 1, 2), groups=2)
    before = graph_of([X, h, y], [X], [first, grouped])
    assert dead_channels(before) is before
    p, z = QTensor("p", (5, 4, 4), 1 / 256, -128), tensor("z", 5, 4, 1)
    last = weighted("conv2d", p, z, random_weights(1, 1, 1, 1, 4))
    before = graph_of([X, h, p, z], [X], [first, build.softmax("p", h), last])
    assert dead_channels(before) is before
    before = graph_of([X, h, p, z], [X], [first, IntegerNode("p", "mystery", ("h",)), last])
    assert dead_channels(before) is before
    blind = random_weights(1, 4, 1, 1, 2)
    blind[..., 0] = 0  # the graph's own input is not thinned
    before = graph_of([X, h], [X], [weighted("conv2d", X, h, blind)])
    assert dead_channels(before) is before


def test_a_reshape_that_mixes_channels_keeps_them() -> None:
    """4 channels become 5: each new one holds something of every old one."""
    h, first = producer(silent={1: 0})
    f, y = tensor("f", 4, 4, 5), tensor("y", 4, 4, 2)
    nodes = [first, IntegerNode("f", "reshape", ("h",), {"shape": [4, 4, 5]})]
    before = graph_of([X, h, f, y], [X], [*nodes, weighted("conv2d", f, y, random_weights(1, 2, 1, 1, 5))])
    assert dead_channels(before) is before


def test_a_node_with_arrays_of_its_own_kind_is_left_alone() -> None:
    h, first = producer(silent={1: 0})
    y = tensor("y", 5, 4, 2)
    last = weighted("conv2d", h, y, random_weights(1, 2, 1, 1, 4))
    odd = replace(first, arrays={**first.arrays, "packed": np.zeros(3, np.int8)})
    before = graph_of([X, h, y], [X], [odd, last])
    assert dead_channels(before) is before


def test_one_channel_is_always_left() -> None:
    h, first = producer(silent={c: 500 * c for c in range(4)})
    y = tensor("y", 5, 4, 2)
    _, after = after_pass([h, y], first, weighted("conv2d", h, y, random_weights(14, 2, 1, 1, 4), [1, 2]))
    assert channels_of(after, "h") == 1


def test_biases_stay_within_32_bits() -> None:
    """A channel whose share would leave no room for the other products stays."""
    h, first = producer(silent={1: 3000})
    y = tensor("y", 5, 4, 1)
    weight = random_weights(15, 1, 1, 1, 4)
    room = 256 * int(np.abs(weight.astype(int)).sum())
    value = constant(graph_of([X, h], [X], [first]), "h", 1)
    share = abs((value - h.zero_point) * int(weight[0, 0, 0, 1]))
    for bias, left in ((INT32_MAX - room - share, 3), (INT32_MAX - room - share + 1, 4)):
        before = graph_of([X, h, y], [X], [first, weighted("conv2d", h, y, weight, [bias], scale=1e-7)])
        after = dead_channels(before)
        assert channels_of(after, "h") == left
        assert_lossless(before, after)


@pytest.mark.parametrize(("multiple", "left"), [(1, 5), (2, 6), (4, 8), (8, 8)])
def test_counts_can_be_kept_at_multiples(multiple: int, left: int) -> None:
    h, first = producer(channels=10, silent=dict.fromkeys(range(1, 10, 2), 0))
    y = tensor("y", 5, 4, 2)
    weight = random_weights(16, 2, 3, 3, 10)
    _, after = after_pass([h, y], first, weighted("conv2d", h, y, weight, padding=[1] * 4), multiple=multiple)
    assert channels_of(after, "h") == left
    assert dead_channels(after, multiple) is after


def test_a_multiple_is_filled_with_constants_before_channels_that_need_inputs() -> None:
    """Of h's dead channels 0 (unread) and 3 (constant), the constant one is kept."""
    h, first = producer(silent={3: 0})
    weight = random_weights(17, 2, 1, 1, 4)
    weight[..., 0] = 0
    y = tensor("y", 5, 4, 2)
    _, after = after_pass([h, y], first, weighted("conv2d", h, y, weight), multiple=3)
    assert channels_of(after, "h") == 3
    assert not after.by_name["h"].arrays["weight"][2].any()
