"""The emitted generic C on this machine, under the sanitizers and in several arenas at once: equal to the simulator."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from firmware_networks import NETWORKS, firmware, network, samples, sources_in

from thumbnet.cost.memory import plan_arena
from thumbnet.cost.plan import ArenaPlan
from thumbnet.cost.schedule import schedule
from thumbnet.integer.graph import IntegerGraph, IntegerNode
from thumbnet.integer.simulate import run

HOST = [shutil.which("cc")] if shutil.which("cc") else [sys.executable, "-m", "ziglang", "cc"]
GAP = 64

HARNESS = """
#include "model.h"
#include <sanitizer/asan_interface.h>
#include <stdio.h>
#include <string.h>

static int8_t arena[MODEL_ARENA_BYTES] MODEL_ALIGNED(16);

int main(void)
{
    static const int holes[][2] = {@HOLES@};
    int8_t input[MODEL_INPUT_BYTES];
    memset(arena, 85, sizeof arena);
    for (size_t i = 0; i < sizeof holes / sizeof holes[0]; i++) {
        __asan_poison_memory_region(arena + holes[i][0], (size_t)holes[i][1]);
    }
    while (fread(input, sizeof input, 1, stdin) == 1) {
        memcpy(model_input(arena), input, sizeof input);
        model_invoke(arena);
        fwrite(model_output(arena), MODEL_OUTPUT_BYTES, 1, stdout);
    }
    return 0;
}
"""


def apart(plan: ArenaPlan) -> tuple[ArenaPlan, list[tuple[int, int]]]:
    """The same buffers, none over another, and the holes between them, (start, bytes) each."""
    at, buffers, holes = GAP, [], [(0, GAP)]
    for b in plan.buffers:
        buffers.append(replace(b, offset=at))
        end = at + b.bytes
        at = (end + 2 * GAP) // GAP * GAP
        holes.append((end, at - end))
    return ArenaPlan(at, at, tuple(buffers), plan.aliases), holes


SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1"]
CANARIES = {  # what the sanitizers must stop
    "bounds": "int main(int n, char **v) { int a[2] = {1, 2}; (void)v; return a[n + 1]; }\n",
    "overflow": "int main(int n, char **v) { int a = 0x7fffffff; (void)v; return (a + n) & 1; }\n",
    "shift": "int main(int n, char **v) { (void)v; return (1 << (n + 31)) & 1; }\n",
}


@pytest.fixture(scope="module", params=["gcc", "clang"])
def sanitizing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A host compiler with both sanitizers, which do their work."""
    compiler, folder = shutil.which(request.param), tmp_path_factory.mktemp("canaries")
    if compiler is None:
        pytest.skip(f"{request.param} is not installed")
    for name, text in CANARIES.items():
        (folder / f"{name}.c").write_text(text)
        built = subprocess.run([compiler, *SANITIZERS, "-o", name, f"{name}.c"], cwd=folder, capture_output=True)
        if built.returncode != 0:
            pytest.skip(f"{request.param} has no sanitizers installed")
        assert subprocess.run([folder / name], capture_output=True).returncode != 0
    return [compiler, *SANITIZERS]


def wild(ig: IntegerGraph, seed: int) -> IntegerGraph:
    """The same layers with weights, biases, multipliers, shifts and zero points at the ends of what is allowed."""
    rng = np.random.default_rng(seed)
    tensors = {v: replace(t, zero_point=int(rng.choice([-128, 127]))) for v, t in ig.tensors.items()}
    for node in ig.nodes:
        if node.op in ("max_pool2d", "avg_pool2d", "pad", "reshape", "resize_nearest", "concat", "slice"):
            x = tensors[node.inputs[0]]
            tensors[node.name] = replace(tensors[node.name], zero_point=x.zero_point)
        if node.op == "softmax":
            tensors[node.name] = ig.tensors[node.name]
    return replace(ig, tensors=tensors, nodes=tuple(_wild(node, rng) for node in ig.nodes))


def _wild(node: IntegerNode, rng: np.random.Generator) -> IntegerNode:
    attrs, arrays = dict(node.attrs), dict(node.arrays)
    if "weight" in arrays:
        weight = rng.choice([-128, 127, -127], arrays["weight"].shape).astype(np.int8)
        channels = len(arrays["bias"])
        room = (1 << 31) - 1 - 2 * 255 * 128 * (weight.size // channels)
        bias = rng.choice([-room, room, 0, 1000], channels)
        same = node.op == "dense"
        multiplier = rng.choice([1 << 30, (1 << 31) - 1], 1 if same else channels)
        shift = rng.choice([-31, -24, -23, -10, -1, 0], 1 if same else channels)
        arrays = {"weight": weight, "bias": bias.astype(np.int32)}
        arrays |= {"multiplier": np.broadcast_to(multiplier, channels).astype(np.int32)}
        arrays |= {"shift": np.broadcast_to(shift, channels).astype(np.int32)}
    if node.op in ("mul", "requantize", "global_avg_pool"):
        attrs |= {"multiplier": (1 << 31) - 1, "shift": int(rng.choice([-31, -1, 0, 7]))}
    if node.op in ("add", "sub"):
        attrs |= {
            "multipliers": [1 << 30, (1 << 31) - 1, (1 << 31) - 1],
            "shifts": [0, -1, int(rng.choice([-31, 0, 2]))],
        }
    return replace(node, attrs=attrs, arrays=arrays)


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_sanitizers_find_nothing(sanitizing: list[str], name: str, extreme: bool, tmp_path: Path) -> None:
    """Every buffer lies between poisoned bytes, so that no kernel can read or write beside its own."""
    ig = wild(network(name), 1) if extreme else network(name)
    units = schedule(ig, "generic")
    plan, holes = apart(plan_arena(ig, "generic", units))
    folder = firmware(ig, "generic", tmp_path / "firmware", units=units, plan=plan)
    (folder / "main.c").write_text(HARNESS.replace("@HOLES@", ", ".join(f"{{{a}, {n}}}" for a, n in holes)))
    subprocess.run([*sanitizing, "-I.", "-o", "app", *map(str, sources_in(folder))], cwd=folder, check=True)
    x = samples(ig)
    done = subprocess.run([folder / "app"], input=x.tobytes(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == run(ig, x)[ig.outputs[0]].tobytes()


def test_two_arenas_at_once_give_the_same(tmp_path: Path) -> None:
    """Interleaved, and from two threads at the same time."""
    for name in ("mobile", "rows"):
        ig = network(name)
        folder = firmware(ig, "generic", tmp_path / name)
        (folder / "main.c").unlink()
        sources = [str(s) for s in sources_in(folder)]
        subprocess.run([*HOST, "-O1", "-shared", "-fPIC", "-o", "model.so", *sources], cwd=folder, check=True)
        library = ctypes.CDLL(str(folder / "model.so"))
        for function in ("model_input", "model_output"):
            getattr(library, function).restype = ctypes.c_void_p
        arenas = [_arena(plan_arena(ig, "generic").arena_bytes) for _ in range(2)]
        x = samples(ig)
        expected = run(ig, x)[ig.outputs[0]]
        for i in range(2):
            _put(library, arenas[i], x[i])
        for i in (1, 0):
            library.model_invoke(arenas[i])
        assert all(_get(library, arenas[i], expected[i]) for i in range(2))

        def often(i: int, library=library, arenas=arenas, x=x, expected=expected) -> bool:
            results = []
            for k in range(50):
                _put(library, arenas[i], x[(i + k) % 4])
                library.model_invoke(arenas[i])
                results.append(_get(library, arenas[i], expected[(i + k) % 4]))
            return all(results)

        with ThreadPoolExecutor(2) as pool:
            assert all(pool.map(often, range(2)))


WRAPPER = """
#define model_input @_input
#define model_output @_output
#define model_invoke @_invoke
#include "@/model.c"
#include "@/test_vector.h"
static int8_t arena[MODEL_ARENA_BYTES] MODEL_ALIGNED(16);
int run_@(void);
int run_@(void)
{
    memcpy(model_input(arena), test_vector_input, MODEL_INPUT_BYTES);
    model_invoke(arena);
    return memcmp(model_output(arena), test_vector_output, MODEL_OUTPUT_BYTES) != 0;
}
"""
BOTH = "int run_mobile(void), run_plumbing(void);\nint main(void) { return run_mobile() + run_plumbing(); }\n"


def test_two_networks_in_one_program(tmp_path: Path) -> None:
    """As docs/firmware.md says: renamed by the preprocessor, each kernel compiled once."""
    kernels: dict[str, Path] = {}
    for name in ("mobile", "plumbing"):
        firmware(network(name), "generic", tmp_path / name)
        (tmp_path / f"{name}.c").write_text(WRAPPER.replace("@", name))
        for source in sorted((tmp_path / name / "kernels").glob("*.c")):
            assert kernels.setdefault(source.name, source).read_bytes() == source.read_bytes()
    (tmp_path / "main.c").write_text(BOTH)
    sources = ["main.c", "mobile.c", "plumbing.c", *map(str, kernels.values())]
    subprocess.run([*HOST, "-std=c99", "-O1", "-Wall", "-Werror", "-o", "app", *sources], cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "app"]).returncode == 0


def _arena(size: int) -> ctypes.Array:
    class Arena(ctypes.Array):
        _type_, _length_ = ctypes.c_longdouble, size // 16 + 1  # aligned to 16 bytes

    return Arena()


def _put(library: ctypes.CDLL, arena: ctypes.Array, sample: np.ndarray) -> None:
    ctypes.memmove(library.model_input(arena), sample.tobytes(), sample.size)


def _get(library: ctypes.CDLL, arena: ctypes.Array, expected: np.ndarray) -> bool:
    return ctypes.string_at(library.model_output(arena), expected.size) == expected.tobytes()
