"""Quantized ONNX files in ONNX Runtime, and read back by our own importer, against the integer simulator."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished_runs import lowered
from integer_cases import Draw, graph_of, stimuli
from integer_op_cases import CASES, drawn
from networks import NETWORKS
from onnx_runs import run_qdq

from thumbnet.errors import ModelError, UnsupportedOpError
from thumbnet.exporters.onnx_qdq import SPELLINGS, to_qdq
from thumbnet.exporters.onnx_qdq_writer import quantized_inputs, real_values
from thumbnet.importers.qdq import import_qdq
from thumbnet.importers.tflite import import_tflite
from thumbnet.integer import build, simulate
from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor
from thumbnet.integer.kernels import KERNELS

pytest.importorskip("onnx", reason="the extra 'onnx' is optional")
pytest.importorskip("onnxruntime", reason="the runtime is a package for developers")

SHARED = Path(os.environ.get("THUMBNET_SHARED", "")) / "models" / "mlperf_tiny"
SEEDS = range(6)

# Steps by which ONNX Runtime may be off: it scales in float, where the integer graph rounds twice. Others are exact.
ROUNDED = {
    **dict.fromkeys(("conv2d", "depthwise_conv2d", "conv_transpose2d", "dense"), 1),
    **dict.fromkeys(("add", "sub", "mul", "prelu", "requantize", "lut"), 1),
    **dict.fromkeys(("avg_pool2d", "global_avg_pool", "mean", "sum", "softmax"), 1),
    "resize_bilinear": 2,  # TFLM counts positions in steps of 1/1024
}
# Read back, these become other operations, which round once; all others have the very bytes.
REREAD = {"mul", "prelu", "lut", "requantize"}

Feeds = Mapping[str, np.ndarray]


def off(found: np.ndarray, expected: np.ndarray) -> int:
    assert found.shape == expected.shape
    return int(np.abs(found.astype(int) - expected).max())


def read_back(graph: IntegerGraph, feeds: Feeds) -> np.ndarray:
    """The first output of what our importer makes of the file, as the graph stores it."""
    model = import_qdq(to_qdq(graph))
    stored = {p.tensor.name: p.stored(real_values(feeds[p.name], graph.tensors[p.name])) for p in model.inputs}
    (port, *_) = model.outputs
    found = simulate.run(model.graph, stored)[port.tensor.name]
    return quantized_inputs(port.original(found), graph.tensors[graph.outputs[0]])


def test_every_operation_has_a_spelling() -> None:
    assert set(KERNELS) - set(SPELLINGS) == set()


@pytest.mark.parametrize("op", CASES)
@pytest.mark.parametrize("optimized", [True, False])
def test_operations_in_onnx_runtime(op: str, optimized: bool) -> None:
    for seed in SEEDS:
        graph = drawn(op, seed)
        feeds = stimuli(graph, seed)
        expected = simulate.run(graph, feeds)["y"]
        assert off(run_qdq(to_qdq(graph), graph, feeds, optimized=optimized)[0], expected) <= ROUNDED.get(op, 0)


@pytest.mark.parametrize("op", CASES)
def test_operations_are_read_back_with_the_same_bytes_or_refused(op: str) -> None:
    read = 0
    for seed in SEEDS:
        graph = drawn(op, seed)
        feeds = stimuli(graph, seed)
        try:
            found = read_back(graph, feeds)
        except (UnsupportedOpError, ModelError):
            continue  # what the importer does not take; docs/exports.md says which
        read += 1
        assert off(found, simulate.run(graph, feeds)["y"]) <= (op in REREAD)
    always = ("conv2d", "depthwise_conv2d", "dense", "softmax", "max_pool2d", "avg_pool2d", "global_avg_pool", "concat")
    assert read == len(SEEDS) or op not in always


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str) -> None:
    _, graph = lowered(name)
    feeds = stimuli(graph, 0, random=60)
    expected = simulate.run(graph, feeds)[graph.outputs[0]]
    found = run_qdq(to_qdq(graph), graph, feeds)[0]
    assert off(found, expected) <= 6
    assert off(read_back(graph, feeds), expected) <= (2 if name in ("squeeze_excite", "densenet", "grouped") else 0)


def test_a_function_by_table_is_looked_up() -> None:
    table = np.random.default_rng(0).integers(-128, 128, 256).astype(np.int8)
    x, y = QTensor("x", (256,), 0.125, 7), QTensor("y", (256,), 0.5, -9)
    graph = graph_of([x, y], [x], [IntegerNode("y", "lut", ("x",), {"kind": "table"}, {"table": table})])
    feeds = {"x": np.arange(-128, 128, dtype=np.int8)[None]}
    np.testing.assert_array_equal(run_qdq(to_qdq(graph), graph, feeds)[0][0], table)


@pytest.mark.parametrize("seed", range(4))
def test_bytes_read_by_another_scale(seed: int) -> None:
    d = Draw(seed)
    x = d.tensor("x", (3, 4, 5))
    y = d.tensor("y", (60,))
    graph = graph_of([x, y], [x], [IntegerNode("y", "reshape", ("x",), {"shape": [60]})])
    feeds = stimuli(graph, seed)
    expected = simulate.run(graph, feeds)["y"]
    assert off(run_qdq(to_qdq(graph), graph, feeds)[0], expected) == 0
    assert off(read_back(graph, feeds), expected) == 0


def test_weights_of_four_bits_and_several_outputs() -> None:
    d = Draw(0)
    x, y, z = d.tensor("x", (5, 5, 3), 0.1), d.tensor("y", (5, 5, 4), 0.2), d.tensor("z", (5, 5, 4), 0.2, 0)
    options: dict[str, Any] = {"padding": (1, 1, 1, 1), "weight_bits": 4}
    nodes = [
        build.conv2d("y", x, y, d.weight(4, 3, 3, 3), d.bias(4), **options),
        build.relu("z", y, z),
    ]
    graph = replace(graph_of([x, y, z], [x], nodes), outputs=("y", "z", "y", "x"))
    feeds = stimuli(graph, 0)
    expected = simulate.run(graph, feeds)
    for found, name in zip(run_qdq(to_qdq(graph), graph, feeds), graph.outputs, strict=True):
        assert off(found, expected[name] if name != "x" else feeds["x"]) <= (name != "x")


def test_equal_graphs_give_equal_files() -> None:
    _, graph = lowered("unet")
    assert to_qdq(graph) == to_qdq(graph)


def test_operations_without_a_spelling_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thumbnet.exporters.onnx_qdq.SPELLINGS", {})
    with pytest.raises(UnsupportedOpError, match="as ONNX"):
        to_qdq(drawn("add", 0))


@pytest.mark.skipif(not SHARED.is_dir(), reason="THUMBNET_SHARED does not name a folder with models/mlperf_tiny")
@pytest.mark.parametrize("file", ["vww_96_int8", "pretrainedResnet_quant", "kws_ref_model", "ad01_int8"])
def test_published_models(file: str) -> None:
    graph = import_tflite(SHARED / f"{file}.tflite").graph
    feeds = stimuli(graph, 0, random=8)
    logits = graph if graph.nodes[-1].op != "softmax" else _without_softmax(graph)
    expected = simulate.run(logits, feeds)[logits.outputs[0]]
    assert off(run_qdq(to_qdq(logits), logits, feeds)[0], expected) <= 12  # before softmax
    assert off(read_back(logits, feeds), expected) == 0


def _without_softmax(graph: IntegerGraph) -> IntegerGraph:
    *nodes, last = graph.nodes
    tensors = {k: v for k, v in graph.tensors.items() if k != last.name}
    return IntegerGraph(graph.name, tensors, graph.inputs, tuple(nodes), last.inputs)
