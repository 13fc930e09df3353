"""Our files in the software that they are for: LiteRT, Arm NN; TFLM, ONNX Runtime and Vela have tests of their own."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from finished_runs import lowered
from integer_cases import stimuli
from integer_op_cases import CASES, drawn
from networks import NETWORKS

from thumbnet.exporters.tflite import to_tflite
from thumbnet.exporters.tflite_arm_nn import for_arm_nn
from thumbnet.importers.tflite import import_tflite
from thumbnet.integer import simulate
from thumbnet.integer.graph import IntegerGraph

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("THUMBNET_SHARED", ""))
needs_shared = pytest.mark.skipif(
    not (SHARED / "models" / "mlperf_tiny").is_dir(), reason="THUMBNET_SHARED does not name the folder of models"
)

# Of LiteRT's reference kernels: no ELU and DEPTH_TO_SPACE of int8 there, and SUM leaves int8's range.
NOT_IN_LITERT = {"depth_to_space", "sum"}


@pytest.fixture(scope="module")
def consumers() -> ModuleType:
    spec = importlib.util.spec_from_file_location("consumers_benchmark", ROOT / "benchmarks" / "consumers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def arm_nn(consumers: ModuleType) -> ModuleType:
    if not consumers._has_armnn():
        pytest.skip("Debian's python3-pyarmnn is not installed")
    return consumers


def off(found: np.ndarray, graph: IntegerGraph, feeds: dict[str, np.ndarray]) -> int:
    expected = simulate.run(graph, feeds)[graph.outputs[0]]
    return int(np.abs(found.reshape(expected.shape).astype(int) - expected).max())


@pytest.mark.parametrize("op", sorted(set(CASES) - NOT_IN_LITERT))
def test_operations_in_litert(op: str, consumers: ModuleType) -> None:
    """Its reference kernels round twice, as TFLM's do, but for dense layers."""
    for seed in range(3):
        graph = drawn(op, seed)
        if graph.nodes[0].attrs.get("kind") == "elu":
            continue
        feeds = stimuli(graph, seed)
        found = consumers.litert(to_tflite(graph), [feeds[v] for v in graph.inputs])[0]
        assert off(found, graph, feeds) <= (op == "dense")


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_in_litert_and_arm_nn(name: str, consumers: ModuleType) -> None:
    graph = lowered(name)[1]
    feeds = stimuli(graph, 0, random=6)
    inputs = list(feeds.values())
    assert off(consumers.litert(to_tflite(graph), inputs)[0], graph, feeds) <= 2
    assert off(consumers.litert_xnnpack(to_tflite(graph), inputs)[0], graph, feeds) <= 4
    if consumers._has_armnn():
        assert off(consumers.arm_nn(to_tflite(for_arm_nn(graph)), inputs)[0], graph, feeds) <= 4


@needs_shared
@pytest.mark.parametrize("title", ["ResNet8", "DS-CNN"])
def test_published_models_in_arm_nn(title: str, arm_nn: ModuleType) -> None:
    """The original file and ours get the same answers, which are TFLM's but where roundings decide."""
    file, data = arm_nn.MODELS[title]
    x, _ = arm_nn.samples(data, 12)
    original = (SHARED / "models" / "mlperf_tiny" / file).read_bytes()
    graph = import_tflite(original).graph
    expected = simulate.run(graph, x)[graph.outputs[0]].reshape(len(x), -1)
    first, second = (arm_nn.arm_nn(model, [x])[0] for model in (original, to_tflite(for_arm_nn(graph))))
    np.testing.assert_array_equal(first, second)
    assert np.sum(first.argmax(1) != expected.argmax(1)) <= 1


def test_what_is_absent_is_told(consumers: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(consumers, "ARMNN_PYTHON", "/nowhere/python3")
    calls = (consumers.tflite_micro, consumers.onnx_runtime, consumers.arm_nn)
    for call in calls:
        with pytest.raises(consumers.AbsentError, match="install"):
            call(b"", [np.zeros((1, 1), np.int8)])
    with pytest.raises(consumers.AbsentError, match=r"thumbnet\[ethos-u\]"):
        consumers.vela(b"")
