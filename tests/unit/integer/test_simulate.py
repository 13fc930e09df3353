"""Every integer operation, and mixtures of them, against TFLM byte for byte."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_cases import Draw, assert_equals_tflm, graph_of

from thumbnet.errors import ModelError
from thumbnet.exporters.tflite import run_tflm, to_tflite
from thumbnet.integer import build
from thumbnet.integer.arithmetic import multiply_by_quantized_multiplier, quantize_multiplier
from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor
from thumbnet.integer.simulate import run, trace

pytest.importorskip("tflite_micro", reason="tflite-micro has wheels for Linux only")

SEEDS = st.integers(0, 2**32 - 1)
few = settings(max_examples=40, deadline=None)


def window(d: Draw, k: tuple[int, int], dilation: tuple[int, int] = (1, 1)) -> dict[str, list[int]]:
    padding = d.choice([0, 0, 0, 0], [k[0] // 2, k[1] // 2] * 2, [d.integer(0, 2) for _ in range(4)])
    return {"stride": [d.integer(1, 3), d.integer(1, 3)], "padding": padding, "dilation": list(dilation)}


def out_size(x: QTensor, k: tuple[int, int], a: dict[str, list[int]]) -> tuple[int, int]:
    return tuple(  # type: ignore[return-value]
        (x.shape[i] + a["padding"][i] + a["padding"][i + 2] - (a["dilation"][i] * (k[i] - 1) + 1)) // a["stride"][i] + 1
        for i in (0, 1)
    )


def fitting_output(d: Draw, x: QTensor, terms: int, shape: tuple[int, ...]) -> QTensor:
    """An output scale that leaves part of the values inside the range and saturates the rest."""
    return d.tensor("y", shape, x.scale * 70 * np.sqrt(terms) / 127 * d.rng.uniform(0.3, 3))


@given(SEEDS)
@few
def test_conv2d(seed: int) -> None:
    d = Draw(seed)
    k, groups = (d.integer(1, 4), d.integer(1, 3)), d.choice(1, 1, 2)
    per_group, outputs = d.integer(1, 6), groups * d.integer(1, 5)
    x = d.tensor("x", (d.integer(7, 11), d.integer(5, 9), per_group * groups))
    a = window(d, k, d.choice((1, 1), (1, 1), (2, 1), (1, 2)))
    y = fitting_output(d, x, k[0] * k[1] * per_group, (*out_size(x, k, a), outputs))
    bias = None if d.integer(0, 3) == 0 else d.bias(outputs, 50 * x.scale)
    activation = d.choice("none", "relu", "relu6")
    node = build.conv2d("y", x, y, d.weight(outputs, *k, per_group), bias, **a, groups=groups, activation=activation)
    assert_equals_tflm(graph_of([x, y], [x], [node]), seed)


@given(SEEDS)
@few
def test_depthwise_conv2d(seed: int) -> None:
    d = Draw(seed)
    k, repeat = (d.integer(1, 4), d.integer(1, 3)), d.choice(1, 1, 2, 3)
    x = d.tensor("x", (d.integer(7, 11), d.integer(5, 9), d.integer(1, 6)))
    outputs = x.shape[2] * repeat
    a = window(d, k, d.choice((1, 1), (1, 1), (2, 2)))
    y = fitting_output(d, x, k[0] * k[1], (*out_size(x, k, a), outputs))
    activation = d.choice("none", "relu", "relu6")
    node = build.depthwise_conv2d(
        "y", x, y, d.weight(*k, outputs), d.bias(outputs, 20 * x.scale), **a, activation=activation
    )
    assert_equals_tflm(graph_of([x, y], [x], [node]), seed)


@pytest.mark.parametrize("inputs", [1, 40, 1032, 1033, 3000])
def test_dense_beyond_the_exact_range_of_float32(inputs: int) -> None:
    """All weights at one sign and extreme inputs: sums reach 127 · 128 · inputs."""
    d = Draw(inputs)
    x, y = d.tensor("x", (inputs,), 0.01, 127), d.tensor("y", (5,), inputs * 0.02)
    weight = np.abs(d.weight(5, inputs)) + 2
    weight[1] *= -1
    weight[2] = weight.max()
    node = build.dense("y", x, y, weight, d.bias(5), activation="relu")
    assert len(set(node.arrays["multiplier"])) == 1
    assert_equals_tflm(graph_of([x, y], [x], [node]))


def test_dense_sums_that_float32_cannot_hold() -> None:
    """Large products that almost cancel: partial sums beyond 2^24, and an output that shows every unit of the sum."""
    rng, half = np.random.default_rng(0), 4000
    w = rng.integers(100, 128, half).astype(np.float32)
    w[0] = 127
    weight = np.concatenate([w, -w])[None] * np.float32(0.01)
    x, y = QTensor("x", (2 * half,), 0.5, 0), QTensor("y", (1,), 0.01, 0)
    graph = graph_of([x, y], [x], [build.dense("y", x, y, weight, None)])
    first = rng.integers(110, 128, (6, half))
    second = first.copy()
    second[:, 1] -= [0, 1, 0, 1, 0, 0]
    second[:, 2] += [0, 0, -1, -1, 1, 0]
    values = np.concatenate([first, second], axis=1).astype(np.int8)
    got = run(graph, values)["y"]
    np.testing.assert_array_equal(got, run_tflm(to_tflite(graph), values, isolated=False))
    assert len(np.unique(got)) > 2


def test_dense_forms_its_multiplier_in_float64() -> None:
    """Accumulators, set through the bias, at which a product of scales in float32 would give another output."""
    rng, chosen = np.random.default_rng(1), 0
    for _ in range(20):
        xs, ws, ys = (np.float32(v) for v in 10 ** rng.uniform([-3, -3, -2], [-2, -2, -1]))
        accumulators = np.arange(1, int(127 * ys / (xs * ws)))[: 1 << 21]
        exact = quantize_multiplier(float(xs) * float(ws) / float(ys))
        rounded = quantize_multiplier(float(xs * ws) / float(ys))
        a, b = (multiply_by_quantized_multiplier(accumulators, *m) for m in (exact, rounded))
        telling = accumulators[a != b][:50]
        if not len(telling):
            continue
        chosen += 1
        x, y = QTensor("x", (1,), float(xs), 0), QTensor("y", (len(telling),), float(ys), 0)
        weight = np.full((len(telling), 1), 127 * ws, np.float32)
        node = build.dense("y", x, y, weight, None)
        bias = {"bias": telling.astype(np.int32)}
        graph = graph_of([x, y], [x], [replace(node, arrays={**node.arrays, **bias})])
        zero = np.zeros((1, 1), np.int8)
        np.testing.assert_array_equal(run(graph, zero)["y"], run_tflm(to_tflite(graph), zero, isolated=False))
    assert chosen >= 2


@pytest.mark.parametrize("make", [build.add, build.subtract, build.multiply])
@pytest.mark.parametrize("seed", range(6))
def test_elementwise_on_every_pair_of_values(make: object, seed: int) -> None:
    d = Draw(seed)
    a = d.tensor("a", (256, 256, 1))
    b = d.tensor("b", (256, 256, 1), a.scale * 10 ** d.rng.uniform(-1, 1))
    peak = a.scale * b.scale * 128 if make is build.multiply else max(a.scale, b.scale)
    y = d.tensor("y", (256, 256, 1), peak * d.rng.uniform(0.5, 2))
    graph = graph_of([a, b, y], [a, b], [make("y", a, b, y)])  # type: ignore[operator]
    stored = np.arange(-128, 128).astype(np.int8)
    feeds = [np.broadcast_to(v, (1, 256, 256, 1)).copy() for v in (stored[:, None, None], stored[None, :, None])]
    got = run(graph, dict(zip("ab", feeds, strict=True)))["y"]
    np.testing.assert_array_equal(got, run_tflm(to_tflite(graph), feeds, isolated=False))


@given(SEEDS)
@few
def test_dense(seed: int) -> None:
    d = Draw(seed)
    x = d.tensor("x", (d.integer(1, 60),))
    y = fitting_output(d, x, x.shape[0], (d.integer(1, 12),))
    weight, bias = d.weight(y.shape[0], x.shape[0]), d.choice(None, d.bias(y.shape[0], 50 * x.scale))
    node = build.dense("y", x, y, weight, bias, activation=d.choice("none", "relu", "relu6"))
    assert_equals_tflm(graph_of([x, y], [x], [node]), seed)


@given(SEEDS, st.sampled_from([build.add, build.subtract, build.multiply]), st.booleans())
@few
def test_elementwise(seed: int, make: object, broadcast: bool) -> None:
    d = Draw(seed)
    a = d.tensor("a", (3, 4, 5))
    b = d.tensor("b", (1, 1, 5) if broadcast else (3, 4, 5), a.scale * 10 ** d.rng.uniform(-2, 2))
    peak = a.scale * b.scale * 128 if make is build.multiply else max(a.scale, b.scale)
    y = d.tensor("y", (3, 4, 5), peak * d.rng.uniform(0.3, 3))
    node = make("y", a, b, y, activation=d.choice("none", "relu", "relu6"))  # type: ignore[operator]
    assert_equals_tflm(graph_of([a, b, y], [a, b], [node]), seed)


@given(SEEDS, st.sampled_from(["max_pool2d", "avg_pool2d"]))
@few
def test_pools(seed: int, op: str) -> None:
    d = Draw(seed)
    k = (d.integer(1, 4), d.integer(1, 3))
    x = d.tensor("x", (d.integer(4, 9), d.integer(4, 9), d.integer(1, 5)))
    padding = [d.integer(0, n - 1) for n in k] + [d.integer(0, n - 1) for n in k] if op == "max_pool2d" else [0] * 4
    a = {"stride": [d.integer(1, 3), d.integer(1, 3)], "padding": padding, "dilation": [1, 1]}
    y = QTensor("y", (*out_size(x, k, a), x.shape[2]), x.scale, x.zero_point)
    node = build.pool("y", op, x, k, a["stride"], padding)
    assert_equals_tflm(graph_of([x, y], [x], [node]), seed)


@pytest.mark.parametrize(("size", "kernel", "stride"), [(7, 3, 2), (8, 3, 2), (6, 2, 1), (5, 3, 1), (9, 4, 3)])
def test_average_leaves_same_padding_out(size: int, kernel: int, stride: int) -> None:
    d = Draw(size)
    x = d.tensor("x", (size, size, 3))
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + kernel - size, 0)
    padding = [total // 2, total // 2, total - total // 2, total - total // 2]
    y = QTensor("y", (outputs, outputs, 3), x.scale, x.zero_point)
    node = build.pool("y", "avg_pool2d", x, (kernel, kernel), (stride, stride), padding)
    assert_equals_tflm(graph_of([x, y], [x], [node]))


@given(SEEDS, st.booleans())
@few
def test_global_avg_pool(seed: int, vector: bool) -> None:
    d = Draw(seed)
    x = d.tensor("x", (d.integer(1, 12), d.integer(1, 12), d.integer(1, 6)))
    y = d.tensor("y", (x.shape[2],) if vector else (1, 1, x.shape[2]), x.scale * d.rng.uniform(0.2, 2))
    assert_equals_tflm(graph_of([x, y], [x], [build.global_avg_pool("y", x, y)]), seed)


@given(SEEDS)
@few
def test_requantize_and_relus(seed: int) -> None:
    d = Draw(seed)
    x = d.tensor("x", (256,))
    y = d.tensor("y", (256,), x.scale * 10 ** d.rng.uniform(-1, 1))
    node = d.choice(build.requantize("y", x, y), build.relu("y", x, y), build.relu("y", x, y, activation="relu6"))
    graph = graph_of([x, y], [x], [node])
    assert_equals_tflm(graph, seed)


@pytest.mark.parametrize("up", [False, True])
def test_relu6_bounds_between_two_steps(up: bool) -> None:
    """Scales at which 6 / scale lies on the boundary between two steps, but only in float32: TFLM rounds it there."""
    scales = (6 / (np.arange(1, 254) + 0.5)).astype(np.float32)
    scales = np.nextafter(scales, np.float32(9)) if up else scales
    double = np.floor(6 / scales.astype(np.float64) + 0.5)
    single = np.floor((np.float32(6) / scales).astype(np.float64) + 0.5)
    telling = scales[double != single]
    assert len(telling) >= 5
    for scale in telling:
        x, y = (QTensor(n, (256,), float(scale), -128) for n in "xy")
        for node in (build.relu("y", x, y, activation="relu6"), build.add("y", x, x, y, activation="relu6")):
            assert_equals_tflm(graph_of([x, y], [x], [node]), random=0)


@pytest.mark.parametrize(
    ("before", "after"), [((3, 4), (6, 8)), ((5, 7), (10, 3)), ((4, 4), (9, 11)), ((1, 1), (5, 2))]
)
def test_resize_nearest(before: tuple[int, int], after: tuple[int, int]) -> None:
    x = Draw(1).tensor("x", (*before, 3))
    y = QTensor("y", (*after, 3), x.scale, x.zero_point)
    assert_equals_tflm(graph_of([x, y], [x], [IntegerNode("y", "resize_nearest", ("x",), {"size": list(after)})]))


def test_moves_of_bytes() -> None:
    """pad, slice on each axis, concat on each axis, reshape: in one chain."""
    x = Draw(2).tensor("x", (4, 5, 6), zero_point=-3)

    def like(name: str, *shape: int) -> QTensor:
        return QTensor(name, shape, x.scale, x.zero_point)

    tensors = [x, like("pad", 6, 8, 6), like("s0", 4, 8, 6), like("s1", 4, 5, 6), like("s2", 4, 5, 2)]
    tensors += [like("c0", 8, 5, 6), like("c1", 8, 10, 6), like("c2", 4, 5, 8), like("flat", 160)]
    nodes = [
        IntegerNode("pad", "pad", ("x",), {"padding": [0, 1, 2, 2]}),
        IntegerNode("s0", "slice", ("pad",), {"axis": 0, "start": 1, "stop": 5}),
        IntegerNode("s1", "slice", ("s0",), {"axis": 1, "start": 3, "stop": 8}),
        IntegerNode("s2", "slice", ("s1",), {"axis": 2, "start": 2, "stop": 4}),
        IntegerNode("c0", "concat", ("x", "s1"), {"axis": 0}),
        IntegerNode("c1", "concat", ("c0", "c0"), {"axis": 1}),
        IntegerNode("c2", "concat", ("s1", "s2"), {"axis": 2}),
        IntegerNode("flat", "reshape", ("c2",), {"shape": [160]}),
    ]
    graph = graph_of(tensors, [x], nodes)
    assert_equals_tflm(graph)
    assert_equals_tflm(IntegerGraph("c", graph.tensors, ("x",), graph.nodes, ("c1",)))


def small_graph() -> IntegerGraph:
    d = Draw(5)
    x, h, y = d.tensor("x", (9, 9, 3), 0.02), d.tensor("h", (9, 9, 4), 0.05), d.tensor("y", (4,), 0.03)
    conv = build.conv2d("h", x, h, d.weight(4, 3, 3, 3), d.bias(4, 0.5), padding=(1, 1, 1, 1), activation="relu")
    return graph_of([x, h, y], [x], [conv, build.global_avg_pool("y", h, y)])


def test_batches_of_any_size_give_the_same() -> None:
    graph = small_graph()
    x = np.random.default_rng(0).integers(-128, 128, (150, 9, 9, 3)).astype(np.int8)
    together = run(graph, x)["y"]
    np.testing.assert_array_equal(together, np.concatenate([run(graph, x[k : k + 1])["y"] for k in range(150)]))
    everything = trace(graph, x[:3])
    assert set(everything) == {"x", "h", "y"}
    np.testing.assert_array_equal(everything["x"], x[:3])
    np.testing.assert_array_equal(everything["y"], together[:3])


def test_no_samples_give_no_samples() -> None:
    assert run(small_graph(), np.zeros((0, 9, 9, 3), np.int8))["y"].shape == (0, 4)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((1, 9, 9, 4), np.int8), r"must be int8 \[N, 9, 9, 3\]"),
        (np.zeros((1, 9, 9, 3), np.uint8), "not uint8"),
        ({"z": np.zeros((1, 9, 9, 3), np.int8)}, "takes"),
    ],
)
def test_misfit_inputs_are_refused(inputs: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        run(small_graph(), inputs)  # type: ignore[arg-type]
