"""Every operation of the integer graph on an emulated core of each family: the simulator's bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from integer_op_cases import CASES, drawn, together

from thumbnet.cost import estimate
from thumbnet.cost.probes import ProbeBuilder
from thumbnet.emulation import qemu, unicorn
from thumbnet.emulation.board import Board
from thumbnet.emulation.machines import machine_for
from thumbnet.emulation.toolchain import build
from thumbnet.exporters.c import emit, write_firmware
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.simulate import run
from thumbnet.targets import load_target

pytestmark = pytest.mark.emulation
CORES = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m55")


def machine(ig: IntegerGraph, core: str, folder: Path) -> Board:
    emulator = qemu if core == "cortex-m55" else unicorn
    if not emulator.available():
        pytest.skip(f"no emulator of {core} is installed")
    target = load_target(core)
    write_firmware(folder, emit(ig, target))
    sizes = (ig.tensors[v].bytes for v in (ig.inputs[0], ig.outputs[0]))
    return machine_for(folder, build(folder, target), *sizes)[0]


@pytest.mark.parametrize("core", CORES)
def test_all_operations(core: str, tmp_path: Path) -> None:
    ig = together({f"{op}{seed}": drawn(op, seed) for op in CASES for seed in (2, 3, 4)})
    board = machine(ig, core, tmp_path)
    x = np.random.default_rng(0).integers(-128, 128, (3, *ig.tensors["all"].shape)).astype(np.int8)
    expected = run(ig, x)["y"]
    got = np.stack([np.frombuffer(board.run(sample.tobytes()).output, np.int8) for sample in x])
    at = 0
    for v in ig.nodes[-1].inputs:
        part = slice(at, at + ig.tensors[v].bytes)
        np.testing.assert_array_equal(got[:, part], expected[:, part], err_msg=v)
        at = part.stop


def u_net() -> IntegerGraph:
    """Down, up by transposed convolution and by interpolation, skips joined, a mask of one channel."""
    b = ProbeBuilder(3)
    a = b.conv2d(b.input(24, 20, 3), 8, (3, 3), clamp=(-128, 100))
    c = b.conv2d(b.pool("max_pool2d", a, (2, 2), (2, 2)), 16, (3, 3))
    d = b.conv2d(b.pool("max_pool2d", c, (2, 2), (2, 2)), 24, (3, 3))
    x = b.conv2d(b.concat(b.conv_transpose2d(d, 16, (2, 2), (2, 2)), c), 16, (3, 3), clamp=(-60, 127))
    x = b.concat(b.conv2d(b.resize("resize_bilinear", x, (24, 20), half_pixel_centers=True), 8), a)
    b.lut(b.conv2d(b.conv2d(x, 8, (3, 3)), 1))
    return b.graph()


@pytest.mark.parametrize("core", CORES)
def test_a_u_net_and_its_costs(core: str, tmp_path: Path) -> None:
    ig = u_net()
    x = np.random.default_rng(0).integers(-128, 128, (1, 24, 20, 3)).astype(np.int8)
    done = machine(ig, core, tmp_path).run(x.tobytes())
    assert np.array_equal(np.frombuffer(done.output, np.int8), run(ig, x)[ig.outputs[0]].ravel())
    if core == "cortex-m55":
        return  # the generic kernels were measured on cores without Helium
    costs = estimate(ig, load_target(core))
    assert costs.instructions == pytest.approx(done.instructions, rel=0.05)
    assert costs.stack_bytes == pytest.approx(done.stack_bytes, abs=64)
