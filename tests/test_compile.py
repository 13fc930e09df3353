"""A quantized model as verified firmware, from the file to the proof, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from firmware_networks import bottlenecks
from tflite_files import Model
from training_cases import quantized_network
from typer.testing import CliRunner

import thumbnet
import thumbnet.errors
import thumbnet.importers.tflite
from thumbnet.cli import app
from thumbnet.compiler import optimized
from thumbnet.cost.kernels import choose
from thumbnet.cost.latency import macs
from thumbnet.cost.probes import ProbeBuilder
from thumbnet.emulation import qemu
from thumbnet.errors import DataError, InfeasibleError, ModelError, RunError, UsageError
from thumbnet.exporters.tflite import to_tflite
from thumbnet.integer import simulate

pytest.importorskip("unicorn", reason="the emulator is optional")
pytestmark = pytest.mark.emulation

SHARED = Path(os.environ.get("THUMBNET_SHARED", "")) / "models" / "mlperf_tiny"
KEYS = {
    "flash_bytes",
    "code_bytes",
    "weight_bytes",
    "ram_bytes",
    "arena_bytes",
    "stack_bytes",
    "instructions",
    "cycles",
}
KEYS |= {"macs", "bit_exact", "emulator", "layers"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.tflite"
    path.write_bytes(to_tflite(quantized_network()))
    return path


def test_it_is_smaller_exact_and_can_be_verified_and_profiled_later(model: Path, tmp_path: Path) -> None:
    made = thumbnet.compile(model, "cortex-m4", tmp_path / "fw", json_file=tmp_path / "figures.json")
    assert made.proof is not None
    assert made.proof.bit_exact
    assert made.proof.tflm_equal in (True, None)
    assert made.costs is not None
    assert made.costs.macs < sum(macs(n, quantized_network()) for n in quantized_network().nodes)
    assert any("channels removed" in line for line in made.savings)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert set(figures) >= KEYS
    for command in ("verify", "profile"):
        result = CliRunner().invoke(app, [command, str(tmp_path / "fw"), "--json", str(tmp_path / f"{command}.json")])
        assert result.exit_code == 0, result.output
        again = json.loads((tmp_path / f"{command}.json").read_text())
        assert set(again) >= KEYS
        assert again["macs"] == figures["macs"]
    assert json.loads((tmp_path / "verify.json").read_text())["instructions"] == figures["instructions"]


@pytest.mark.parametrize(("core", "emulator"), [("cortex-m33", "unicorn 2"), ("cortex-m55", "qemu ")])
def test_the_emulator_is_chosen_by_the_core_and_named(core: str, emulator: str, model: Path, tmp_path: Path) -> None:
    if emulator == "qemu " and not qemu.available():
        pytest.skip(f"{qemu.PROGRAM} is not installed")
    folder = str(tmp_path / "fw")
    for command in (["compile", str(model), "--target", core, "-o", folder], ["verify", folder]):
        result = CliRunner().invoke(app, [*command, "--json", str(tmp_path / "figures.json")])
        assert result.exit_code == 0, result.output
        assert f"on {emulator}" in result.output
        figures = json.loads((tmp_path / "figures.json").read_text())
        assert figures["emulator"].startswith(emulator)
        assert figures["bit_exact"] is True


def test_energy_is_told_where_the_board_s_current_is_known(model: Path, tmp_path: Path) -> None:
    for target, known in (("nrf52840", True), ("cortex-m4", False)):
        made = thumbnet.compile(model, target, tmp_path / target, json_file=tmp_path / f"{target}.json")
        told = json.loads((tmp_path / f"{target}.json").read_text())
        assert any("mJ (estimated: 3.3 mA at 3 V" in line for line in made.lines()) == known
        if known:
            assert told["energy_mj"] == pytest.approx(3.3 * 3.0 * told["latency_ms"] / 1000)
        else:
            assert told["energy_mj"] is None


@pytest.mark.parametrize("layout", ["arduino", "platformio", "zephyr"])
def test_every_layout_can_be_verified_and_profiled(model: Path, layout: str, tmp_path: Path) -> None:
    folder = tmp_path / "fw"
    options = ["--target", "cortex-m4", "--layout", layout, "-o", str(folder), "--quiet"]
    assert CliRunner().invoke(app, ["compile", str(model), *options]).exit_code == 0
    assert not (folder / "model.c").exists()
    assert thumbnet.verify(folder).bit_exact
    assert thumbnet.profile(folder).arena_bytes == thumbnet.verify(folder).arena_bytes
    (folder / "src/model.c").write_text((folder / "src/model.c").read_text().replace(".low = -128", ".low = 0"))
    assert not thumbnet.verify(folder).bit_exact
    (folder / "src/model.c").unlink()
    with pytest.raises(RunError, match=r"src/model\.c"):
        thumbnet.verify(folder)


def test_without_the_passes_every_layer_and_channel_stays_and_fast_kernels_still_fit() -> None:
    b = ProbeBuilder(1)
    y = b.conv2d(b.input(5, 5, 4), 8, (3, 3), clamp=(0, 127))
    a = b.nodes[-1].arrays
    a["weight"][2], a["bias"][2], a["multiplier"][2], a["shift"][2] = (
        0,
        1 << 30,
        1 << 30,
        -31,
    )  # a channel trained to death
    b.conv2d(y, 3)
    ig = b.graph()
    kept = optimized(ig, "keep", lossless=False)
    assert [(n.name, n.op) for n in kept.nodes] == [(n.name, n.op) for n in ig.nodes]
    assert kept.tensors == ig.tensors
    assert [choose(g.nodes[0], g, "dsp").function for g in (ig, kept)] == ["tn_conv2d", "tn_conv2d_dsp"]
    x = np.random.default_rng(0).integers(-128, 128, (8, 5, 5, 4)).astype(np.int8)
    assert np.array_equal(simulate.run(ig, x)[ig.outputs[0]], simulate.run(kept, x)[kept.outputs[0]])


def test_a_limit_of_ram_is_kept_remembered_and_refused_where_nothing_fits(tmp_path: Path) -> None:
    ig, folder = bottlenecks(), tmp_path / "fw"
    least, limited = (thumbnet.compile(ig, "cortex-m4", folder, ram=ram) for ram in (None, "24000"))
    assert least.costs is not None
    assert limited.costs is not None
    assert least.costs.ram_bytes < limited.costs.ram_bytes <= 24000
    assert least.costs.instructions > limited.costs.instructions
    assert thumbnet.profile(folder).arena_bytes == limited.costs.arena_bytes
    ig.save(tmp_path / "integer.json")
    command = ["compile", str(tmp_path / "integer.json"), "--target", "cortex-m4", "-o", str(folder), "--quiet"]
    refused = CliRunner().invoke(app, [*command, "--ram", str(least.costs.ram_bytes - 400)])
    assert isinstance(refused.exception, InfeasibleError)
    assert "of RAM on a cortex-m4 at least" in str(refused.exception)
    assert thumbnet.verify(folder).bit_exact  # what was there is untouched


def test_another_layout_takes_the_place_of_the_first(model: Path, tmp_path: Path) -> None:
    thumbnet.compile(model, "cortex-m4", tmp_path / "once", layout="arduino")
    for layout in ("zephyr", "arduino"):
        thumbnet.compile(model, "cortex-m4", tmp_path / "twice", layout=layout)
    once, twice = ({str(p.relative_to(f)) for p in f.rglob("*")} for f in (tmp_path / "once", tmp_path / "twice"))
    assert once == twice
    with pytest.raises(UsageError, match="no layout 'keil'"):
        thumbnet.compile(model, "cortex-m4", tmp_path / "keil", layout="keil")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no place for CMSIS-NN"):
        thumbnet.compile(model, "cortex-m4", tmp_path / "keil", layout="zephyr", kernels="cmsis-nn")
    assert not (tmp_path / "keil").exists()


def test_without_lossless_passes_every_channel_stays(model: Path, tmp_path: Path) -> None:
    plain = thumbnet.compile(model, "cortex-m3", tmp_path / "plain", lossless=False)
    small = thumbnet.compile(model, "cortex-m3", tmp_path / "small")
    assert plain.proof is not None
    assert plain.proof.bit_exact
    assert plain.costs is not None
    assert small.costs is not None
    assert small.costs.macs < plain.costs.macs
    assert small.costs.flash_bytes < plain.costs.flash_bytes


def test_a_dropped_softmax_leaves_the_logits(model: Path, tmp_path: Path) -> None:
    made = thumbnet.compile(model, "cortex-m4", tmp_path / "fw", softmax="drop")
    assert [n.op for n in made.graph.nodes][-1] == "dense"
    x = np.zeros((1, 16, 16, 1), np.int8)
    whole = quantized_network()
    kept = simulate.trace(whole, x)[whole.nodes[-1].inputs[0]]
    assert np.array_equal(simulate.run(made.graph, x)[made.graph.outputs[0]], kept)


def test_several_outputs_stand_one_after_the_other(tmp_path: Path) -> None:
    """A detector's two heads, float32 outside as the converter leaves them."""
    m = Model(1, 8, 8, 4)
    m.retype(m.x, "FLOAT32")
    inner = m.tensor("q", 1, 8, 8, 4)
    m.operator("QUANTIZE", [m.x], [inner])
    ends = []
    for name, channels in (("boxes", 4), ("scores", 3)):
        head, flat, real = m.tensor(name, 1, 8, 8, channels), *(m.tensor(f"{name}{k}", 1, 64, channels) for k in "fr")
        options = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
        inputs = [inner, m.weights(channels, 3, 3, 4), m.constant("bias", np.arange(channels) * 50)]
        m.operator("CONV_2D", inputs, [head], "Conv2DOptions", **options)
        m.operator("RESHAPE", [head, m.constant("shape", [1, 64, channels])], [flat])
        m.operator("DEQUANTIZE", [flat], [real])
        m.retype(real, "FLOAT32")
        ends.append(real)
    m.outputs = ends
    path = tmp_path / "detector.tflite"
    path.write_bytes(m.bytes())
    made = thumbnet.compile(path, "cortex-m4", tmp_path / "fw")
    assert made.proof is not None
    assert made.proof.bit_exact
    assert made.proof.tflm_equal in (True, None)
    assert sum("not float32 as in the file" in line for line in made.lines()) == 2
    header = (made.folder / "model.h").read_text()
    assert "#define MODEL_OUTPUT_BYTES 448\n#define MODEL_OUTPUTS 2 " in header
    assert "#define MODEL_OUTPUT1_OFFSET 256 " in header
    again = CliRunner().invoke(app, ["verify", str(tmp_path / "fw")])
    assert again.exit_code == 0, again.output


def test_compiling_again_gives_the_same_bytes(model: Path, tmp_path: Path) -> None:
    sources = []
    for _ in range(2):
        folder = thumbnet.compile(model, "cortex-m4", tmp_path / "fw").folder
        sources.append((folder / "model.c").read_bytes())
    assert sources[0] == sources[1]


def test_own_inputs_take_part_in_the_proof(model: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.npy"
    np.save(own, np.ones((5, 16, 16, 1), np.int8))
    made = thumbnet.compile(model, "cortex-m4", tmp_path / "fw", inputs=own)
    assert made.proof is not None
    assert made.proof.images == 5 + 16
    np.save(own, np.ones((5, 7), np.int8))
    with pytest.raises(DataError, match="the model takes"):
        thumbnet.compile(model, "cortex-m4", tmp_path / "fw2", inputs=own)


def test_what_is_no_model_is_refused_and_nothing_is_written(model: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tflite"
    for content in (b"", b"hello", model.read_bytes()[:300]):
        bad.write_bytes(content)
        with pytest.raises(ModelError):
            thumbnet.compile(bad, "cortex-m4", tmp_path / "fw")
    assert not (tmp_path / "fw").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    with pytest.raises(UsageError, match="holds other files"):
        thumbnet.compile(model, "cortex-m4", tmp_path / "mine")
    result = CliRunner().invoke(app, ["compile", str(tmp_path / "nothing.tflite")])
    assert isinstance(result.exception, ModelError)


def test_damaged_files_never_give_another_error(model: Path) -> None:
    """Bytes changed at random: an error of ours, or a model."""
    content = model.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        for at in rng.integers(0, len(content), int(rng.integers(1, 6))):
            damaged[at] = int(rng.integers(0, 256))
        try:
            thumbnet.importers.tflite.import_tflite(bytes(damaged[: int(rng.integers(1, len(content) + 1))]))
        except thumbnet.errors.ThumbnetError:
            continue


def test_a_quantized_onnx_file(tmp_path: Path) -> None:
    """Channels first in the file and last in the firmware, as model.h says; a softmax behind a table can be dropped."""
    pytest.importorskip("onnxruntime", reason="quantizes the model")
    from onnx_cases import Network, quantize

    n = Network(["batch", 3, 10, 9])
    y = n.op("HardSwish", n.conv("x", 3, 8, 3, 3, strides=[2, 2], pads=[1, 1, 0, 1]))
    y = n.op("Add", y, n.op("Relu", n.conv(y, 8, 8, 3, 3, groups=8, pads=[1] * 4)))
    y = n.op("Concat", y, n.op("MaxPool", y, kernel_shape=[3, 3], pads=[1] * 4), axis=1)
    n.op("Softmax", n.dense(n.op("Flatten", n.op("GlobalAveragePool", y)), 16, 4))
    path = tmp_path / "small.onnx"
    path.write_bytes(quantize(n, per_channel=True))
    for softmax, last in (("keep", "lut"), ("drop", "conv2d")):
        made = thumbnet.compile(path, "cortex-m4", tmp_path / softmax, softmax=softmax)
        assert made.proof is not None
        assert made.proof.bit_exact
        assert [node.op for node in made.graph.nodes if node.op != "reshape"][-1] == last
        assert (
            "'x' is [1, 3, 10, 9] in the ONNX file; here its channels come last."
            in (tmp_path / softmax / "model.h").read_text()
        )
    result = CliRunner().invoke(app, ["verify", str(tmp_path / "keep")])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    "name", ["vww_96_int8", "pretrainedResnet_quant", "kws_ref_model", "ad01_int8", "str_ww_ref_model"]
)
def test_the_models_of_mlperf_tiny(name: str, tmp_path: Path) -> None:
    path = SHARED / f"{name}.tflite"
    if not path.is_file():
        pytest.skip("set THUMBNET_SHARED to the folder that holds models/mlperf_tiny")
    made = thumbnet.compile(path, "cortex-m4", tmp_path / "fw")
    assert made.proof is not None
    assert made.proof.bit_exact
    assert made.proof.tflm_equal is True
