"""Pads into windows, activations into clamps, tables into tables: done where exact, left where not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_cases import Draw, graph_of, stimuli
from integer_pass_cases import assert_lossless, random_weights, weighted

from thumbnet.cost.probes import ProbeBuilder
from thumbnet.exporters.tflite import to_tflite
from thumbnet.integer import build
from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor
from thumbnet.integer.passes import depthwise_forms, fold_pad, fuse_clamps, fuse_tables, trim_windows, validate
from thumbnet.integer.passes.elementwise import STORED, table_of
from thumbnet.integer.passes.windows import kernel_of
from thumbnet.integer.simulate import run

SEEDS = st.integers(0, 2**32 - 1)
X = QTensor("x", (5, 4, 3), 0.05, 3)


def like(name: str, *shape: int, scale: float = 0.05, zero_point: int = 3) -> QTensor:
    return QTensor(name, shape, scale, zero_point)


def ops(ig: IntegerGraph) -> list[str]:
    return [n.op for n in ig.nodes]


# --- depthwise_forms


def test_a_depthwise_convolution_of_one_channel_is_a_convolution() -> None:
    x, y = like("x", 6, 5, 1), like("y", 3, 6, 7)
    node = weighted("depthwise_conv2d", x, y, random_weights(1, 3, 2, 7), range(7), stride=[2, 1], padding=[1, 1, 0, 1])
    before = graph_of([x, y], [x], [node])
    after = depthwise_forms(before)
    assert ops(after) == ["conv2d"]
    assert assert_lossless(before, after)


@pytest.mark.parametrize("multiplier", [1, 2])
def test_a_group_for_each_channel_is_depthwise(multiplier: int) -> None:
    x, y = like("x", 6, 5, 4), like("y", 4, 4, 4 * multiplier)
    node = weighted("conv2d", x, y, random_weights(1, 4 * multiplier, 3, 2, 1), groups=4)
    before = graph_of([x, y], [x], [node])
    after = depthwise_forms(before)
    assert ops(after) == ["depthwise_conv2d"]
    assert assert_lossless(before, after)


def test_other_convolutions_stay_what_they_are() -> None:
    x, y, z = like("x", 6, 5, 4), like("y", 4, 4, 8), like("z", 4, 4, 8)
    nodes = [
        weighted("conv2d", x, y, random_weights(1, 8, 3, 2, 2), groups=2),
        weighted("depthwise_conv2d", y, z, random_weights(1, 1, 1, 8)),
    ]
    before = graph_of([x, y, z], [x], nodes)
    assert depthwise_forms(before) is before


# --- fold_pad


def padded(padding: list[int], x: QTensor = X) -> tuple[QTensor, IntegerNode]:
    top, left, bottom, right = padding
    out = replace(x, name="p", shape=(x.shape[0] + top + bottom, x.shape[1] + left + right, x.shape[2]))
    return out, IntegerNode("p", "pad", (x.name,), {"padding": padding})


def window(op: str, p: QTensor, own: list[int], kernel: int = 3) -> tuple[QTensor, IntegerNode]:
    size = [p.shape[k] + own[k] + own[k + 2] - kernel + 1 for k in (0, 1)]
    y = like("y", *size, 2 if op == "conv2d" else 3)
    if op == "max_pool2d":
        y = replace(p, name="y", shape=y.shape)
        return y, build.pool("y", op, p, [kernel, kernel], [1, 1], own)
    if op == "conv2d":
        return y, weighted(op, p, y, random_weights(1, 2, kernel, kernel, 3), [3, 4], padding=own)
    return y, weighted(op, p, y, random_weights(1, kernel, kernel, 3), [3, 4, 5], padding=own)


def test_a_transposed_convolution_keeps_the_pad_before_it() -> None:
    """What it calls padding is cut off."""
    b = ProbeBuilder(0)
    b.conv_transpose2d(b.pad(b.input(3, 4, 2), (1, 0, 2, 1)), 3, (3, 3), (2, 2), (1, 1))
    ig = b.graph()
    assert fold_pad(ig) is ig


@pytest.mark.parametrize("op", ["conv2d", "depthwise_conv2d"])
@pytest.mark.parametrize("own", [[0] * 4, [1, 0, 2, 1]])
def test_convolutions_take_pads(op: str, own: list[int]) -> None:
    p, pad = padded([0, 1, 1, 2])
    y, node = window(op, p, own)
    before = graph_of([X, p, y], [X], [pad, node])
    after = fold_pad(before)
    assert ops(after) == [op]
    assert after.by_name["y"].attrs["padding"] == [a + b for a, b in zip([0, 1, 1, 2], own, strict=True)]
    assert assert_lossless(before, after)


@pytest.mark.parametrize(
    ("zero_point", "relu", "padding", "folds"),
    [
        (-128, False, [1, 1, 1, 1], True),
        (3, False, [1, 1, 1, 1], False),  # an image of low values shows its pad
        (3, True, [1, 1, 1, 1], True),  # no value is below the pad's
        (3, True, [3, 0, 0, 0], False),  # the first window sees only the pad
        (-128, False, [3, 0, 0, 0], True),
    ],
)
def test_max_pools_take_pads_that_cannot_win(zero_point: int, relu: bool, padding: list[int], folds: bool) -> None:
    h = like("h", 5, 4, 3, zero_point=zero_point)
    first = weighted("conv2d", X, h, random_weights(1, 3, 1, 1, 3), activation="relu" if relu else "none")
    p, pad = padded(padding, h)
    y, pool = window("max_pool2d", p, [0] * 4)
    before = graph_of([X, h, p, y], [X], [first, pad, pool])
    after = fold_pad(before)
    assert (ops(after) == ["conv2d", "max_pool2d"]) == folds
    assert assert_lossless(before, after)


def test_a_pad_stays_as_a_whole_where_one_reader_needs_it() -> None:
    p, pad = padded([1] * 4)
    y, node = window("conv2d", p, [0] * 4)
    a = like("a", 7, 6, 3, scale=0.1)
    before = replace(graph_of([X, p, y, a], [X], [pad, node, build.add("a", p, p, a)]), outputs=("y", "a"))
    assert fold_pad(before) is before
    before = replace(graph_of([X, p, y], [X], [pad, node]), outputs=("y", "p"))
    assert fold_pad(before) is before
    y2, node2 = replace(y, name="y2"), replace(node, name="y2")
    before = replace(graph_of([X, p, y, y2], [X], [pad, node, node2]), outputs=("y", "y2"))
    after = fold_pad(before)
    assert ops(after) == ["conv2d", "conv2d"]
    assert assert_lossless(before, after)


def test_a_pad_with_another_zero_point_than_its_input_stays() -> None:
    p, pad = padded([1] * 4)
    p = replace(p, zero_point=4)
    y, node = window("conv2d", p, [0] * 4)
    before = graph_of([X, p, y], [X], [pad, node])
    assert fold_pad(before) is before


# --- trim_windows


@pytest.mark.parametrize("op", ["conv2d", "depthwise_conv2d"])
@pytest.mark.parametrize(
    ("size", "kernel", "padding", "attrs", "left", "rest"),
    [
        ((2, 2), 5, [2] * 4, {}, 3, [1] * 4),
        ((1, 1), 3, [1] * 4, {}, 1, [0] * 4),
        ((2, 2), 3, [1] * 4, {}, 3, [1] * 4),
        ((4, 4), 3, [4] * 4, {"dilation": [4, 4]}, 1, [0] * 4),
        ((1, 1), 3, [3] * 4, {"dilation": [2, 2]}, 1, [1] * 4),
        ((3, 3), 5, [2, 2, 0, 0], {"stride": [4, 4]}, 3, [0] * 4),  # one window, at (−2, −2)
    ],
)
def test_taps_beyond_the_image_go(
    op: str, size: Any, kernel: int, padding: list[int], attrs: dict[str, Any], left: int, rest: list[int]
) -> None:
    x = like("x", *size, 3)
    shape = (kernel, kernel, 3) if op == "depthwise_conv2d" else (3, kernel, kernel, 3)
    stride, dilation = attrs.get("stride", [1, 1]), attrs.get("dilation", [1, 1])
    out = [(size[k] + padding[k] + padding[k + 2] - dilation[k] * (kernel - 1) - 1) // stride[k] + 1 for k in (0, 1)]
    y = like("y", *out, 3)
    before = graph_of([x, y], [x], [weighted(op, x, y, random_weights(1, *shape), padding=padding, **attrs)])
    validate(before)
    after = trim_windows(before)
    assert assert_lossless(before, after)
    assert kernel_of(after.by_name["y"]) == (left, left)
    assert after.by_name["y"].attrs["padding"] == rest
    assert trim_windows(after) is after


@pytest.mark.parametrize(
    ("zero", "padding", "kernel", "rest"),
    [
        ((0,), [1] * 4, (2, 3), [0, 1, 1, 1]),
        ((2,), [1] * 4, (2, 3), [1, 1, 0, 1]),
        ((0, 2), [1] * 4, (1, 3), [0, 1, 0, 1]),
        ((0, 1, 2), [1] * 4, (1, 1), [0] * 4),
        ((1,), [1] * 4, (3, 3), [1] * 4),
        ((0, 2), [0] * 4, (3, 3), [0] * 4),  # without padding to give, the window would start elsewhere
    ],
)
def test_rows_of_taps_without_weights_go(zero: Any, padding: list[int], kernel: Any, rest: list[int]) -> None:
    weight = random_weights(1, 2, 3, 3, 3)
    weight[:, list(zero)] = 0
    y = like("y", 3 + 2 * padding[0], 2 + 2 * padding[1], 2)
    before = graph_of([X, y], [X], [weighted("conv2d", X, y, weight, [3, 4], padding=padding)])
    after = trim_windows(before)
    assert assert_lossless(before, after)
    assert kernel_of(after.by_name["y"]) == kernel
    assert after.by_name["y"].attrs["padding"] == rest


def test_depthwise_windows_shrink_only_to_sizes_with_fast_kernels() -> None:
    weight = random_weights(1, 3, 3, 3)
    weight[0] = 0
    y = like("y", 5, 4, 3)
    before = graph_of([X, y], [X], [weighted("depthwise_conv2d", X, y, weight, padding=[1] * 4)])
    assert trim_windows(before) is before


# --- fuse_clamps


def make(op: str, h: QTensor) -> tuple[list[QTensor], list[IntegerNode]]:
    """A node of that kind that writes h, and what it needs."""
    if op in ("add", "sub", "mul"):
        b = like("b", 5, 4, 3, scale=0.02)
        first = weighted("conv2d", X, b, random_weights(1, 3, 1, 1, 3))
        function = {"add": build.add, "sub": build.subtract, "mul": build.multiply}[op]
        return [b], [first, function("h", X, b, h)]
    if op == "conv2d":
        return [], [weighted(op, X, h, random_weights(1, 3, 1, 1, 3))]
    if op == "depthwise_conv2d":
        return [], [weighted(op, X, h, random_weights(1, 1, 1, 3))]
    if op == "dense":
        f = like("f", 60)
        return [f], [IntegerNode("f", "reshape", ("x",), {"shape": [60]}), weighted(op, f, h, random_weights(1, 4, 60))]
    return [], [build.pool("h", op, X, [2, 2], [1, 1], [0] * 4)]


SHAPES = {"dense": (4,), "max_pool2d": (4, 3, 3), "avg_pool2d": (4, 3, 3)}


@pytest.mark.parametrize("op", ["conv2d", "depthwise_conv2d", "dense", "add", "sub", "mul", "max_pool2d", "avg_pool2d"])
@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_activations_become_clamps(op: str, activation: str) -> None:
    h = like("h", *SHAPES.get(op, (5, 4, 3)))
    tensors, nodes = make(op, h)
    y = replace(h, name="y")
    before = graph_of([X, *tensors, h, y], [X], [*nodes, build.relu("y", h, y, activation=activation)])
    after = fuse_clamps(before)
    assert ops(after) == [n.op for n in nodes]
    assert after.nodes[-1].clamp == (3, 123 if activation == "relu6" else 127)
    assert assert_lossless(before, after)


def test_a_shift_of_the_zero_point_moves_into_the_producer() -> None:
    h = like("h", 5, 4, 3, zero_point=-128)
    y = like("y", 5, 4, 3, zero_point=-28)
    nodes = [weighted("conv2d", X, h, random_weights(1, 3, 1, 1, 3)), build.requantize("y", h, y)]
    before = graph_of([X, h, y], [X], nodes)
    after = fuse_clamps(before)
    assert after.tensors["y"].zero_point == -28
    assert after.by_name["y"].clamp == (-28, 127)
    assert assert_lossless(before, after)
    pool = build.pool("h", "max_pool2d", X, [1, 1], [1, 1], [0] * 4)  # a pool has no zero point to move
    before = graph_of([X, replace(h, zero_point=3), y], [X], [pool, build.requantize("y", replace(h, zero_point=3), y)])
    assert fuse_clamps(before) is before


def test_a_shift_that_would_leave_a_clamp_tflite_cannot_spell_stays() -> None:
    h, y = like("h", 5, 4, 3, zero_point=0), like("y", 5, 4, 3, zero_point=40)
    nodes = [weighted("conv2d", X, h, random_weights(1, 3, 1, 1, 3)), build.requantize("y", h, y)]
    before = graph_of([X, h, y], [X], nodes)
    assert fuse_clamps(before) is before
    odd = graph_of([X, h, y], [X], [replace(nodes[0], clamp=(-100, 90)), nodes[1]])
    after = fuse_clamps(odd)  # it could not be spelled before
    assert after.nodes[0].clamp == (-60, 127)
    assert not assert_lossless(odd, after)


@pytest.mark.parametrize("reason", ["scale", "nearly the same scale", "two readers", "output", "curve"])
def test_what_is_no_clamp_of_the_only_reader_stays(reason: str) -> None:
    """At nearly the same scale the table is a clamp, but one multiplier would stand for two scales."""
    scale = {"scale": 0.06, "nearly the same scale": 0.05 * (1 + 1e-6)}.get(reason, 0.05)
    h, y = like("h", 5, 4, 3), like("y", 5, 4, 3, scale=scale)
    nodes = [weighted("conv2d", X, h, random_weights(1, 3, 1, 1, 3)), build.relu("y", h, y)]
    tensors = [X, h, y]
    if reason == "curve":
        nodes[1] = build.lut("y", h, y, "hard_swish")
    if reason == "two readers":
        tensors.append(like("z", 5, 4, 3, scale=0.1))
        nodes.append(build.add("z", h, y, tensors[-1]))
    before = graph_of(tensors, [X], nodes)
    if reason == "output":
        before = replace(before, outputs=("y", "h"))
    assert fuse_clamps(before) is before


def test_only_values_that_occur_must_fit_the_clamp() -> None:
    """A table that is a relu up to 100, behind a convolution that reaches no further."""
    h, y = like("h", 5, 4, 3), like("y", 5, 4, 3)
    table = np.where(STORED > 100, 0, STORED.clip(min=3)).astype(np.int8)
    node = IntegerNode("y", "lut", ("h",), {"kind": "table"}, {"table": table})
    for weight, fused in ((1, True), (100, False)):
        first = weighted("conv2d", X, h, np.full((3, 1, 1, 3), weight))
        before = graph_of([X, h, y], [X], [replace(first, clamp=(-128, 126)), node])
        after = fuse_clamps(before)
        assert (ops(after) == ["conv2d"]) == fused
        assert_lossless(before, after)


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_whatever_is_fused_is_exact(seed: int) -> None:
    """Random tables behind a clamped convolution: shifts, clamps and near misses of both."""
    d = Draw(seed)
    h = d.tensor("h", (5, 4, 3), 0.05)
    y = d.tensor("y", (5, 4, 3), 0.05, d.choice(h.zero_point, None))
    low, high = sorted(d.integer(-128, 127) for _ in range(2))
    table = np.clip(STORED.astype(int) + y.zero_point - h.zero_point, low, high)
    if d.integer(0, 1):
        table[d.integer(0, 255)] += d.choice(-1, 1)
    first = weighted("conv2d", X, h, random_weights(seed % 1000, 3, 1, 1, 3), d.rng.integers(-9999, 9999, 3))
    first = replace(first, clamp=tuple(sorted(d.integer(-128, 127) for _ in range(2))))
    node = IntegerNode("y", "lut", ("h",), {"kind": "table"}, {"table": table.clip(-128, 127).astype(np.int8)})
    before = graph_of([X, h, y], [X], [first, node])
    assert_lossless(before, fuse_clamps(before), seed)


# --- fuse_tables


def all_values(ig: IntegerGraph) -> Any:
    return run(ig, STORED.reshape(1, 256))[ig.outputs[0]][0]


@given(SEEDS)
@settings(max_examples=150, deadline=None)
def test_two_elementwise_nodes_are_one_on_all_256_values(seed: int) -> None:
    d = Draw(seed)
    x = d.tensor("x", (256,), 0.05)
    tensors, nodes = [x], []
    for name in "ab":
        source, kind = tensors[-1], d.choice("sigmoid", "hard_swish", "leaky_relu", "quantize", "relu", "relu6")
        scale = source.scale * d.choice(1.0, 2.0, 10 ** d.rng.uniform(-1, 1))
        out = QTensor(name, (256,), 1 / 256, -128) if kind == "sigmoid" else d.tensor(name, (256,), scale)
        if kind == "quantize":
            nodes.append(build.requantize(name, source, out))
        elif kind.startswith("relu"):
            nodes.append(build.relu(name, source, out, activation=kind))
        else:
            nodes.append(build.lut(name, source, out, kind, alpha=0.2))
        tensors.append(out)
    before = graph_of(tensors, [x], nodes)
    after = fuse_tables(before)
    validate(after)
    np.testing.assert_array_equal(all_values(after), all_values(before))
    if "lut" in ops(before):
        assert len(after.nodes) == 1
    elif len(after.nodes) == 1:
        assert ops(after) == ["requantize"]
        assert assert_lossless(before, after)


def chain(*scales: float, zero_points: tuple[int, ...] = (0, 0, 0)) -> IntegerGraph:
    x, a, b = (QTensor(n, (256,), s, z) for n, s, z in zip("xab", scales, zero_points, strict=True))
    return graph_of([x, a, b], [x], [build.requantize("a", x, a), build.requantize("b", a, b)])


def test_two_requantizations_become_one_only_where_the_first_loses_nothing() -> None:
    finer = chain(0.05, 0.05, 0.1, zero_points=(10, 0, 5))
    assert ops(fuse_tables(chain(0.05, 0.05, 0.1, zero_points=(0, 0, 5)))) == ["requantize"]
    assert fuse_tables(finer) is finer  # the first saturates at 127 − 10
    coarse = chain(0.05, 0.17, 0.03)
    assert fuse_tables(coarse) is coarse


def test_a_table_that_others_read_stays() -> None:
    x, a, b = like("x", 4), like("a", 4), like("b", 4)
    nodes = [build.lut("a", x, a, "hard_swish"), build.lut("b", a, b, "leaky_relu", alpha=0.1)]
    ig = replace(graph_of([x, a, b], [x], nodes), outputs=("b", "a"))
    assert fuse_tables(ig) is ig


def test_bounds_decide_which_values_count() -> None:
    """x + 10 saturates above 117, which a relu6 before keeps out of reach."""
    x, h = QTensor("x", (1, 1, 2), 0.05, -128), QTensor("h", (1, 1, 2), 0.05, -128)
    a, b = QTensor("a", (1, 1, 2), 0.05, -118), QTensor("b", (1, 1, 2), 0.1, -128)
    tail = [build.requantize("a", h, a), build.requantize("b", a, b)]
    for activation, count in (("relu6", 2), ("relu", 3)):
        first = weighted("conv2d", x, h, random_weights(1, 2, 1, 1, 2), activation=activation)
        before = graph_of([x, h, a, b], [x], [first, *tail])
        after = fuse_tables(before)
        assert len(after.nodes) == count
        assert assert_lossless(before, after)


def test_tables_are_those_of_the_simulator() -> None:
    x, y = like("x", 256), like("y", 256, scale=0.08, zero_point=-9)
    node = build.relu("y", x, y)
    ig = graph_of([x, y], [x], [node])
    np.testing.assert_array_equal(table_of(ig, node), run(ig, STORED.reshape(1, 256))["y"][0])
    assert table_of(ig, weighted("dense", x, y, np.ones((256, 256)))) is None
    assert len(to_tflite(ig)) > 0
    assert stimuli(ig, 0)["x"].shape[1:] == (256,)
