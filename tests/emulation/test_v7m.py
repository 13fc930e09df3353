"""The Armv7-M kernels, on the emulated Cortex-M3, equal the integer simulator in every shape they are chosen for."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_cases import DEPTHWISE, ROUNDED, WINDOWS, Parts, accumulators, at_zero_point, tight, with_accumulators

from thumbnet.cost.features_v7m import CONVOLUTIONS, FEATURES
from thumbnet.cost.kernel import window_of
from thumbnet.cost.kernels import choose
from thumbnet.cost.measured import measured
from thumbnet.cost.memory import plan_arena
from thumbnet.cost.probes import ProbeBuilder
from thumbnet.cost.schedule import cascade, single
from thumbnet.integer.graph import IntegerGraph

pytest.importorskip("unicorn", reason="the emulator is optional")
pytestmark = pytest.mark.emulation

import emulated  # noqa: E402

assert_exact = partial(emulated.assert_exact, target=emulated.M3)
Shape = tuple[int, int, int]


def functions(ig: IntegerGraph, op: str) -> set[str]:
    return {choose(node, ig, "v7m").function for node in ig.nodes if node.op == op}


def named(name: str, zero_point: int) -> str:
    """The kernel, by what the clamp leaves of the output."""
    return f"tn_{name}{'_positive' if zero_point == -128 else ''}_v7m"


@pytest.mark.parametrize("zero_point", [-128, 7])
@pytest.mark.parametrize("clamp", [(-128, 127), (-20, 100)])
def test_pointwise(zero_point: int, clamp: tuple[int, int], tmp_path: Path) -> None:
    """Pixels of every remainder of four, channels of every remainder of two."""
    parts = Parts(1, 9 * 9 * 8)
    for h, w, c, o, stride in (
        (4, 5, 4, 8, (1, 1)), (3, 3, 12, 5, (1, 1)), (1, 1, 64, 33, (1, 1)), (5, 1, 8, 4, (1, 1)),
        (5, 4, 20, 6, (2, 2)), (7, 1, 4, 1, (2, 1)), (6, 7, 15, 3, (1, 3)), (1, 9, 28, 7, (1, 2)),
        (9, 9, 8, 12, (1, 1)), (2, 7, 3, 2, (1, 1)), (1, 15, 5, 9, (1, 1)), (1, 2, 1, 1, (1, 1)),
    ):  # fmt: skip
        parts.keep(parts.b.conv2d(parts.part(h, w, c), o, (1, 1), stride, clamp=clamp))
    ig = at_zero_point(parts.graph(), zero_point)
    assert functions(ig, "conv2d") == {named("conv2d", -128 if clamp[0] >= zero_point else 0)}
    assert_exact(ig, tmp_path)


@pytest.mark.parametrize("zero_point", [-128, 7])
def test_windows(zero_point: int, tmp_path: Path) -> None:
    """Strides, gaps, borders on all sides."""
    parts = Parts(2, 2000)
    for shape, o, kernel, stride, padding, dilation in WINDOWS:
        parts.keep(parts.b.conv2d(parts.part(*shape), o, kernel, stride, padding, dilation))
    ig = at_zero_point(parts.graph(), zero_point)
    assert functions(ig, "conv2d") == {named("conv2d", zero_point)}
    assert_exact(ig, tmp_path)


def test_the_unrolled_loop_is_entered_everywhere(tmp_path: Path) -> None:
    """Windows of 1 to 18 values."""
    parts = Parts(1, 7 * 18)
    for values in range(1, 19):
        parts.keep(parts.b.conv2d(parts.part(1, 7, values), 1 + values % 3))
    assert_exact(parts.graph(), tmp_path)


def small_accumulators() -> np.ndarray:
    """Those that can be doubled."""
    sums = accumulators()
    return sums[:, np.abs(sums[0]) < 1 << 30]


@pytest.mark.parametrize("zero_point", [-128, -1, 127])
@pytest.mark.parametrize("name", ["conv2d", "depthwise_conv2d_any"])
def test_every_rounding(name: str, zero_point: int, tmp_path: Path) -> None:
    sums = small_accumulators()
    b = ProbeBuilder(0)
    x = b.input(1, 1, 1 if name == "conv2d" else sums.shape[1])
    if name == "conv2d":
        b.conv2d(x, sums.shape[1])
    else:
        b.depthwise_conv2d(x, (1, 1))
    ig = at_zero_point(b.graph(), zero_point)
    with_accumulators(ig.nodes[0], sums)
    assert functions(ig, ig.nodes[0].op) == {named(name, zero_point)}
    assert_exact(ig, tmp_path, samples=np.zeros((1, *ig.tensors["input"].shape), np.int8))


@pytest.mark.parametrize("zero_point", [-128, 7])
def test_depthwise(zero_point: int, tmp_path: Path) -> None:
    """Heights and widths odd and even, paddings of every kind, several strips, several outputs of each channel."""
    parts = Parts(3, 3200)
    more = [
        ((40, 40, 2), (3, 3), (1, 1), None),
        ((41, 37, 1), (5, 5), (2, 2), None),
        ((30, 50, 1), (4, 3), (5, 1), None),
    ]
    for shape, kernel, stride, padding in (*DEPTHWISE, *more):
        parts.keep(parts.b.depthwise_conv2d(parts.part(*shape), kernel, stride, padding))
        if shape[2] < 4:
            parts.keep(parts.b.depthwise_conv2d(parts.part(*shape), kernel, stride, padding, multiplier=3))
    ig = at_zero_point(parts.graph(), zero_point)
    expected = {named(f"depthwise_conv2d_{kind}", zero_point) for kind in ("k3", "any")}
    assert functions(ig, "depthwise_conv2d") == expected
    kernels = [choose(node, ig, "v7m") for node in ig.nodes]
    strips = [k.strip for node, k in zip(ig.nodes, kernels, strict=True) if k.strip < ig.tensors[node.name].shape[0]]
    assert len([s for s in strips if s]) > 3
    assert_exact(ig, tmp_path)


def test_largest_sums(tmp_path: Path) -> None:
    """Weights at ±127, inputs at both ends: sums just within their half of 64 bits, and one value more."""
    for values, kernel in ((258, "tn_conv2d_positive_v7m"), (259, "tn_conv2d")):
        b = ProbeBuilder(0)
        b.conv2d(b.input(2, 3, values), 6)
        ig = at_zero_point(b.graph(), -128)
        weight = ig.nodes[0].arrays["weight"]
        weight[:] = 127
        weight[:2] *= -1
        weight[2, 0, 0, ::2] *= -1
        assert functions(ig, "conv2d") == {kernel}
        x = np.where(np.random.default_rng(1).random((8, 2, 3, values)) < 0.5, -128, 127).astype(np.int8)
        x[0], x[1], x[2] = -128, 127, np.where(np.arange(values) % 2, -128, 127)
        x[3, 0], x[3, 1] = -128, 127
        assert_exact(ig, tmp_path / str(values), samples=x)


def test_what_does_not_meet_the_conditions_goes_to_the_generic_kernels(tmp_path: Path) -> None:
    """Left shifts, sums of 2^30, groups, gaps in depthwise convolutions."""
    for i in range(4):
        b = ProbeBuilder(i)
        x = b.input(6, 6, 8)
        if i == 3:
            b.depthwise_conv2d(x, dilation=(2, 2), padding=(2, 2, 2, 2))
        else:
            b.conv2d(x, 4, groups=1 + (i == 2))
        if i == 0:
            b.nodes[0].arrays["shift"][2] = 1
        if i == 1:
            b.nodes[0].arrays["bias"][3] = 1 << 30
        ig = b.graph()
        assert functions(ig, ig.nodes[0].op) == {f"tn_{ig.nodes[0].op}"}
        assert_exact(ig, tmp_path / str(i))


@pytest.mark.parametrize("clamp", [(-128, 127), (-20, 100)])
def test_dense(clamp: tuple[int, int], tmp_path: Path) -> None:
    """Every way into the unrolled loop, outputs of every remainder of four."""
    parts = Parts(1, 640)
    for count in (1, 2, 3, 4, 5, 6, 7, 8, 15, 64, 640):
        for features in (1, 2, 3, 4, 5, 10):
            parts.keep(parts.b.dense(parts.part(count), features, clamp))
    assert functions(parts.graph(), "dense") == {"tn_dense_v7m"}
    assert_exact(parts.graph(), tmp_path)


def test_largest_sums_of_dense_layers(tmp_path: Path) -> None:
    """Sums just within their half of 64 bits, and one value more."""
    for values, kernel in ((516, "tn_dense_v7m"), (517, "tn_dense")):
        b = ProbeBuilder(0)
        b.dense(b.input(values), 7)
        ig = b.graph()
        weight = ig.nodes[0].arrays["weight"]
        weight[:] = 127
        weight[:2] *= -1
        weight[2, ::2] *= -1
        assert functions(ig, "dense") == {kernel}
        x = np.where(np.random.default_rng(1).random((8, values)) < 0.5, -128, 127).astype(np.int8)
        x[0], x[1], x[2] = -128, 127, np.where(np.arange(values) % 2, -128, 127)
        assert_exact(ig, tmp_path / str(values), samples=x)


def test_every_rounding_of_dense_layers(tmp_path: Path) -> None:
    sums, parts, found = small_accumulators(), Parts(1, 1), []
    for multiplier in ROUNDED:
        for shift in (1, 2, 9, 31):
            found.append(sums[:, (sums[1] == multiplier) & (sums[2] == shift)])
            parts.keep(parts.b.dense(parts.part(1), found[-1].shape[1]))
    ig = at_zero_point(parts.graph(), -3)
    for node, some in zip((n for n in ig.nodes if n.op == "dense"), found, strict=True):
        with_accumulators(node, some)
    assert functions(ig, "dense") == {"tn_dense_v7m"}
    assert_exact(ig, tmp_path, samples=np.zeros((1, 1), np.int8))


@pytest.mark.parametrize("even", [False, True])
def test_sums_of_all_pairs_of_values(even: bool, tmp_path: Path) -> None:
    b, count = ProbeBuilder(3), 1 << 16
    x = b.input(2, count)
    b.add(*(b.reshape(b.slice(x, 0, i, i + 1), count) for i in (0, 1)), even=even)
    every = np.arange(-128, 128).astype(np.int8)
    assert functions(b.graph(), "add") == {"tn_add_even_v7m" if even else "tn_add_v7m"}
    assert_exact(b.graph(), tmp_path, samples=np.stack([np.repeat(every, 256), np.tile(every, 256)])[None])


@pytest.mark.parametrize("size", [1, 6, 257])
def test_sums_written_over_either_input(size: int, tmp_path: Path) -> None:
    b = ProbeBuilder(size)
    x = b.input(size)
    for even in (False, True):
        x = b.add(b.lut(x), x, clamp=(-128, 100), even=even)
        x = b.add(x, b.lut(x), even=even)
    assert_exact(b.graph(), tmp_path)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 1 << 20),
    st.tuples(st.integers(5, 20), st.integers(3, 12), st.sampled_from([1, 3, 4, 8])),
    st.sampled_from([3, 5]),
    st.integers(1, 2),
    st.integers(1, 5),
)
def test_cascades_of_inverted_bottlenecks(
    tmp_path: Path, seed: int, shape: Shape, kernel: int, stride: int, rows: int
) -> None:
    b = ProbeBuilder(seed)
    x = b.input(*shape)
    for s in (1, stride):
        y = b.conv2d(x, 4 + seed % 13, (3, 3) if s == 1 else (1, 1), clamp=(-128, 90))
        x = b.conv2d(b.depthwise_conv2d(y, (kernel, kernel), (s, s)), 1 + seed % 6)
    ig = b.graph()
    kernels = tuple(choose(node, ig, "v7m") for node in ig.nodes)
    assert all(k.function.endswith("_v7m") for k in kernels)
    units = (cascade(0, kernels, tuple(window_of(node, ig) for node in ig.nodes), rows),)
    assert_exact(ig, tmp_path / f"{seed}-{shape}-{kernel}-{stride}-{rows}", units)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1 << 30))
def test_results_are_written_over_inputs_as_near_as_is_said(tmp_path: Path, seed: int) -> None:
    rng, parts = np.random.default_rng(seed), Parts(seed, 4000)
    for _ in range(20):
        h, w, c = (int(n) for n in rng.integers(1, (30, 30, 5) if rng.random() < 0.3 else (10, 14, 20)))
        kernel = tuple(int(min(n, k)) for n, k in zip((h, w), rng.integers(1, 5, 2), strict=True))
        stride = tuple(int(s) for s in rng.integers(1, 4, 2))
        padding = None if rng.random() < 0.7 else tuple(int(rng.integers(0, k)) for k in (*kernel, *kernel))
        x = parts.part(h, w, c)
        if rng.random() < 0.5:
            parts.keep(parts.b.conv2d(x, int(rng.integers(1, 12)), kernel, stride, padding))
        else:
            parts.keep(parts.b.depthwise_conv2d(x, kernel, stride, padding))
    ig = parts.graph()
    assert_exact(ig, tmp_path / str(seed), plan=tight(ig, "v7m"))


def test_in_place_saves_memory_and_changes_nothing(tmp_path: Path) -> None:
    """An inverted bottleneck node by node: never more than its largest tensor and a little scratch."""
    b = ProbeBuilder(5)
    x = b.conv2d(b.input(10, 12, 8), 40)
    b.conv2d(b.depthwise_conv2d(x, (5, 5)), 8)
    ig = b.graph()
    units = tuple(single(step, choose(node, ig, "v7m")) for step, node in enumerate(ig.nodes))
    assert plan_arena(ig, "v7m", units).arena_bytes < 10 * 12 * 40 + 1700
    assert_exact(ig, tmp_path, units)


def test_all_kernels_were_measured() -> None:
    assert {*CONVOLUTIONS, *FEATURES} <= set(measured("cortex-m3").kernels)
