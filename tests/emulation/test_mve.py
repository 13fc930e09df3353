"""The Helium kernels, on the emulated Cortex-M55, equal the integer simulator in every shape they are chosen for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_cases import (
    DEPTHWISE,
    NO_PADDING,
    ROUNDED,
    WINDOWS,
    Parts,
    accumulators,
    at_zero_point,
    tight,
    with_accumulators,
)

from thumbnet.cost import estimate
from thumbnet.cost.features_mve import CONVOLUTIONS, FEATURES
from thumbnet.cost.kernel import window_of
from thumbnet.cost.kernels import choose
from thumbnet.cost.measured import measured_sources, source_hash
from thumbnet.cost.memory import plan_arena
from thumbnet.cost.plan import ArenaPlan
from thumbnet.cost.probes import ProbeBuilder
from thumbnet.cost.schedule import Unit, cascade, single
from thumbnet.emulation import qemu
from thumbnet.emulation.toolchain import build
from thumbnet.emulation.verify import verify_firmware
from thumbnet.exporters.c import emit, write_firmware
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.simulate import run
from thumbnet.targets import load_target

pytestmark = [
    pytest.mark.emulation,
    pytest.mark.skipif(not qemu.available(), reason=f"{qemu.PROGRAM} is not installed"),
]

M55 = load_target("cortex-m55")
Shape = tuple[int, int, int]


def emulated(
    ig: IntegerGraph, folder: Path, units: tuple[Unit, ...] | None = None, plan: ArenaPlan | None = None
) -> qemu.QemuMachine:
    write_firmware(folder, emit(ig, M55, units=units, plan=plan))
    firmware = build(folder, M55, memory=qemu.memory_for(M55))
    return qemu.QemuMachine(firmware, ig.tensors[ig.inputs[0]].bytes, ig.tensors[ig.outputs[0]].bytes)


def assert_exact(
    ig: IntegerGraph,
    folder: Path,
    units: tuple[Unit, ...] | None = None,
    samples: np.ndarray | None = None,
    plan: ArenaPlan | None = None,
) -> None:
    """Random samples and the extremes, or `samples`, byte for byte."""
    shape = ig.tensors[ig.inputs[0]].shape
    x = np.random.default_rng(0).integers(-128, 128, (4, *shape)).astype(np.int8)
    x[1], x[2] = -128, 127
    x = x if samples is None else samples
    machine = emulated(ig, folder, units, plan)
    for sample, y in zip(x, run(ig, x)[ig.outputs[0]], strict=True):
        got = np.frombuffer(machine.run(sample.tobytes()).output, np.int8)
        assert np.array_equal(got, y.ravel())


def functions(ig: IntegerGraph, op: str) -> set[str]:
    return {choose(node, ig, "mve").function for node in ig.nodes if node.op == op}


def both_roundings(name: str) -> list[tuple[int, str]]:
    """Zero points of the output, and the kernel that each leads to."""
    return [(-128, f"tn_{name}_positive_mve"), (7, f"tn_{name}_mve")]


@pytest.mark.parametrize("clamp", [(-128, 127), (-20, 100)])
def test_dense(clamp: tuple[int, int], tmp_path: Path) -> None:
    """Inputs with every remainder of 16, odd and even numbers of blocks, outputs with every remainder of 4."""
    parts = Parts(1, 400)
    for count in (1, 2, 15, 16, 17, 31, 32, 33, 48, 50, 64, 79, 100, 128, 400):
        for features in (1, 2, 3, 4, 7):
            parts.keep(parts.b.dense(parts.part(count), features, clamp))
    assert functions(parts.graph(), "dense") == {"tn_dense_mve"}
    assert_exact(parts.graph(), tmp_path)


POINTWISE = [  # height, width, in, out, stride
    (4, 5, 20, 8, (1, 1)), (3, 3, 32, 5, (1, 1)), (1, 1, 64, 33, (1, 1)), (5, 1, 17, 4, (1, 1)), (5, 4, 48, 6, (2, 2)),
    (7, 1, 40, 1, (2, 1)), (6, 7, 31, 3, (1, 3)), (1, 9, 28, 7, (1, 2)), (9, 9, 24, 12, (1, 1)), (1, 2, 33, 2, (1, 1)),
    (2, 2, 160, 6, (1, 1)), (3, 8, 18, 8, (2, 1)),
]  # fmt: skip
NARROW = [  # shape, out, kernel, stride, padding, dilation
    ((9, 9, 16), 12, (1, 1), (1, 1), None, (1, 1)), ((5, 7, 8), 16, (1, 1), (1, 1), None, (1, 1)),
    ((4, 4, 1), 5, (1, 1), (1, 1), None, (1, 1)), ((1, 1, 13), 3, (1, 1), (1, 1), None, (1, 1)),
    ((6, 40, 3), 4, (1, 1), (1, 1), None, (1, 1)), ((9, 9, 16), 7, (1, 1), (2, 2), None, (1, 1)),
    ((6, 35, 5), 8, (1, 1), (1, 2), None, (1, 1)), ((4, 4, 10), 9, (1, 1), (1, 1), (1, 0, 0, 2), (1, 1)),
    ((5, 5, 4), 4, (1, 1), (2, 3), (0, 0, 3, 3), (1, 1)), ((8, 8, 1), 6, (3, 3), (1, 1), None, (1, 1)),
    ((9, 10, 1), 8, (3, 3), (2, 2), None, (1, 1)), ((9, 9, 1), 2, (3, 3), (1, 1), (2, 2, 2, 2), (2, 2)),
    ((8, 6, 4), 10, (2, 2), (1, 1), NO_PADDING, (1, 1)), ((3, 20, 2), 4, (1, 7), (1, 1), None, (1, 1)),
    ((20, 3, 3), 4, (5, 1), (2, 1), None, (1, 1)), ((2, 2, 1), 1, (4, 4), (1, 1), None, (1, 1)),
]  # fmt: skip


@pytest.mark.parametrize("zero_point", [-128, 7])
@pytest.mark.parametrize("clamp", [(-128, 127), (-20, 100)])
def test_pointwise(zero_point: int, clamp: tuple[int, int], tmp_path: Path) -> None:
    parts = Parts(1, 9 * 9 * 24)
    for h, w, c, o, stride in POINTWISE:
        parts.keep(parts.b.conv2d(parts.part(h, w, c), o, (1, 1), stride, clamp=clamp))
    ig = at_zero_point(parts.graph(), zero_point)
    assert functions(ig, "conv2d") == {"tn_conv2d_positive_mve" if zero_point == -128 else "tn_conv2d_mve"}
    assert_exact(ig, tmp_path)


@pytest.mark.parametrize("zero_point", [-128, 7])
@pytest.mark.parametrize("cases", [WINDOWS, NARROW])
def test_windows(zero_point: int, cases, tmp_path: Path) -> None:
    """Strides, gaps, borders on all sides; windows read in place and from copies."""
    parts = Parts(2, 2000)
    for shape, o, kernel, stride, padding, dilation in cases:
        parts.keep(parts.b.conv2d(parts.part(*shape), o, kernel, stride, padding, dilation))
    ig = at_zero_point(parts.graph(), zero_point)
    kinds = {"conv2d_narrow"} if cases is NARROW else {"conv2d", "conv2d_rows"}
    assert functions(ig, "conv2d") == {f"tn_{kind}{'_positive' if zero_point == -128 else ''}_mve" for kind in kinds}
    assert_exact(ig, tmp_path)


def test_windows_are_read_row_by_row_where_that_pays() -> None:
    def chosen(*shape: int, kernel: tuple[int, int]) -> str:
        b = ProbeBuilder(0)
        b.conv2d(b.input(*shape), 16, kernel)
        return choose(b.nodes[0], at_zero_point(b.graph(), 0), "mve").function

    assert chosen(32, 32, 16, kernel=(3, 3)) == "tn_conv2d_rows_mve"
    assert chosen(49, 10, 1, kernel=(10, 4)) == "tn_conv2d_mve"  # rows of 4 would fill 10 blocks, not 3
    assert chosen(4, 4, 16, kernel=(3, 3)) == "tn_conv2d_mve"  # mostly border


@pytest.mark.parametrize("zero_point", [-128, -1, 127])
@pytest.mark.parametrize("kind", ["conv2d", "conv2d_narrow", "depthwise_conv2d", "depthwise_conv2d_wide2"])
def test_every_rounding(kind: str, zero_point: int, tmp_path: Path) -> None:
    sums = accumulators()
    b = ProbeBuilder(0)
    if "depthwise" in kind:
        b.depthwise_conv2d(b.input(1, 1, sums.shape[1]), (5, 5) if "wide" in kind else (1, 1))
    else:
        b.conv2d(b.input(1, 1, 17 if kind == "conv2d" else 1), sums.shape[1])
    ig = at_zero_point(b.graph(), zero_point)
    with_accumulators(ig.nodes[0], sums)
    positive = "_positive" if zero_point == -128 and "wide" not in kind else ""
    assert functions(ig, ig.nodes[0].op) == {f"tn_{kind}{positive}_mve"}
    assert_exact(ig, tmp_path, samples=np.zeros((1, *ig.tensors["input"].shape), np.int8))


def test_no_shift_where_only_the_positive_matters(tmp_path: Path) -> None:
    """A shift of 0 rounds nothing: fine where negative products need no correction, not elsewhere."""
    for zero_point, name in both_roundings("conv2d"):
        b = ProbeBuilder(2)
        b.conv2d(b.input(2, 3, 20), 9)
        ig = at_zero_point(b.graph(), zero_point)
        ig.nodes[0].arrays["shift"][1::2] = 0
        ig.nodes[0].arrays["weight"][:] //= 64
        assert (functions(ig, "conv2d") == {name}) == (zero_point == -128)
        assert_exact(ig, tmp_path / str(zero_point))


def test_every_rounding_of_dense_layers(tmp_path: Path) -> None:
    everything, parts = accumulators(), Parts(1, 1)
    found = []
    for multiplier in ROUNDED:
        for shift in (1, 2, 9, 31):
            found.append(everything[:, (everything[1] == multiplier) & (everything[2] == shift)])
            parts.keep(parts.b.dense(parts.part(1), found[-1].shape[1]))
    ig = at_zero_point(parts.graph(), -3)
    for node, sums in zip((n for n in ig.nodes if n.op == "dense"), found, strict=True):
        with_accumulators(node, sums)
    assert functions(ig, "dense") == {"tn_dense_mve"}
    assert_exact(ig, tmp_path, samples=np.zeros((1, 1), np.int8))


WIDE = [  # shape, kernel, stride, padding, dilation
    ((7, 9, 8), (5, 5), (1, 1), None, (1, 1)), ((9, 8, 5), (5, 5), (2, 2), None, (1, 1)),
    ((8, 7, 13), (5, 4), (1, 3), (0, 3, 2, 1), (1, 1)), ((5, 5, 3), (5, 5), (1, 1), NO_PADDING, (1, 1)),
    ((8, 8, 9), (7, 7), (1, 1), None, (1, 1)), ((9, 10, 4), (6, 8), (3, 2), (5, 7, 0, 3), (1, 1)),
    ((12, 3, 6), (10, 3), (1, 1), (4, 1, 5, 1), (1, 1)), ((30, 1, 17), (20, 1), (1, 1), None, (1, 1)),
    ((40, 1, 9), (33, 1), (2, 1), NO_PADDING, (1, 1)), ((1, 30, 7), (1, 25), (1, 2), None, (1, 1)),
    ((8, 7, 8), (3, 3), (1, 1), (2, 2, 2, 2), (2, 2)), ((9, 9, 5), (3, 3), (2, 1), (3, 3, 2, 3), (3, 3)),
    ((6, 9, 4), (3, 2), (1, 1), (1, 0, 2, 3), (2, 4)), ((9, 5, 11), (2, 3), (1, 1), NO_PADDING, (5, 1)),
    ((20, 1, 3), (4, 1), (1, 1), (0, 0, 9, 0), (7, 1)),
]  # fmt: skip
GAPS = [  # as WIDE, at most 16 bytes with the gaps
    ((7, 6, 8), (2, 2), (1, 1), (1, 0, 1, 2), (2, 3)), ((5, 9, 6), (1, 3), (1, 1), None, (1, 4)),
    ((9, 5, 3), (3, 1), (2, 2), (2, 0, 3, 0), (3, 1)), ((11, 1, 5), (4, 1), (1, 1), (3, 0, 3, 0), (3, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("cases", "functions_of_them"), [
    (WIDE, {"tn_depthwise_conv2d_wide2_mve", "tn_depthwise_conv2d_wide4_mve"}), (GAPS, {"tn_depthwise_conv2d_mve"}),
])  # fmt: skip
@pytest.mark.parametrize("clamp", [(-128, 127), (-7, 100)])
def test_depthwise_of_large_windows_and_with_gaps(cases, functions_of_them, clamp, tmp_path: Path) -> None:
    parts = Parts(3, 1000)
    for shape, kernel, stride, padding, dilation in cases:
        parts.keep(parts.b.depthwise_conv2d(parts.part(*shape), kernel, stride, padding, dilation, clamp=clamp))
    ig = at_zero_point(parts.graph(), -3)
    assert functions(ig, "depthwise_conv2d") == functions_of_them
    assert_exact(ig, tmp_path)


@pytest.mark.parametrize("zero_point", [-128, 7])
def test_depthwise(zero_point: int, tmp_path: Path) -> None:
    parts = Parts(3, 800)
    for shape, kernel, stride, padding in DEPTHWISE:
        parts.keep(parts.b.depthwise_conv2d(parts.part(*shape), kernel, stride, padding))
    ig = at_zero_point(parts.graph(), zero_point)
    name = "tn_depthwise_conv2d_positive_mve" if zero_point == -128 else "tn_depthwise_conv2d_mve"
    assert functions(ig, "depthwise_conv2d") == {name}
    assert_exact(ig, tmp_path)


def test_what_does_not_meet_the_conditions_goes_to_other_kernels(tmp_path: Path) -> None:
    """Left shifts, sums beyond 32 bits, groups, depthwise convolutions of many taps or several outputs an input."""
    for i in range(5):
        b = ProbeBuilder(i)
        x = b.input(6, 6, 8)
        if i < 2:
            b.conv2d(x, 4)
        elif i == 2:
            b.conv2d(x, 4, groups=2)
        elif i == 3:
            b.depthwise_conv2d(x, multiplier=2)
        else:
            b.depthwise_conv2d(x, (9, 9), padding=(4, 4, 4, 4))
        ig = b.graph()
        if i == 0:
            ig.nodes[0].arrays["shift"][2] = 1
        if i == 1:
            ig.nodes[0].arrays["bias"][3] = -(1 << 31) + 5
        (name,) = functions(ig, ig.nodes[0].op)
        assert not name.endswith("_mve")
        if i != 1:  # the simulator has more than 32 bits
            assert_exact(ig, tmp_path / str(i))


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("zero_point", [-128, 5])
def test_sums_of_all_pairs_of_values(even: bool, zero_point: int, tmp_path: Path) -> None:
    b = ProbeBuilder(3)
    x = b.input(256, 257)
    b.add(b.reshape(b.slice(x, 1, 0, 256), 1 << 16), b.reshape(b.slice(x, 1, 1, 257), 1 << 16), even=even)
    ig = at_zero_point(b.graph(), zero_point)
    values = np.empty((1, 256, 257), np.int8)
    values[0] = (
        (np.arange(256)[:, None] * 0 + np.arange(257) * np.arange(1, 512, 2)[:256, None]).astype(np.uint8).view(np.int8)
    )
    assert functions(ig, "add") == {"tn_add_positive_mve" if zero_point == -128 else "tn_add_mve"}
    assert_exact(ig, tmp_path, samples=values)


@pytest.mark.parametrize("size", [1, 4, 6, 7, 257])
def test_sums(size: int, tmp_path: Path) -> None:
    """Either input may have the larger scale; both may be overwritten."""
    b = ProbeBuilder(size)
    x = b.input(size)
    for even in (False, True):
        x = b.add(b.lut(x), x, clamp=(-128, 100), even=even)
    assert functions(b.graph(), "lut") == {"tn_lut_mve"}
    assert_exact(b.graph(), tmp_path)


def test_products(tmp_path: Path) -> None:
    """Of tensors of the same shape, and with one pixel that repeats."""
    parts = Parts(4, 600)
    for h, w, c in ((3, 5, 7), (4, 4, 8), (2, 2, 5), (2, 3, 16)):
        x = parts.part(h, w, c)
        parts.keep(parts.b.mul(x, parts.b.lut(x), clamp=(-100, 90)))
        parts.keep(parts.b.mul(x, parts.b.global_avg_pool(x)))
    assert functions(parts.graph(), "mul") == {"tn_mul_mve"}
    assert functions(parts.graph(), "global_avg_pool") == {"tn_global_avg_pool_mve"}
    assert_exact(parts.graph(), tmp_path)


def test_pools(tmp_path: Path) -> None:
    """Windows of 1 to 255 taps, padding of every kind; averages round halves away from zero."""
    parts = Parts(6, 3000)
    for h, w, c, kernel, stride, padding in (
        (6, 7, 5, (2, 2), (2, 2), NO_PADDING), (7, 7, 17, (3, 3), (2, 2), (1, 1, 1, 1)),
        (5, 5, 8, (5, 5), (1, 1), NO_PADDING), (15, 17, 9, (15, 17), (1, 1), NO_PADDING),
        (6, 4, 33, (1, 1), (1, 1), NO_PADDING), (9, 1, 16, (3, 1), (1, 1), (1, 0, 1, 0)),
        (4, 6, 3, (3, 2), (1, 3), (2, 1, 0, 1)), (13, 2, 24, (13, 2), (13, 2), NO_PADDING),
        (7, 8, 4, (7, 1), (1, 1), NO_PADDING),
    ):  # fmt: skip
        for op in ("max_pool2d", "avg_pool2d"):
            parts.keep(parts.b.pool(op, parts.part(h, w, c), kernel, stride, padding))
    ig = parts.graph()
    assert functions(ig, "avg_pool2d") == {"tn_avg_pool2d_mve"}
    assert functions(ig, "max_pool2d") == {"tn_max_pool2d_mve"}
    assert_exact(ig, tmp_path)


@pytest.mark.parametrize("taps", [2, 3, 7, 64, 255])
def test_averages_of_every_sum(taps: int, tmp_path: Path) -> None:
    """Sums around every multiple of the number of taps and every half of it."""
    b = ProbeBuilder(0)
    count = 8 * 256
    b.pool("avg_pool2d", b.input(taps, 1, count), (taps, 1), (1, 1))
    values = np.zeros((1, taps, 1, count), np.int64)
    values += np.repeat(np.arange(-128, 128), 8)
    for i, extra in enumerate((0, taps // 2 - 1, taps // 2, taps // 2 + 1, -(taps // 2), (taps + 1) // 2, taps - 1, 1)):
        sign = 1 if extra >= 0 else -1
        values[0, : abs(extra), 0, i::8] += sign
    assert_exact(b.graph(), tmp_path, samples=np.clip(values, -128, 127).astype(np.int8))


def test_global_averages(tmp_path: Path) -> None:
    parts = Parts(5, 600 * 11)
    for pixels in (3, 49, 255, 256, 600):
        parts.keep(parts.b.global_avg_pool(parts.part(pixels, 1, 11)))
    assert functions(parts.graph(), "global_avg_pool") == {"tn_global_avg_pool_mve"}
    assert_exact(parts.graph(), tmp_path)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 1 << 20),
    st.tuples(st.integers(5, 20), st.integers(3, 12), st.sampled_from([1, 3, 4, 8, 16, 20])),
    st.integers(1, 2),
    st.integers(1, 4),
)
def test_cascades_of_inverted_bottlenecks(tmp_path: Path, seed: int, shape: Shape, stride: int, rows: int) -> None:
    b = ProbeBuilder(seed)
    x = b.input(*shape)
    for s in (1, stride):
        y = b.conv2d(x, 4 + seed % 23, (3, 3) if s == 1 else (1, 1), clamp=(-128, 90))
        x = b.conv2d(b.depthwise_conv2d(y, (3, 3), (s, s)), 1 + seed % 6)
    ig = b.graph()
    kernels = tuple(choose(node, ig, "mve") for node in ig.nodes)
    assert all(k.function.endswith("_mve") for k in kernels)
    units = (cascade(0, kernels, tuple(window_of(node, ig) for node in ig.nodes), rows),)
    assert_exact(ig, tmp_path / f"{seed}-{shape}-{stride}-{rows}", units)


def bottlenecks() -> IntegerGraph:
    b = ProbeBuilder(5)
    x = b.conv2d(b.input(10, 12, 8), 40)
    b.conv2d(b.depthwise_conv2d(x), 20)
    return b.graph()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1 << 30))
def test_results_are_written_over_inputs_as_near_as_is_said(tmp_path: Path, seed: int) -> None:
    rng, parts = np.random.default_rng(seed), Parts(seed, 4000)
    for _ in range(20):
        h, w, c = (int(n) for n in rng.integers(1, (10, 14, 34)))
        kernel = tuple(int(min(n, k)) for n, k in zip((h, w), rng.integers(1, 5, 2), strict=True))
        stride = tuple(int(s) for s in rng.integers(1, 4, 2))
        padding = None if rng.random() < 0.7 else tuple(int(rng.integers(0, k)) for k in (*kernel, *kernel))
        x = parts.part(h, w, c)
        if rng.random() < 0.8:
            parts.keep(parts.b.conv2d(x, int(rng.integers(1, 40)), kernel, stride, padding))
        else:
            dilation = tuple(int(min(2, k)) for k in rng.integers(1, 4, 2))
            reach = tuple((k - 1) * d // 2 for k, d in zip(kernel, dilation, strict=True))
            parts.keep(parts.b.depthwise_conv2d(x, kernel, stride, (*reach, *reach), dilation))
    ig = parts.graph()
    assert_exact(ig, tmp_path / str(seed), plan=tight(ig, "mve"))


def test_in_place_saves_memory_and_changes_nothing(tmp_path: Path) -> None:
    """An inverted bottleneck node by node: never more than its largest tensor and a little scratch."""
    ig = bottlenecks()
    units = tuple(single(step, choose(node, ig, "mve")) for step, node in enumerate(ig.nodes))
    assert plan_arena(ig, "mve", units).arena_bytes < 10 * 12 * 40 + 1600
    assert_exact(ig, tmp_path, units)


def test_verify_runs_the_emulator_that_has_the_core(tmp_path: Path) -> None:
    ig = bottlenecks()
    write_firmware(tmp_path, emit(ig, M55))
    images = np.random.default_rng(1).integers(-128, 128, (2, 10, 12, 8)).astype(np.int8)
    proof = verify_firmware(tmp_path, ig, M55, images)
    assert proof.bit_exact
    assert proof.emulator.startswith("qemu ")
    costs = estimate(ig, M55)
    assert costs.instructions == pytest.approx(proof.instructions, rel=0.05)
    assert costs.flash_bytes == pytest.approx(proof.flash_bytes, rel=0.02)
    assert costs.ram_bytes == pytest.approx(proof.ram_bytes, rel=0.02, abs=32)


def test_kernels_were_measured_as_they_are() -> None:
    """Whoever changes a kernel of these runs benchmarks/fit_latency_mve.py."""
    assert measured_sources(helium=True) == source_hash(helium=True)
    from thumbnet.cost.measured import measured

    assert {*CONVOLUTIONS, *FEATURES} <= set(measured("cortex-m55").kernels)
