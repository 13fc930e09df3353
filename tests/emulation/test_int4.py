"""Weights of 4 bits on emulated cores: equal to the simulator in any shape, two to a byte, mixed with those of 8."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from firmware_networks import network
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_cases import at_zero_point
from training_cases import residual_network

import thumbnet
from thumbnet.cost import estimate
from thumbnet.cost.kernels import choose
from thumbnet.cost.probes import ProbeBuilder
from thumbnet.emulation.toolchain import build
from thumbnet.exporters.c import emit, write_firmware
from thumbnet.exporters.tflite import to_tflite
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.lower import lower
from thumbnet.integer.quantization import with_weight_bits
from thumbnet.targets import load_target

pytest.importorskip("unicorn", reason="the emulator is optional")
pytestmark = pytest.mark.emulation

from emulated import M3, M4, assert_exact, used  # noqa: E402  # needs the emulator

BITS = {"stem": 4, "expand": 8, "spatial": 4, "project": 4, "down": 8, "out": 4}
shapes = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@shapes
@given(
    st.integers(0, 1 << 20),
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 13)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 2), st.integers(1, 3)),
    st.tuples(*[st.integers(0, 2)] * 4),
    st.sampled_from([-128, 3]),
)
def test_convolutions_of_any_shape(tmp_path: Path, seed, shape, kernel, stride, padding, zero_point) -> None:
    """A pointwise layer, one with windows, a depthwise one and a dense one, one after the other."""
    b = ProbeBuilder(seed, bits=4)
    x = b.conv2d(b.input(*shape), 1 + seed % 9, clamp=(-128, 127 - seed % 2 * 20))
    h, w, _ = b.tensors[x].shape
    kernel = (min(kernel[0], h + padding[0] + padding[2]), min(kernel[1], w + padding[1] + padding[3]))
    x = b.conv2d(x, 4 + seed % 11, kernel, stride, padding)
    x = b.depthwise_conv2d(x, (3, 3), (1, 1 + seed % 2))
    b.dense(b.reshape(x, b.tensors[x].bytes), 1 + seed % 7)
    ig = at_zero_point(b.graph(), zero_point)
    assert all("_int4" in choose(n, ig, isa).called for isa in ("v7m", "dsp") for n in ig.nodes if n.op != "reshape")
    for target in (M3, M4):
        assert_exact(
            ig, tmp_path / f"{target.core.name}-{seed}-{abs(hash((shape, kernel, stride, padding)))}", None, target
        )


@pytest.mark.parametrize("zero_point", [-128, 3])
def test_the_unrolled_loops_are_entered_everywhere(zero_point, tmp_path: Path) -> None:
    """Windows of 1 to 34 values, channels of every remainder of four."""
    b = ProbeBuilder(1, bits=4)
    x = b.input(3 * 34)
    flat = []
    for values in range(1, 35):
        channels = 1 + values % 6
        y = b.conv2d(b.reshape(b.slice(x, 0, 0, 3 * values), 1, 3, values), channels)
        flat += [b.reshape(y, 3 * channels), b.dense(b.slice(x, 0, 0, values), channels)]
    b.concat(*flat, axis=0)
    ig = at_zero_point(b.graph(), zero_point)
    assert used(ig).count(f"tn_conv2d_int4{'_positive' * (zero_point == -128)}_dsp") == 34
    assert used(ig).count("tn_dense_int4_dsp") == 34
    assert_exact(ig, tmp_path)


@pytest.mark.parametrize("values", [512, 30])
@pytest.mark.parametrize("target", [M3, M4])
def test_extreme_weights(target, values, tmp_path: Path) -> None:
    """All weights at -8 or 7, sums at the edge of what four channels in a lane can hold; extreme inputs."""
    b = ProbeBuilder(0, bits=4)
    b.conv2d(b.input(2, 3, values), 8)
    ig = b.graph()
    arrays = ig.nodes[0].arrays
    arrays["weight"][:] = np.where(np.arange(values) % 3 == 0, -8, 7)
    arrays["weight"][1::2] = -8
    arrays["bias"][:] = 0
    ig = replace(ig, tensors={**ig.tensors, "input": replace(ig.tensors["input"], zero_point=0)})
    arrays["bias"][3::4] = (1 << 19) - 1 - 128 * 8 * values if values == 30 else 0
    assert used(ig)[0].startswith("tn_conv2d_int4")
    assert used(ig)[0].endswith("_dsp") == (values == 30)
    assert_exact(ig, tmp_path, None, target)


def test_what_does_not_fit_the_lanes_goes_to_the_generic_kernel(tmp_path: Path) -> None:
    def probe(change) -> IntegerGraph:
        b = ProbeBuilder(1, bits=4)
        b.conv2d(b.input(2, 2, 8), 4)
        change(b.nodes[0].arrays)
        return b.graph()

    def bias(channel: int, value: int):
        def change(arrays) -> None:
            arrays["bias"][:], arrays["bias"][channel] = 0, value

        return change

    def left_shift(arrays) -> None:
        arrays["shift"][2] = 1

    for i, change in enumerate((bias(3, 1 << 19), bias(2, -1 << 23), bias(1, 1 << 23), left_shift)):
        assert used(probe(change)) == ["tn_conv2d_int4"]
        assert_exact(probe(change), tmp_path / str(i))
    for i, change in enumerate((bias(3, 1 << 18), bias(2, -1 << 22), bias(1, 1 << 22))):
        assert used(probe(change))[0].endswith("_dsp")
        assert_exact(probe(change), tmp_path / f"fits{i}")


@pytest.mark.parametrize("board", ["cortex-m3", "nrf52840", "stm32u575zi"])
def test_flash_is_what_the_cost_model_says_to_the_byte(board: str, tmp_path: Path) -> None:
    """Constants exactly; code, instructions and RAM as of any other kernel."""
    ig, target = network("four_bits"), load_target(board)
    write_firmware(tmp_path, emit(ig, target))
    firmware = build(tmp_path, target)
    costs, sizes = estimate(ig, target), firmware.image.sizes
    assert costs.flash_bytes - costs.code_bytes == sizes.rodata
    assert costs.flash_bytes == pytest.approx(sizes.flash_bytes, rel=0.02)
    for node, layer in zip(ig.nodes, costs.layers, strict=True):
        if node.weight_bits == 4:
            assert layer.weight_bytes == -(-node.arrays["weight"].size // 2)


@pytest.mark.parametrize("target", ["cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m55"])
def test_a_mixed_network_compiles_from_its_file(target: str, tmp_path: Path) -> None:
    """Equal to TFLite Micro on the file; half the bytes for every layer with 4 bits."""
    values = ("x", *(n.name for n in residual_network().nodes))
    ranges = dict.fromkeys(values, (-2.0, 3.0))
    made = []
    for name, bits in (("mixed", BITS), ("eight", {})):
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(to_tflite(lower(with_weight_bits(residual_network(), bits), ranges)))
        made.append(thumbnet.compile(path, target, tmp_path / name, lossless=False))
    mixed, eight = made
    if mixed.proof is not None:  # the emulator of this core is installed
        assert mixed.proof.bit_exact
        assert mixed.proof.tflm_equal in (True, None)
    assert mixed.costs is not None
    assert eight.costs is not None
    assert {layer.name: layer.weight_bits for layer in mixed.costs.layers if layer.weight_bits} == BITS
    saved = sum(n.arrays["weight"].size // 2 for n in mixed.graph.nodes if n.weight_bits == 4)
    assert eight.costs.weight_bytes - mixed.costs.weight_bytes == saved
