"""Firmware that calls Arm's CMSIS-NN. What runs the library needs its folder in the environment variable CMSIS_NN."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from training_cases import quantized_network
from typer.testing import CliRunner

import thumbnet
from thumbnet.cli import app
from thumbnet.cost import cmsis_nn
from thumbnet.cost.memory import plan_arena
from thumbnet.cost.probes import NO_PADDING, ProbeBuilder
from thumbnet.emulation import qemu
from thumbnet.emulation.cmsis_nn import VARIABLE, locate
from thumbnet.emulation.verify import verify_firmware
from thumbnet.errors import UsageError
from thumbnet.exporters.c import emit, write_firmware
from thumbnet.integer.graph import IntegerGraph
from thumbnet.targets import Isa, load_target

pytestmark = pytest.mark.emulation
real = pytest.mark.skipif(VARIABLE not in os.environ, reason="CMSIS_NN does not name the folder of Arm's CMSIS-NN")
Make = Callable[[ProbeBuilder, str], str]

NODES: dict[str, tuple[tuple[int, ...], Make]] = {
    "1x1": ((5, 6, 12), lambda b, x: b.conv2d(x, 7)),
    "1x1 strided": ((6, 6, 8), lambda b, x: b.conv2d(x, 8, stride=(2, 2))),
    "3x3 clamped": ((7, 6, 5), lambda b, x: b.conv2d(x, 6, (3, 3), clamp=(-100, 90))),
    "3x3 on both strides": ((9, 8, 3), lambda b, x: b.conv2d(x, 8, (3, 3), (2, 1))),
    "dilated": ((9, 9, 4), lambda b, x: b.conv2d(x, 4, (3, 3), padding=NO_PADDING, dilation=(2, 2))),
    "grouped": ((6, 6, 8), lambda b, x: b.conv2d(x, 8, (3, 3), groups=2)),
    "one row": ((1, 20, 8), lambda b, x: b.conv2d(x, 6, (1, 5))),
    "depthwise 3x3": ((8, 7, 9), lambda b, x: b.depthwise_conv2d(x)),
    "depthwise 5x5 strided": ((9, 9, 8), lambda b, x: b.depthwise_conv2d(x, (5, 5), (2, 2))),
    "depthwise with a multiplier": ((6, 6, 4), lambda b, x: b.depthwise_conv2d(x, multiplier=2)),
    "depthwise of one channel": ((6, 6, 1), lambda b, x: b.depthwise_conv2d(x, multiplier=16)),
    "depthwise dilated": ((9, 9, 4), lambda b, x: b.depthwise_conv2d(x, padding=NO_PADDING, dilation=(2, 2))),
    "dense": ((50,), lambda b, x: b.dense(x, 13)),
    "max pool": ((6, 6, 5), lambda b, x: b.pool("max_pool2d", x, (2, 2), (2, 2))),
    "average pool with a border": ((7, 7, 6), lambda b, x: b.pool("avg_pool2d", x, (3, 3), (2, 2), (1, 1, 1, 1))),
    "softmax": ((9,), lambda b, x: b.softmax(x)),
    "sum": ((4, 5, 6), lambda b, x: b.add(b.conv2d(x, 6), x)),
    "product": ((4, 5, 6), lambda b, x: b.mul(b.conv2d(x, 6), x)),
    "difference, ours": ((4, 5, 6), lambda b, x: b.add(b.conv2d(x, 6), x, op="sub")),
    "mean, ours": ((4, 4, 6), lambda b, x: b.global_avg_pool(x)),
}


def graph_of(name: str) -> IntegerGraph:
    shape, make = NODES[name]
    builder = ProbeBuilder(seed=len(name))
    make(builder, builder.input(*shape))
    return builder.graph()


@real
@pytest.mark.parametrize("core", ["cortex-m3", "cortex-m4", "cortex-m55"])
@pytest.mark.parametrize("name", NODES)
def test_it_equals_the_simulator(name: str, core: str, tmp_path: Path) -> None:
    if core == "cortex-m55" and not qemu.available():
        pytest.skip("QEMU is not installed")
    graph, target = graph_of(name), load_target(core)
    units = cmsis_nn.units(graph, target.core.isa)
    write_firmware(tmp_path, emit(graph, target, units=units))
    inputs = np.random.default_rng(0).integers(-128, 128, (3, *graph.tensors[graph.inputs[0]].shape)).astype(np.int8)
    proof = verify_firmware(tmp_path, graph, target, inputs, oracle=no_oracle, library=locate(None))
    assert proof.bit_exact


def no_oracle(*_: object) -> tuple[None, str]:
    return None, "the probes' multipliers are of no TFLite file"


@real
def test_a_whole_model_is_compiled_and_verified_again(tmp_path: Path) -> None:
    graph = quantized_network()
    made = thumbnet.compile(graph, "cortex-m4", tmp_path / "fw", kernels="cmsis-nn")
    assert made.proof is not None
    assert made.proof.tflm_equal in (True, None)
    assert thumbnet.verify(made.folder).instructions == made.proof.instructions
    with pytest.raises(UsageError, match="not modelled"):
        thumbnet.profile(made.folder)


def test_the_library_is_asked_for_and_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(UsageError, match="does not contain"):
        thumbnet.compile(graph_of("dense"), "cortex-m4", tmp_path / "fw", kernels="cmsis-nn")
    with pytest.raises(UsageError, match="is not CMSIS-NN"):
        locate(tmp_path)
    (tmp_path / "Include").mkdir()
    (tmp_path / "Include" / "arm_nnfunctions.h").write_text("arm_status arm_convolve_s8(const int8_t *input);\n")
    with pytest.raises(UsageError, match="has no arm_convolve_wrapper_s8"):
        locate(tmp_path)
    assert not (tmp_path / "fw").exists()
    result = CliRunner().invoke(app, ["compile", __file__, "--kernels", "fast"])
    assert isinstance(result.exception, UsageError)


@pytest.mark.parametrize(
    ("name", "generic", "dsp", "mve"),
    [
        ("1x1", 0, 48, 0),
        ("1x1 strided", 0, 0, 0),
        ("3x3 clamped", 192, 192, 192),
        ("depthwise 3x3", 0, 0, 4464),
        ("depthwise 5x5 strided", 0, 400, 12400),
        ("depthwise of one channel", 0, 0, 208),
        ("dense", 0, 0, 52),
        ("average pool with a border", 0, 24, 0),
    ],
)
def test_scratch_is_what_the_library_documents(name: str, generic: int, dsp: int, mve: int) -> None:
    """Worked out by hand from the formulas of its arm_..._get_buffer_size functions."""
    graph = graph_of(name)
    isas: tuple[Isa, ...] = ("generic", "dsp", "mve")
    assert [cmsis_nn.scratch_bytes(graph.nodes[-1], graph, isa) for isa in isas] == [generic, dsp, mve]


def test_calls_keep_their_tensors_apart() -> None:
    builder = ProbeBuilder()
    x = builder.input(8, 8, 4)
    y = builder.conv2d(x, 8)
    builder.add(y, builder.depthwise_conv2d(y))
    graph = builder.graph()
    units = cmsis_nn.units(graph, "dsp")
    plan = plan_arena(graph, "dsp", units)
    text = emit(graph, load_target("cortex-m4"), plan=plan, units=units)
    places = {b.name: range(b.offset, b.offset + b.bytes) for b in plan.buffers if b.kind == "activation"}
    assert not set(places[x]) & set(places[y])
    assert "arm_elementwise_add_s8(" in text["model.c"]
    assert '#include "kernels/tn_cmsis_nn.h"' in text["model.c"]
    assert "add_subdirectory" in text["CMakeLists.txt"]
    assert np.all([name.startswith("kernels/") for name in text if name.endswith("_cmsis_nn.c")])
