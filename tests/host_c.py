"""Emitted firmware, built as a library of this machine and run in an arena with guards."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from thumbnet.cost.memory import offsets, plan_arena
from thumbnet.cost.plan import ArenaPlan
from thumbnet.cost.schedule import Unit
from thumbnet.exporters.c import emit, write_firmware
from thumbnet.integer.graph import IntegerGraph
from thumbnet.targets import load_target

WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Wshadow", "-Werror"]
HOST = [shutil.which("cc")] if shutil.which("cc") else [sys.executable, "-m", "ziglang", "cc"]
M0 = load_target("rp2040")
GUARD = 64


def compiled(
    ig: IntegerGraph, folder: Path, units: tuple[Unit, ...] | None = None, plan: ArenaPlan | None = None
) -> ctypes.CDLL:
    write_firmware(folder, emit(ig, M0, plan=plan, units=units))
    sources = ["model.c", *(str(p.relative_to(folder)) for p in sorted((folder / "kernels").glob("*.c")))]
    command = [*HOST, "-std=c99", "-O1", *WARNINGS, "-fsanitize=undefined", "-fno-sanitize-recover", "-shared", "-fPIC"]
    subprocess.run([*command, "-o", "model.so", *sources], cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "model.so"))


def outputs(
    ig: IntegerGraph,
    folder: Path,
    x: np.ndarray,
    units: tuple[Unit, ...] | None = None,
    plan: ArenaPlan | None = None,
) -> np.ndarray:
    """Runs the compiled model on each sample, each time in an arena full of rubbish with guards around it."""
    plan = plan_arena(ig, "generic", units) if plan is None else plan
    place = offsets(ig, plan)
    library, size = compiled(ig, folder, units, plan), plan.arena_bytes
    space = np.zeros(size + 2 * GUARD + 16, np.int8)
    start = GUARD + -(space.ctypes.data + GUARD) % 16
    result = []
    for sample in x:
        space[:] = np.random.default_rng(1).integers(-128, 128, space.size)
        before = space.copy()
        arena = space[start : start + size]
        at = place[ig.inputs[0]]
        arena[at : at + sample.size] = sample.ravel()
        library.model_invoke(ctypes.c_void_p(arena.ctypes.data))
        at, shape = place[ig.outputs[0]], ig.tensors[ig.outputs[0]].shape
        result.append(arena[at : at + int(np.prod(shape))].reshape(shape).copy())
        assert np.array_equal(space[:start], before[:start])
        assert np.array_equal(space[start + size :], before[start + size :])
    return np.stack(result)
