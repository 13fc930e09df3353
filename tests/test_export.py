"""`thumbnet export`: every format of a finished run and of a compiled firmware, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from finished_runs import finished_run
from onnx_runs import run_onnx, run_qdq
from training_cases import quantized_network
from typer.testing import CliRunner

import thumbnet
from thumbnet.cli import app
from thumbnet.errors import RunError, ThumbnetError, ToolchainError, UsageError
from thumbnet.exits import FORMATS
from thumbnet.exporters.tflite import to_tflite
from thumbnet.graph.evaluate import evaluate_graph
from thumbnet.graph.graph import Graph
from thumbnet.importers.tflite import import_tflite
from thumbnet.integer import simulate
from thumbnet.integer.graph import IntegerGraph


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Graph, IntegerGraph]:
    folder = tmp_path_factory.mktemp("run") / "r"
    return folder, *finished_run(folder)


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled from a TFLite file."""
    folder = tmp_path_factory.mktemp("compiled")
    (folder / "tiny.tflite").write_bytes(to_tflite(quantized_network()))
    thumbnet.compile(folder / "tiny.tflite", "cortex-m4", folder / "fw")
    return folder / "fw"


def bytes_of(graph: IntegerGraph, count: int = 4) -> np.ndarray:
    shape = graph.tensors[graph.inputs[0]].shape
    return np.random.default_rng(0).integers(-128, 128, (count, *shape)).astype(np.int8)


def test_tflite_is_the_runs_own(made: tuple[Path, Graph, IntegerGraph]) -> None:
    folder, _, _ = made
    for _ in range(2):  # what we have written we may write again
        exported = thumbnet.export(folder, "tflite")
        assert exported.path == folder / "exports" / "model.tflite"
        assert exported.path.read_bytes() == (folder / "model.tflite").read_bytes()


def test_onnx(made: tuple[Path, Graph, IntegerGraph], tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the extra 'onnx' is optional")
    pytest.importorskip("onnxruntime", reason="the runtime is a package for developers")
    folder, graph, integer = made
    exported = thumbnet.export(folder, "onnx", tmp_path / "m.onnx")
    x = bytes_of(integer)
    found = run_qdq(exported.path.read_bytes(), integer, {integer.inputs[0]: x})[0]
    assert np.abs(found.astype(int) - simulate.run(integer, x)[integer.outputs[0]]).max() <= 3
    assert any("mean 0.5, 0.5, 0.5 and std 0.25" in note for note in exported.notes)
    floating = thumbnet.export(folder, "onnx-float", tmp_path / "f.onnx").path.read_bytes()
    y = np.random.default_rng(0).normal(size=(3, *graph.inputs[0].shape)).astype(np.float32)
    np.testing.assert_allclose(
        run_onnx(floating, {graph.inputs[0].name: y})[0], evaluate_graph(graph, y), rtol=0, atol=1e-5
    )


def test_torch(made: tuple[Path, Graph, IntegerGraph], tmp_path: Path) -> None:
    exported = thumbnet.export(made[0], "torch", tmp_path / "t")
    assert sorted(p.name for p in exported.path.iterdir()) == ["exported.json", "model.py", "model.safetensors"]
    thumbnet.export(made[0], "torch", tmp_path / "t")


@pytest.mark.parametrize("layout", ["cmake", "arduino", "zephyr"])
def test_c_has_the_sources_of_the_proof(layout: str, made: tuple[Path, Graph, IntegerGraph], tmp_path: Path) -> None:
    folder = made[0]
    out = thumbnet.export(folder, "c", tmp_path / "c", layout=layout).path
    prefix = "" if layout == "cmake" else "src/"
    assert (out / f"{prefix}model.c").read_bytes() == (folder / "firmware" / "model.c").read_bytes()
    assert (out / "library.properties").exists() == (layout == "arduino")
    thumbnet.export(folder, "c", out, layout="platformio")  # and nothing of the first is left
    assert (out / "library.json").is_file()
    assert not (out / "library.properties").exists()
    assert not (out / "model.c").exists()


def test_ethos_u_and_arm_nn(made: tuple[Path, Graph, IntegerGraph], tmp_path: Path) -> None:
    pytest.importorskip("ethosu", reason="the extra 'ethos-u' is optional")
    exported = thumbnet.export(made[0], "ethos-u", tmp_path / "u", accelerator="ethos-u55-256")
    summary = json.loads((exported.path / "summary.json").read_text())
    assert summary["cpu_operators"] == []
    assert summary["accelerator"] == "ethos-u55-256"
    assert exported.figures["cycles"] == summary["cycles"] > 0
    plain = thumbnet.export(made[0], "arm-nn", tmp_path / "a.tflite").path
    assert b"/pad" not in plain.read_bytes()


def test_the_command_line_writes_and_tells(made: tuple[Path, Graph, IntegerGraph], tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    arguments = ["export", str(made[0]), "--format", "tflite", "-o", str(tmp_path / "m.tflite"), "--json", str(figures)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert f"tflite: {tmp_path / 'm.tflite'}" in result.output.replace("\n", "")
    assert json.loads(figures.read_text())["bytes"] == (tmp_path / "m.tflite").stat().st_size


# --- a compiled firmware


def test_a_compiled_firmware_as_tflite_gives_the_same_bytes(firmware: Path, tmp_path: Path) -> None:
    graph = quantized_network()
    exported = thumbnet.export(firmware, "tflite", tmp_path / "m.tflite")
    again = import_tflite(exported.path).graph
    x = bytes_of(graph)
    found = simulate.run(again, x)[again.outputs[0]]
    np.testing.assert_array_equal(found, simulate.run(graph, x)[graph.outputs[0]])


def test_a_compiled_firmware_in_another_layout(firmware: Path, tmp_path: Path) -> None:
    out = thumbnet.export(firmware, "c", tmp_path / "c", layout="arduino").path
    assert (out / "library.properties").is_file()
    assert (out / "src" / "model.c").read_bytes() == (firmware / "model.c").read_bytes()


@pytest.mark.parametrize("format", ["torch", "onnx-float"])
def test_a_compiled_firmware_has_no_float_network(format: str, firmware: Path) -> None:
    with pytest.raises(UsageError, match="holds no float network"):
        thumbnet.export(firmware, format)


# --- files, and what is refused


def test_a_models_file(firmware: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the extra 'onnx' is optional")
    source = tmp_path / "m.tflite"
    shutil.copy(firmware / "original.tflite", source)
    first = thumbnet.export(source, "onnx", tmp_path / "m.onnx").path
    assert thumbnet.export(first, "tflite", tmp_path / "again.tflite").path.is_file()
    with pytest.raises(UsageError, match="Say with --out"):
        thumbnet.export(source, "onnx")
    with pytest.raises(UsageError, match="thumbnet compile"):
        thumbnet.export(source, "c", tmp_path / "c")


def test_what_others_have_written_stays(made: tuple[Path, Graph, IntegerGraph], tmp_path: Path) -> None:
    mine, folder = tmp_path / "mine.tflite", tmp_path / "folder"
    mine.write_bytes(b"mine")
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    for format, out in (("tflite", mine), ("torch", mine), ("torch", folder), ("c", folder), ("tflite", folder)):
        with pytest.raises(UsageError):
            thumbnet.export(made[0], format, out)
    assert mine.read_bytes() == b"mine"
    assert [p.name for p in folder.iterdir()] == ["notes.txt"]


def test_names_and_folders_that_are_none(made: tuple[Path, Graph, IntegerGraph], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Choose one of tflite, onnx"):
        thumbnet.export(made[0], "coreml")
    with pytest.raises(UsageError, match="layout"):
        thumbnet.export(made[0], "c", tmp_path / "c", layout="make")
    with pytest.raises(UsageError, match="CMSIS-NN"):
        thumbnet.export(made[0], "cmsis-nn", tmp_path / "c", layout="arduino")
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(RunError):
            thumbnet.export(folder, "tflite")
    for arguments in (["export", str(tmp_path), "--format", "tflite"], ["export", str(made[0]), "-f", "coreml"]):
        assert isinstance(CliRunner().invoke(app, arguments).exception, ThumbnetError)


def test_a_run_whose_float_network_is_gone_or_damaged(tmp_path: Path) -> None:
    finished_run(tmp_path / "r", "vgg")
    (stage,) = (tmp_path / "r" / "stages").iterdir()
    weights = stage / "graph.safetensors"
    weights.write_bytes(weights.read_bytes()[: os.path.getsize(weights) // 2])
    for _ in range(2):
        with pytest.raises(RunError, match="does not keep the float network"):
            thumbnet.export(tmp_path / "r", "torch")
        shutil.rmtree(stage, ignore_errors=True)
    assert thumbnet.export(tmp_path / "r", "tflite").path.is_file()


@pytest.mark.parametrize(("format", "module", "extra"), [("onnx", "onnx", "onnx"), ("onnx-float", "onnx", "onnx")])
def test_without_an_extra_its_name_is_told(
    format: str,
    module: str,
    extra: str,
    made: tuple[Path, Graph, IntegerGraph],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ToolchainError, match=rf"thumbnet\[{extra}\]"):
        thumbnet.export(made[0], format, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_format_is_in_the_documentation() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "exports.md").read_text()
    for format in FORMATS:
        assert f"--format {format}" in page
