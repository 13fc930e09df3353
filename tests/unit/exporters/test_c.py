"""The emitted C, compiled for the host, equals the integer simulator; it is warning-free and C++ can include it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from firmware_networks import NETWORKS, mobile, network, samples
from host_c import HOST, M0, WARNINGS, outputs
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from thumbnet.cost.kernel import window_of
from thumbnet.cost.kernels import choose
from thumbnet.cost.memory import offsets, plan_arena
from thumbnet.cost.probes import ProbeBuilder
from thumbnet.cost.schedule import cascade
from thumbnet.errors import ModelError
from thumbnet.exporters.c import emit, write_firmware
from thumbnet.exporters.c.spell import array, identifiers, struct
from thumbnet.integer.simulate import run
from thumbnet.targets import load_target

M4 = load_target("nrf52840")


@pytest.mark.parametrize("name", NETWORKS)
def test_host_equals_simulator(name: str, tmp_path: Path) -> None:
    ig = network(name)
    x = samples(ig)
    assert np.array_equal(outputs(ig, tmp_path, x), run(ig, x)[ig.outputs[0]])


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(119, "conv2d", (1, 3, 1), (1, 1), (1, 1), (1, 0, 2, 0))  # rows of windows that see padding alone
@given(
    st.integers(0, 1 << 20),
    st.sampled_from(["conv2d", "depthwise_conv2d"]),
    st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 7)),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(*[st.integers(0, 2)] * 4),
)
def test_convolutions_in_any_arena(tmp_path: Path, seed, op, shape, kernel, stride, padding) -> None:
    """Shapes at random: the planner lets outputs overwrite inputs, and the result stays the simulator's."""
    b = ProbeBuilder(seed)
    x = b.conv2d(b.input(*shape), 1 + seed % 9)
    h, w, _ = b.tensors[x].shape
    if h + padding[0] + padding[2] < kernel[0] or w + padding[1] + padding[3] < kernel[1]:
        return
    if op == "conv2d":
        x = b.conv2d(x, 1 + seed % 11, kernel, stride, padding)
    else:
        x = b.depthwise_conv2d(x, kernel, stride, padding, multiplier=1 + seed % 2)
    b.conv2d(x, 1 + seed % 7)
    ig = b.graph()
    folder = tmp_path / f"{seed}-{abs(hash((op, shape, kernel, stride, padding)))}"
    assert np.array_equal(outputs(ig, folder, samples(ig)), run(ig, samples(ig))[ig.outputs[0]])


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 1 << 20),
    st.tuples(st.integers(5, 14), st.integers(2, 9), st.integers(1, 5)),
    st.lists(st.tuples(st.booleans(), st.integers(1, 4), st.integers(1, 2), st.integers(1, 6)), min_size=2, max_size=4),
    st.integers(1, 4),
)
def test_cascades(tmp_path: Path, seed, shape, layers, rows) -> None:
    """Chains of any convolutions computed a few rows at a time, the output over the input's dead rows."""
    b = ProbeBuilder(seed)
    x = b.input(*shape)
    for depthwise, kernel, stride, channels in layers:
        clamp = (-128, 127) if channels % 2 else (-60, 80)
        if depthwise:
            x = b.depthwise_conv2d(x, (kernel, kernel), (stride, stride), clamp=clamp)
        else:
            x = b.conv2d(x, channels, (kernel, kernel), (stride, stride), clamp=clamp)
    ig = b.graph()
    kernels = tuple(choose(node, ig, "generic") for node in ig.nodes)
    units = (cascade(0, kernels, tuple(window_of(node, ig) for node in ig.nodes), rows),)
    folder = tmp_path / f"{seed}-{abs(hash((shape, tuple(layers), rows)))}"
    assert np.array_equal(outputs(ig, folder, samples(ig), units), run(ig, samples(ig))[ig.outputs[0]])


def test_emit_is_deterministic_and_cxx_can_include_it(tmp_path: Path) -> None:
    ig = mobile()
    contract = {"size": (17, 15), "channels": 3, "classes": ['say "no"', "b*/", "ç"]}
    table = np.tile(np.arange(-128, 128), (3, 1)).tolist()
    first = emit(ig, M4, preprocessing={**contract, "table": table})
    assert first == emit(ig, M4, preprocessing={**contract, "table": table})
    assert "pixel - 128" in first["model.h"]
    table[1][0] = -5
    general = emit(ig, M4, preprocessing={**contract, "table": table})
    assert "table[channel][pixel]" in general["model.h"]
    program = (
        '#include "model.h"\nint main() { return model_quantize_pixel(0, 1) + 5 + (model_class_name(1)[0] != 98); }\n'
    )
    write_firmware(tmp_path, {**general, "use.cpp": program})
    compiler = [shutil.which("c++")] if shutil.which("c++") else [sys.executable, "-m", "ziglang", "c++"]
    subprocess.run([*compiler, *WARNINGS, "-o", "use", "use.cpp"], cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "use"]).returncode == 0


def test_the_header_says_how_colours_become_grey() -> None:
    facts = {"size": (17, 15), "channels": 1, "mean": [0.5], "std": [0.5]}
    assert "19595 R + 38470 G + 7471 B" in emit(mobile(), M4, preprocessing={**facts, "grey": True})["model.h"]
    assert "19595" not in emit(mobile(), M4, preprocessing=facts)["model.h"]


def test_the_header_says_how_samples_that_are_no_pictures_are_stored() -> None:
    header = emit(mobile(), M4, preprocessing={"size": (17, 15), "channels": 3})["model.h"]
    assert "MODEL_INPUT_SCALE + MODEL_INPUT_ZERO_POINT, rounded" in header
    assert "pixel" not in header.split("How a sample becomes an input")[1]


def test_self_test_of_the_stub(tmp_path: Path) -> None:
    """main.c with the test vector returns 0, and 1 as soon as one byte differs."""
    ig = mobile()
    x = samples(ig)[:1]
    y = run(ig, x)[ig.outputs[0]]
    for wrong in (0, 1):
        folder = tmp_path / str(wrong)
        content = emit(ig, M0, test_vector=(x.tobytes(), (y ^ np.int8(wrong)).tobytes()))
        write_firmware(folder, content)
        sources = ["main.c", "model.c", *(f"kernels/{p.name}" for p in (folder / "kernels").glob("*.c"))]
        flags = ["-std=c99", "-O1", *WARNINGS, "-DMODEL_SELF_TEST"]
        subprocess.run([*HOST, *flags, "-o", "app", *sources], cwd=folder, check=True)
        assert subprocess.run([folder / "app"]).returncode == wrong


def test_names_are_told_apart_and_kept_off_those_of_the_firmware() -> None:
    names = ["model/conv", "model_conv", "tn_x", "conv-1", "conv_1", "int", "3x3", "Conv_1", "", "memcpy", "model/tn_"]
    made = identifiers(names)
    assert len({v.lower() for v in made.values()}) == len(names)
    assert made["model/conv"] == "conv"
    assert not any(v.startswith(("model_", "tn_")) or v in ("int", "memcpy") for v in made.values())


def test_numbers_stand_in_columns() -> None:
    text = array("x", np.array([-128, 7] * 9, np.int8))
    assert text == (
        "static const int8_t x[18] = {\n"
        + "    " + ", ".join(["-128,    7"] * 8) + ",\n"
        + "    -128,    7,\n};\n"
    )  # fmt: skip
    assert all(len(line) <= 120 for line in array("x", np.array([-(1 << 31)] * 30, np.int32)).splitlines())
    with pytest.raises(ModelError, match="stride_h = 256"):
        struct("tn_pool_params", "x", {"stride_h": 256})


def test_titles_say_what_a_layer_does() -> None:
    text = emit(network("rows"), M0)["model.c"]
    assert text.count("/* 1. conv2d_0: conv2d 3x3, 40x40x1 -> 40x40x12, 172,800 MACs; by rows, 1-4 in turns */") == 2
    assert "/* 5. conv2d_4: conv2d 3x3, stride 2x2, 20x20x4 -> 10x10x6, 21,600 MACs */" in text


@pytest.mark.parametrize("name", NETWORKS)
def test_the_arena_map_has_every_tensor_at_its_address(name: str) -> None:
    ig = network(name)
    text = emit(ig, M0)["model.c"]
    lines = re.findall(r"^ \* +(\d+) +(\d+) +(\d+)(?:-(\d+))?   (.*)$", text, re.MULTILINE)
    plan = plan_arena(ig, "generic")
    assert sorted((int(a), int(b)) for a, b, *_ in lines) == sorted(
        (b.offset, b.offset + b.bytes) for b in plan.buffers
    )
    place = {v: int(first) for first, _, _, _, what in lines for v in what.split(", ")}
    scratch = {b.name for b in plan.buffers if b.kind == "scratch"}
    assert place == offsets(ig, plan) | {f"scratch of {v}": place[f"scratch of {v}"] for v in scratch}


def test_refusals() -> None:
    ig = mobile()
    with pytest.raises(ModelError, match="test vector's input has 3 bytes"):
        emit(ig, M4, test_vector=(b"abc", b"12345"))
    b = ProbeBuilder()
    x = b.input(2, 2, 1)
    b.add(x, b.input(2, 2, 1))
    with pytest.raises(ModelError, match="2 inputs"):
        emit(b.graph(), M4)
