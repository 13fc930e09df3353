"""The bound of the stack in model.h."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from firmware_networks import CORES, NETWORKS, network, samples

from thumbnet.compiler import missing_emulator
from thumbnet.cost import estimate
from thumbnet.emulation.machines import machine_for
from thumbnet.emulation.toolchain import build
from thumbnet.exporters.c import emit, write_firmware
from thumbnet.targets import load_target

pytestmark = pytest.mark.emulation


BUILDS = [("zig", "speed"), ("zig", "size"), ("gcc", "speed"), ("gcc", "size")]


@pytest.mark.parametrize("core", CORES.values())
@pytest.mark.parametrize("name", NETWORKS)
def test_the_stack_stays_below_the_bound_and_no_input_changes_it(name: str, core: str, tmp_path: Path) -> None:
    ig, target = network(name), load_target(core)
    if missing_emulator(target):
        pytest.skip(missing_emulator(target))
    files = emit(ig, target, stack_bytes=estimate(ig, target).stack_bytes)
    write_firmware(tmp_path, files)
    stated = re.search(r"#define MODEL_STACK_BYTES (\d+) ", files["model.h"])
    assert stated is not None
    x = samples(ig)
    for compiler, optimize in BUILDS:
        if compiler == "gcc" and shutil.which("arm-none-eabi-gcc") is None:
            continue
        out = tmp_path / "build" / f"{compiler}-{optimize}.elf"
        firmware = build(tmp_path, target, out, compiler=compiler, optimize=optimize)
        machine, _ = machine_for(tmp_path, firmware, x[0].size, ig.tensors[ig.outputs[0]].bytes)
        depths = {machine.run(sample.tobytes()).stack_bytes for sample in x}
        assert len(depths) == 1
        assert int(stated[1]) / 2 < max(depths) <= int(stated[1])
