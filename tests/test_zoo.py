"""Every architecture that must come in and go out: imported, quantized, and its firmware byte for byte."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import zoo_optimize
from zoo import ZOO, network

from thumbnet.emulation.verify import verify_firmware
from thumbnet.exporters.c import emit, write_firmware
from thumbnet.exporters.tflite import run_tflm, to_tflite
from thumbnet.graph.evaluate import evaluate_values
from thumbnet.graph.passes import clean
from thumbnet.importers.load import load_imported
from thumbnet.integer import simulate
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.lower import lower
from thumbnet.integer.passes.join_inputs import join_ports, joined_inputs
from thumbnet.search.efforts import Effort
from thumbnet.targets import load_target

CALIBRATION, SAMPLES, EMULATED = 16, 4, 1


@cache
def quantized(name: str) -> tuple[IntegerGraph, dict[str, np.ndarray]]:
    """The network in int8, calibrated on noise, and some of that noise as its stored inputs."""
    imported = load_imported(network(name), list(ZOO[name].shapes))
    assert imported.check is not None
    assert imported.check.difference <= imported.check.tolerance
    graph = clean(imported.graph)
    rng = np.random.default_rng(1)
    x = {i.name: rng.normal(size=(CALIBRATION, *i.shape)).astype(np.float32) for i in graph.inputs}
    with torch.inference_mode():
        values = evaluate_values(graph, {k: torch.from_numpy(v) for k, v in x.items()})
    integer = lower(graph, {k: (float(v.min()), float(v.max())) for k, v in values.items()})
    feeds = {}
    for k, v in x.items():
        t = integer.tensors[k]
        real = v[:SAMPLES].transpose(0, 2, 3, 1) if v.ndim == 4 else v[:SAMPLES]
        stored = np.clip(np.rint(real / t.scale) + t.zero_point, -128, 127).astype(np.int8)
        feeds[k] = np.ascontiguousarray(stored).reshape(SAMPLES, *t.shape)
    return integer, feeds


@pytest.mark.parametrize("name", ZOO)
def test_it_comes_in_and_equals_tflite_micro(name: str) -> None:
    pytest.importorskip("tflite_micro", reason="needs thumbnet[tflm]")
    integer, feeds = quantized(name)
    simulated = simulate.run(integer, feeds)
    found = run_tflm(to_tflite(integer), [feeds[v] for v in integer.inputs], isolated=False)
    outputs = [found] if isinstance(found, np.ndarray) else list(found)
    assert len(outputs) == len(integer.outputs)
    for value, expected in zip(integer.outputs, outputs, strict=True):
        np.testing.assert_array_equal(simulated[value], expected.reshape(simulated[value].shape))
        assert len(np.unique(expected)) > 2, "an output that never changes proves nothing"


@pytest.mark.emulation
@pytest.mark.parametrize("name", ZOO)
def test_its_firmware_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    integer, feeds = quantized(name)
    joined, target = join_ports(integer), load_target("nrf52840")
    write_firmware(tmp_path, emit(joined, target))
    proof = verify_firmware(tmp_path, joined, target, joined_inputs(integer, feeds)[:EMULATED])
    assert proof.bit_exact, proof.mismatches[:1]


# The others go through the same search in tests/test_tasks.py, or differ from these in size only; all of them:
# benchmarks/zoo_optimize.py
@pytest.mark.emulation
@pytest.mark.slow
@pytest.mark.parametrize("name", ["squeezenet", "densenet", "ssd", "sensor_cnn", "grouped"])
def test_a_narrower_form_is_found_and_proved(name: str, tmp_path: Path) -> None:
    effort = Effort(2, ((1, 0.5),), 1, 1, 8, 1, 32, 4)
    found = zoo_optimize.optimized(name, tmp_path / "run", steps=20, effort=effort)
    assert found.result.proof["bit_exact"] is True
    assert found.result.proof["tflm_equal"] is not False
    assert found.channels[1] < found.channels[0]
    assert found.result.best["flash_bytes"] <= found.limit
    assert found.result.missed() == ""
