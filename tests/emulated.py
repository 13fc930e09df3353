"""Firmware on emulated cores, next to the integer simulator: for the tests of kernels. Needs the emulator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from firmware_networks import samples as random_samples

from thumbnet.cost.kernels import choose
from thumbnet.cost.plan import ArenaPlan
from thumbnet.cost.schedule import Unit
from thumbnet.emulation.toolchain import build
from thumbnet.emulation.unicorn import UnicornMachine
from thumbnet.exporters.c import emit, write_firmware
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.simulate import run
from thumbnet.targets import load_target

M3 = load_target("cortex-m3")
M4 = load_target("nrf52840")


def assert_exact(
    ig: IntegerGraph,
    folder: Path,
    units: tuple[Unit, ...] | None = None,
    target=M4,
    samples: np.ndarray | None = None,
    plan: ArenaPlan | None = None,
) -> None:
    """Random samples and the extremes, or `samples`, byte for byte."""
    ig = replace(ig)  # schedules are kept per graph, and tests change theirs
    source, result = ig.tensors[ig.inputs[0]], ig.tensors[ig.outputs[0]]
    x = random_samples(ig) if samples is None else samples
    write_firmware(folder, emit(ig, target, units=units, plan=plan))
    machine = UnicornMachine(build(folder, target), source.bytes, result.bytes)
    expected = run(ig, x)[ig.outputs[0]]
    for sample, y in zip(x, expected, strict=True):
        got = np.frombuffer(machine.run(sample.tobytes()).output, np.int8)
        assert np.array_equal(got, y.ravel())


def used(ig: IntegerGraph, isa="dsp") -> list[str]:
    return [choose(node, ig, isa).function for node in ig.nodes]
