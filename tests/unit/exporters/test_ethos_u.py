"""Our TFLite files through Vela: nothing is left to the CPU."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from finished_runs import lowered
from integer_cases import Draw, graph_of

from thumbnet.errors import ToolchainError, UsageError
from thumbnet.exporters import ethos_u
from thumbnet.exporters.ethos_u import compile_for_ethos_u
from thumbnet.exporters.tflite import to_tflite
from thumbnet.importers.tflite import import_tflite
from thumbnet.integer import build
from thumbnet.integer.graph import IntegerNode
from thumbnet.integer.passes import lossless

SHARED = Path(os.environ.get("THUMBNET_SHARED", "")) / "models" / "mlperf_tiny"


@pytest.fixture
def vela() -> None:
    pytest.importorskip("ethosu", reason="the extra 'ethos-u' is optional")


@pytest.mark.skipif(not SHARED.is_dir(), reason="THUMBNET_SHARED does not name a folder with models/mlperf_tiny")
@pytest.mark.parametrize("file", ["vww_96_int8", "pretrainedResnet_quant", "kws_ref_model", "ad01_int8"])
def test_published_models_cost_what_the_original_costs(file: str, vela: None) -> None:
    original = (SHARED / f"{file}.tflite").read_bytes()
    before, after = (
        compile_for_ethos_u(m) for m in (original, to_tflite(lossless(import_tflite(original, name="m").graph)))
    )
    assert after.cpu_operators == ()
    assert after.npu_share == 100
    assert after.sram_bytes <= before.sram_bytes
    assert 0 < after.cycles <= before.cycles


@pytest.mark.parametrize("name", ["mobilenet_v2", "squeeze_excite", "unet", "densenet", "grouped"])
def test_networks(name: str, vela: None) -> None:
    made = compile_for_ethos_u(to_tflite(lowered(name)[1]), "ethos-u65-256")
    assert made.cpu_operators == ()
    assert made.npu_operators > 5
    assert made.json()["accelerator"] == "ethos-u65-256"
    assert b"ethos-u" in made.model


@pytest.mark.parametrize(("kernel", "cut", "size"), [(2, 0, 12), (3, 0, 13), (3, 1, 12), (4, 1, 12)])
def test_transposed_convolutions_by_two(kernel: int, cut: int, size: int, vela: None) -> None:
    d = Draw(kernel)
    x, y = d.tensor("x", (6, 6, 4), 0.1), d.tensor("y", (size, size, 3), 0.1)
    node = build.conv_transpose2d("y", x, y, d.weight(3, kernel, kernel, 4), None, stride=(2, 2), padding=[cut, cut])
    assert compile_for_ethos_u(to_tflite(graph_of([x, y], [x], [node]))).cpu_operators == ()


def test_what_the_npu_cannot_do_is_named(vela: None) -> None:
    d = Draw(0)
    x = d.tensor("x", (4, 4, 8), 0.1, 0)
    y = d.tensor("y", (8, 8, 2), x.scale, 0)
    graph = graph_of([x, y], [x], [IntegerNode("y", "depth_to_space", ("x",), {"block": 2})])
    made = compile_for_ethos_u(to_tflite(graph))
    assert made.cpu_operators == ("DEPTH_TO_SPACE",)
    assert made.npu_share == 0
    assert "DEPTH_TO_SPACE" in made.lines()[0]


def test_what_goes_wrong_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="ethos-u55-64"):
        compile_for_ethos_u(b"", "ethos-u56-1")
    monkeypatch.setitem(sys.modules, "ethosu", None)
    monkeypatch.setattr(ethos_u.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolchainError, match=r"thumbnet\[ethos-u\]"):
        compile_for_ethos_u(b"")


def test_a_file_that_vela_refuses(vela: None) -> None:
    with pytest.raises(ToolchainError, match="Vela cannot compile the model"):
        compile_for_ethos_u(b"no model")
