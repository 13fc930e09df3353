"""The DSP kernels, on emulated cores, equal the integer simulator in every shape they are chosen for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_cases import at_zero_point

from thumbnet.cost.kernel import window_of
from thumbnet.cost.kernels import choose
from thumbnet.cost.memory import plan_arena
from thumbnet.cost.probes import ProbeBuilder
from thumbnet.cost.schedule import cascade, single
from thumbnet.errors import ModelError
from thumbnet.exporters.c import emit
from thumbnet.integer.graph import IntegerGraph
from thumbnet.targets import load_target

pytest.importorskip("unicorn", reason="the emulator is optional")
pytestmark = pytest.mark.emulation

from emulated import M4, assert_exact, used  # noqa: E402  # needs the emulator

NO_PADDING = (0, 0, 0, 0)


def convolution(ig: IntegerGraph) -> str:
    """The kernel for convolutions: one of two, by what the clamp leaves of the output."""
    node = ig.nodes[0]
    positive = node.clamp[0] >= ig.tensors[node.name].zero_point
    return "tn_conv2d_positive_dsp" if positive else "tn_conv2d_dsp"


POINTWISE = [  # height, width, in, out, stride
    (4, 5, 4, 8, (1, 1)), (3, 3, 12, 5, (1, 1)), (1, 1, 64, 33, (1, 1)), (5, 1, 8, 4, (1, 1)), (5, 4, 20, 6, (2, 2)),
    (7, 1, 4, 1, (2, 1)), (6, 7, 16, 3, (1, 3)), (1, 9, 28, 7, (1, 2)), (9, 9, 8, 48, (1, 1)),
]  # fmt: skip


@pytest.mark.parametrize("case", POINTWISE)
@pytest.mark.parametrize("clamp", [(-128, 127), (-20, 100)])
def test_pointwise(case, clamp, tmp_path: Path) -> None:
    h, w, c, o, stride = case
    b = ProbeBuilder(h * w + o)
    b.conv2d(b.input(h, w, c), o, (1, 1), stride, clamp=clamp)
    assert used(b.graph()) == [convolution(b.graph())]
    assert_exact(b.graph(), tmp_path)


WINDOWS = [  # shape, out, kernel, stride, padding, dilation
    ((8, 8, 4), 8, (3, 3), (1, 1), None, (1, 1)), ((9, 7, 3), 6, (3, 3), (2, 2), None, (1, 1)),
    ((6, 6, 1), 5, (5, 5), (1, 1), None, (1, 1)), ((7, 9, 8), 4, (3, 3), (2, 1), (0, 1, 2, 0), (1, 1)),
    ((9, 9, 4), 3, (3, 3), (1, 1), (2, 2, 2, 2), (2, 2)), ((5, 8, 6), 7, (2, 4), (1, 3), NO_PADDING, (1, 1)),
    ((3, 3, 5), 2, (3, 3), (1, 1), NO_PADDING, (1, 1)), ((4, 4, 10), 9, (1, 1), (1, 1), (1, 0, 0, 2), (1, 1)),
    ((4, 4, 3), 4, (1, 1), (1, 1), None, (1, 1)), ((3, 2, 4), 4, (5, 5), (1, 1), None, (1, 1)),
    ((13, 5, 1), 12, (10, 4), (2, 2), None, (1, 1)), ((7, 6, 7), 6, (1, 1), (1, 1), None, (1, 1)),
    ((9, 1, 6), 5, (3, 1), (1, 1), None, (1, 1)), ((1, 9, 5), 4, (1, 3), (1, 2), None, (1, 1)),
    ((6, 9, 2), 5, (3, 3), (1, 1), None, (3, 1)), ((8, 8, 3), 4, (2, 2), (3, 3), NO_PADDING, (1, 1)),
    ((4, 4, 2), 7, (3, 3), (1, 1), (3, 3, 3, 3), (1, 1)), ((5, 5, 4), 4, (1, 1), (2, 3), None, (1, 1)),
]  # fmt: skip


@pytest.mark.parametrize("case", WINDOWS)
@pytest.mark.parametrize("zero_point", [-128, 3])
def test_convolutions(case, zero_point, tmp_path: Path) -> None:
    shape, o, kernel, stride, padding, dilation = case
    b = ProbeBuilder(o)
    b.conv2d(b.input(*shape), o, kernel, stride, padding, dilation)
    ig = at_zero_point(b.graph(), zero_point)
    assert used(ig) == [convolution(ig)]
    assert_exact(ig, tmp_path)


@pytest.mark.parametrize("zero_point", [-128, 3])
def test_the_unrolled_loop_is_entered_everywhere(zero_point, tmp_path: Path) -> None:
    """Windows of 1 to 34 values, channels of every remainder of four."""
    b = ProbeBuilder(1)
    x = b.input(3 * 34)
    flat = []
    for values in range(1, 35):
        channels = 1 + values % 6
        y = b.conv2d(b.reshape(b.slice(x, 0, 0, 3 * values), 1, 3, values), channels)
        flat.append(b.reshape(y, 3 * channels))
    b.concat(*flat, axis=0)
    ig = at_zero_point(b.graph(), zero_point)
    assert used(ig).count(f"tn_conv2d{'_positive' * (zero_point == -128)}_dsp") == 34
    assert_exact(ig, tmp_path)


@pytest.mark.parametrize("zero_point", [-128, -1, 127])
def test_every_rounding(zero_point, tmp_path: Path) -> None:
    """All accumulators from -256 to 254 at shifts from 1 to 31 and multipliers at both ends, ties included."""
    b = ProbeBuilder(0)
    x = b.input(16, 16, 1)
    b.conv2d(x, 186)
    ig = at_zero_point(b.graph(), zero_point)
    a, k = ig.nodes[0].arrays, np.arange(186)
    a["weight"][:] = np.where(k < 93, 1, -2)[:, None, None, None]
    a["bias"][:] = 0
    a["shift"][:] = -1 - k % 31
    a["multiplier"][:] = np.choose(k // 31 % 3, [1 << 30, (1 << 31) - 1, 0x5A827999])
    a["multiplier"][-2:], a["shift"][-2:] = 0, (7, -31)
    ig = replace(ig, tensors={**ig.tensors, "input": replace(ig.tensors["input"], zero_point=0)})
    values = np.arange(-128, 128).astype(np.int8).reshape(1, 16, 16, 1)
    for i, limit in enumerate((31, 15)):
        a["shift"][:-2] = np.maximum(a["shift"][:-2], -limit)
        assert used(ig) == ["tn_conv2d_positive_dsp" if zero_point == -128 and limit == 15 else "tn_conv2d_dsp"]
        assert_exact(ig, tmp_path / str(i), samples=values)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (1, 2), (2, 1), (3, 1), (4, 2)])
@pytest.mark.parametrize("zero_point", [-128, 3])
def test_depthwise(kernel, stride, zero_point, tmp_path: Path) -> None:
    """Sizes and channels of every remainder, paddings of every kind, images smaller than the kernel."""
    b = ProbeBuilder(kernel)
    x = b.input(16 * 17 * 8)
    wide = (kernel - 1,) * 4
    shapes = [
        *((6, w, c, None) for w, c in ((5, 7), (6, 6), (7, 5), (8, 4), (11, 13))),
        *((h, 6, 9, None) for h in (1, 2, 5, 7)),
        *((5, w, 4, None) for w in (1, 2, 3)),
        (7, 9, 10, NO_PADDING), (6, 7, 5, (0, 1, 2, 0)), (5, 5, 6, (2, 2, 1, 2)), (2, 1, 4, wide), (3, 4, 8, wide),
        (16, 17, 8, None),
    ]  # fmt: skip
    names = []
    for i, (h, w, c, padding) in enumerate(shapes):
        if padding is NO_PADDING or padding is None or min(h, w) + padding[0] + padding[2] >= kernel:
            y = b.reshape(b.slice(x, 0, i, i + h * w * c) if i + h * w * c <= 2176 else x, h, w, c)
            y = b.depthwise_conv2d(y, (kernel, kernel), stride, padding, clamp=(-128, 127 - 90 * (i % 3 == 2)))
            names.append(b.reshape(y, int(np.prod(b.tensors[y].shape))))
    b.concat(*names, axis=0)
    ig = at_zero_point(b.graph(), zero_point)
    suffix = "_positive" * (zero_point == -128)
    assert used(ig).count(f"tn_depthwise_conv2d_k{kernel}s{stride[1]}{suffix}_dsp") == len(names)
    assert_exact(ig, tmp_path)


@pytest.mark.parametrize("zero_point", [-128, -1, 127])
@pytest.mark.parametrize("kernel", [3, 5])
def test_every_rounding_of_depthwise_layers(zero_point, kernel, tmp_path: Path) -> None:
    """All sums from -256 to 254 at shifts of all sizes and multipliers at both ends, ties included."""
    b = ProbeBuilder(0)
    b.depthwise_conv2d(b.reshape(b.slice(b.input(16 * 16 * 186), 0, 0, 16 * 16 * 186), 16, 16, 186), (kernel, kernel))
    ig = at_zero_point(b.graph(), zero_point)
    node, channel = ig.nodes[-1], np.arange(186)
    a = node.arrays
    a["weight"][:] = 0
    a["weight"][kernel // 2, kernel // 2] = np.where(channel < 93, 1, -2)
    a["bias"][:] = 0
    a["multiplier"][:] = np.choose(channel // 31 % 3, [1 << 30, (1 << 31) - 1, 0x5A827999])
    a["multiplier"][-1] = 0
    ig.tensors[node.inputs[0]].__dict__["zero_point"] = 0
    values = np.repeat(np.arange(-128, 128).astype(np.int8), 186).reshape(1, -1)
    for i, shifts in enumerate((1 + channel % 31, 5 + channel % 7)):
        a["shift"][:] = -shifts
        positive = "_positive" * (zero_point == -128 and i == 1)
        assert used(ig)[-1] == f"tn_depthwise_conv2d_k{kernel}s1{positive}_dsp"
        assert_exact(ig, tmp_path / str(i), samples=values)


@pytest.mark.parametrize("kernel", [3, 5])
def test_extreme_weights_of_depthwise_layers(kernel, tmp_path: Path) -> None:
    """All weights at -128 or 127, shifted as far as they go; and sums that no longer fit when shifted."""
    b = ProbeBuilder(0)
    b.depthwise_conv2d(b.input(6, 6, 4), (kernel, kernel))
    ig = at_zero_point(b.graph(), -128)
    a = ig.nodes[0].arrays
    a["weight"][:] = np.array([-128, 127, -128, 127])
    a["bias"][:] = 0
    a["shift"][:] = -5
    ig.tensors["input"].__dict__["zero_point"] = 0
    assert used(ig) == [f"tn_depthwise_conv2d_k{kernel}s1_positive_dsp"]
    assert_exact(ig, tmp_path / "fits")
    a["bias"][:] = 1 << 23
    assert used(ig) == [f"tn_depthwise_conv2d_k{kernel}s1_dsp"]
    assert_exact(ig, tmp_path / "sums")
    a["bias"][:], a["shift"][2] = 0, -12
    assert used(ig) == [f"tn_depthwise_conv2d_k{kernel}s1_dsp"]
    assert_exact(ig, tmp_path / "shifts")


def test_depthwise_layers_that_go_to_other_families(tmp_path: Path) -> None:
    """Fewer than four channels, gaps, other kernels, wide padding, several outputs per channel."""
    b = ProbeBuilder(2)
    x = b.input(6, 7, 4)
    outputs = [
        b.depthwise_conv2d(b.slice(x, 2, 0, 3)),
        b.depthwise_conv2d(x, dilation=(1, 2)),
        b.depthwise_conv2d(x, (3, 2)),
        b.depthwise_conv2d(x, padding=(1, 3, 1, 0)),
        b.depthwise_conv2d(x, multiplier=2),
        b.depthwise_conv2d(x, stride=(1, 3)),
    ]
    b.concat(*(b.reshape(y, int(np.prod(b.tensors[y].shape))) for y in outputs), axis=0)
    found = [f for f in used(b.graph()) if "depthwise" in f]
    assert found.count("tn_depthwise_conv2d") == 1  # the one with gaps
    assert sum(f.endswith("_v7m") for f in found) == len(outputs) - 1
    assert_exact(b.graph(), tmp_path)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 1 << 20),
    st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(4, 11)),
    st.sampled_from([3, 5]),
    st.tuples(st.integers(1, 3), st.integers(1, 2)),
    st.tuples(*[st.integers(0, 2)] * 4),
)
def test_depthwise_in_place(tmp_path: Path, seed, shape, kernel, stride, padding) -> None:
    """Shapes at random: the planner lets outputs overwrite inputs, and the result stays the simulator's."""
    b = ProbeBuilder(seed)
    x = b.conv2d(b.input(*shape), shape[2])
    if min(shape[0] + padding[0] + padding[2], shape[1] + padding[1] + padding[3]) < kernel:
        return
    b.conv2d(b.depthwise_conv2d(x, (kernel, kernel), stride, padding), 3)
    folder = tmp_path / f"{seed}-{abs(hash((shape, kernel, stride, padding)))}"
    assert_exact(at_zero_point(b.graph(), (-128, 5)[seed % 2]), folder)


@pytest.mark.parametrize("op", ["max_pool2d", "avg_pool2d"])
def test_pools(op, tmp_path: Path) -> None:
    """Channels of every remainder, padding, windows as wide as the image, an output over its input."""
    b = ProbeBuilder(3)
    x = b.input(16 * 16 * 7)
    cases = [  # height, width, channels, kernel, stride, padding
        (6, 7, 4, (2, 2), (2, 2), NO_PADDING), (5, 6, 5, (3, 3), (1, 2), (1, 1, 1, 1)),
        (7, 4, 6, (2, 4), (1, 1), NO_PADDING), (16, 16, 7, (16, 16), (1, 1), NO_PADDING),
        (3, 5, 9, (2, 3), (2, 1), (1, 0, 0, 2)), (1, 1, 8, (1, 1), (1, 1), NO_PADDING),
    ]  # fmt: skip
    names = []
    for i, (h, w, c, kernel, stride, padding) in enumerate(cases):
        y = b.lut(b.reshape(b.slice(x, 0, 0, h * w * c), h, w, c))
        y = b.pool(op, y, kernel, stride, padding)
        if i % 2:
            b.nodes[-1] = replace(b.nodes[-1], clamp=(-70, 60))
        names.append(b.reshape(y, int(np.prod(b.tensors[y].shape))))
    b.concat(*names, axis=0)
    assert used(b.graph()).count(f"tn_{op}_dsp") == len(cases)
    assert_exact(b.graph(), tmp_path)


def test_global_pools(tmp_path: Path) -> None:
    """Channels of every remainder, more pixels than one pass sums up."""
    b = ProbeBuilder(4)
    x = b.input(19 * 28 * 5)
    shapes = ((5, 7, 4), (1, 1, 6), (16, 16, 7), (19, 28, 5), (9, 4, 9))
    outputs = [b.global_avg_pool(b.reshape(b.slice(x, 0, 0, h * w * c), h, w, c)) for h, w, c in shapes]
    b.concat(*outputs, axis=2)
    assert used(b.graph()).count("tn_global_avg_pool_dsp") == len(shapes)
    assert_exact(b.graph(), tmp_path)


def test_pools_that_go_to_the_generic_kernel(tmp_path: Path) -> None:
    """Fewer than four channels; means of more taps than 16 bits hold."""
    b = ProbeBuilder(5)
    x = b.input(17, 17, 4)
    few = b.slice(x, 2, 0, 3)
    outputs = [b.pool("avg_pool2d", x, (17, 16), (1, 1)), b.pool("max_pool2d", few, (2, 2), (1, 1))]
    outputs += [b.pool("avg_pool2d", few, (2, 2), (2, 2)), b.global_avg_pool(few)]
    b.concat(*(b.reshape(y, int(np.prod(b.tensors[y].shape))) for y in outputs), axis=0)
    assert [f for f in used(b.graph()) if "pool" in f] == [
        "tn_avg_pool2d", "tn_max_pool2d", "tn_avg_pool2d", "tn_global_avg_pool",
    ]  # fmt: skip
    assert_exact(b.graph(), tmp_path)


def test_dense(tmp_path: Path) -> None:
    """Every way into the unrolled loop, outputs of every remainder of four."""
    b = ProbeBuilder(1)
    x = b.input(130)
    counts = (1, 4, 8, 9, 17, 23, 31, 32, 40, 64, 130)
    outputs = [b.dense(b.slice(x, 0, 0, n), f) for n in counts for f in (1, 2, 3, 4, 5, 10)]
    b.concat(*outputs, axis=0)
    assert used(b.graph()).count("tn_dense_dsp") == len(outputs)
    assert_exact(b.graph(), tmp_path)


def test_every_rounding_of_dense_layers(tmp_path: Path) -> None:
    """Accumulators of every size around the middle between two outputs: a weight of 1 and biases in steps."""
    b = ProbeBuilder(1)
    x = b.input(1)
    cases = [(shift, zero_point) for shift in (-1, -2, -9, -23) for zero_point in (-128, 0, 127)]
    outputs = [b.dense(x, 64) for _ in cases]
    b.concat(*outputs, axis=0)
    for node, (shift, zero_point) in zip(b.nodes, cases, strict=False):
        a = node.arrays
        a["weight"][:] = 1
        a["bias"][:] = np.arange(-32, 32) * min(1 << 17, max(1, 2 ** (-shift - 3))) + np.arange(64) % 3
        a["multiplier"][:], a["shift"][:] = 0x5A827999 if shift % 2 else 1 << 30, shift
        b.tensors[node.name] = replace(b.tensors[node.name], zero_point=zero_point)
    ig = b.graph()
    assert used(ig).count("tn_dense_dsp") == len(cases)
    assert_exact(ig, tmp_path, samples=np.arange(-128, 128, 17).astype(np.int8).reshape(-1, 1))


@pytest.mark.parametrize("size", [1, 4, 6, 7, 257])
@pytest.mark.parametrize("even", [False, True])
def test_sums(size, even, tmp_path: Path) -> None:
    """Either input may have the larger scale; both may be overwritten."""
    b = ProbeBuilder(size)
    x = b.input(size)
    y = b.add(b.lut(x), x, clamp=(-128, 100), even=even)
    b.add(b.lut(y), y, even=even)
    kernel = "tn_add_even_dsp" if even else "tn_add_dsp"
    assert used(b.graph()) == ["tn_lut", kernel, "tn_lut", kernel]
    assert_exact(b.graph(), tmp_path)


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("shift", [-18, -23, -1])
def test_sums_of_all_pairs(even, shift, tmp_path: Path) -> None:
    b = ProbeBuilder(shift + 40)
    x = b.input(2 << 16)
    b.add(b.slice(x, 0, 0, 1 << 16), b.slice(x, 0, 1 << 16, 2 << 16), even=even)
    b.nodes[-1].attrs["shifts"][2] = shift
    ig = b.graph()
    assert used(ig)[-1] == ("tn_add_even_dsp" if even else "tn_add_dsp")
    values = np.arange(-128, 128).astype(np.int8)
    pairs = np.concatenate([np.repeat(values, 256), np.tile(values, 256)])
    assert_exact(ig, tmp_path, target=load_target("stm32h743zi"), samples=pairs[None])


@pytest.mark.parametrize("op", ["add", "sub", "mul"])
@pytest.mark.parametrize("target", ["cortex-m0plus", "nrf52840"])
def test_a_second_input_of_one_pixel_repeats(op, target, tmp_path: Path) -> None:
    b = ProbeBuilder(3)
    x = b.input(3, 5, 7)
    pixel = b.reshape(b.global_avg_pool(x), 1, 1, 7)
    if op == "mul":
        b.mul(x, pixel, clamp=(-100, 90))
    else:
        b.add(x, pixel, op=op, clamp=(-100, 90))
    assert_exact(b.graph(), tmp_path, target=load_target(target))


def test_numbers_that_kernels_cannot_hold_are_refused(tmp_path: Path) -> None:
    b = ProbeBuilder(0)
    b.conv2d(b.input(1, 300, 1), 1, (1, 257), (1, 1), NO_PADDING)
    with pytest.raises(ModelError, match="kernel_w = 257; the C kernels hold 0 to 255"):
        emit(b.graph(), M4)


def test_extreme_weights_fill_the_lanes(tmp_path: Path) -> None:
    """All weights at ±127, sums just within the dual lane's limit."""
    b = ProbeBuilder(0)
    b.conv2d(b.input(2, 3, 512), 8)
    ig = b.graph()
    node = ig.nodes[0]
    node.arrays["weight"][:] = np.where(np.arange(512) % 3 == 0, -127, 127)
    node.arrays["weight"][1::2] *= -1
    node.arrays["bias"][:] = 0
    ig.tensors["input"].__dict__["zero_point"] = 0
    assert used(ig) == [convolution(ig)]
    assert_exact(ig, tmp_path)


def test_what_does_not_fit_the_lanes_goes_to_other_families(tmp_path: Path) -> None:
    """Weights of -128 in an upper lane, sums of 2^23, shifts to the left."""

    def probe(change) -> IntegerGraph:
        b = ProbeBuilder(1)
        b.conv2d(b.input(2, 2, 8), 4)
        change(b.nodes[0].arrays)
        return b.graph()

    def minus_128(a) -> None:
        a["weight"][:2, 0, 0, 0] = -1, -128

    def huge_bias(a) -> None:
        a["bias"][3] = 1 << 23

    def left_shift(a) -> None:
        a["shift"][2] = 1

    def small_multiplier(a) -> None:
        a["multiplier"][0] = (1 << 30) - 1

    def low_lane(a) -> None:
        a["weight"][2, 0, 0, :] = -128

    def full_lane(a) -> None:
        a["weight"][:2, 0, 0, 0] = 0, -128

    for i, change in enumerate((minus_128, huge_bias, small_multiplier, left_shift)):
        assert used(probe(change)) == ["tn_conv2d" if change is left_shift else "tn_conv2d_v7m"]
        assert_exact(probe(change), tmp_path / str(i))
    for i, change in enumerate((low_lane, full_lane)):
        assert used(probe(change)) == [convolution(probe(change))]
        assert_exact(probe(change), tmp_path / f"fits{i}")


def test_positive_outputs_that_one_step_does_not_round(tmp_path: Path) -> None:
    """Right shifts of 16 in the lower half of a lane, of 17 in the upper one, and sums too large to be scaled."""
    b = ProbeBuilder(1)
    b.conv2d(b.input(3, 3, 8), 4)
    ig = at_zero_point(b.graph(), -128)
    a = {k: v.copy() for k, v in ig.nodes[0].arrays.items()}
    for i, (key, channel, value, positive) in enumerate(
        (
            ("shift", 0, -15, True),
            ("shift", 1, -16, True),
            ("shift", 0, -16, False),
            ("shift", 1, -17, False),
            ("bias", 2, 1 << 22, False),
        )
    ):
        for k, v in a.items():
            ig.nodes[0].arrays[k][:] = v
        ig.nodes[0].arrays[key][channel] = value
        assert used(ig) == ["tn_conv2d_positive_dsp" if positive else "tn_conv2d_dsp"]
        assert_exact(ig, tmp_path / str(i))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 1 << 20),
    st.tuples(st.integers(5, 20), st.integers(3, 12), st.sampled_from([1, 3, 4, 8])),
    st.sampled_from([3, 5]),
    st.integers(1, 2),
    st.integers(1, 4),
)
def test_cascades_of_inverted_bottlenecks(tmp_path: Path, seed, shape, kernel, stride, rows) -> None:
    b = ProbeBuilder(seed)
    x = b.input(*shape)
    for s in (1, stride):
        y = b.conv2d(x, 4 + seed % 13, (3, 3) if s == 1 else (1, 1), clamp=(-128, 90))
        x = b.conv2d(b.depthwise_conv2d(y, (kernel, kernel), (s, s)), 1 + seed % 6)
    ig = b.graph()
    kernels = tuple(choose(node, ig, "dsp") for node in ig.nodes)
    units = (cascade(0, kernels, tuple(window_of(node, ig) for node in ig.nodes), rows),)
    assert_exact(ig, tmp_path / f"{seed}-{abs(hash((shape, kernel, stride, rows)))}", units)


def test_in_place_saves_memory_and_changes_nothing(tmp_path: Path) -> None:
    """An inverted bottleneck node by node: never more than its largest tensor and a little scratch."""
    b = ProbeBuilder(5)
    x = b.conv2d(b.input(10, 12, 8), 40)
    b.conv2d(b.depthwise_conv2d(x, (5, 5)), 8)
    ig = b.graph()
    units = tuple(single(step, choose(node, ig, "dsp")) for step, node in enumerate(ig.nodes))
    assert plan_arena(ig, "dsp", units).arena_bytes < 10 * 12 * 40 + 1600
    assert_exact(ig, tmp_path, units)


MOVES = {
    "pad": lambda b, x: b.pad(x, (1, 2, 1, 0)),
    "resize": lambda b, x: b.resize_nearest(x, (11, 9)),
    "max_pool": lambda b, x: b.pool("max_pool2d", x, (3, 3), (1, 1)),
    "avg_pool": lambda b, x: b.pool("avg_pool2d", x, (2, 3), (1, 1)),
    "rows": lambda b, x: b.slice(x, 0, 1, 4),
    "channels": lambda b, x: b.slice(x, 2, 9, 14),
    "concat of rows": lambda b, x: b.concat(b.lut(x), b.requantize(x), axis=0),
    "concat of channels": lambda b, x: b.concat(b.slice(x, 2, 0, 3), b.lut(x)),
}


@pytest.mark.parametrize("name", MOVES)
def test_moves_over_their_own_inputs(name: str, tmp_path: Path) -> None:
    """At the tightest places, where the planner finds nothing better."""
    b = ProbeBuilder(4)
    MOVES[name](b, b.lut(b.input(5, 6, 16)))
    ig = b.graph()
    result = ig.nodes[-1]
    inputs = sum(ig.tensors[v].bytes for v in result.inputs)
    assert plan_arena(ig, "dsp").arena_bytes < inputs + ig.tensors[result.name].bytes
    assert_exact(ig, tmp_path)


@pytest.mark.parametrize("name", ["stm32h743zi", "stm32u575zi"])
def test_other_cores_with_the_extension(name, tmp_path: Path) -> None:
    b = ProbeBuilder(6)
    x = b.conv2d(b.input(9, 9, 3), 8, (3, 3), (2, 2))
    x = b.conv2d(b.depthwise_conv2d(b.conv2d(x, 12), (5, 5)), 8)
    b.dense(b.reshape(b.depthwise_conv2d(x, (3, 3), (2, 2)), 72), 3)
    assert_exact(b.graph(), tmp_path, target=load_target(name))
