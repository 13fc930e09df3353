"""The directory of a finished run, without the run: a small network lowered and written as the stages write it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from networks import SHAPE, network

from thumbnet.exporters.c import emit, write_firmware
from thumbnet.exporters.tflite import to_tflite
from thumbnet.files import write_bytes_atomic, write_json_atomic
from thumbnet.graph.evaluate import evaluate_values
from thumbnet.graph.graph import Graph
from thumbnet.graph.passes import clean
from thumbnet.importers import load
from thumbnet.integer import simulate
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.lower import lower
from thumbnet.targets import load_target


def lowered(name: str) -> tuple[Graph, IntegerGraph]:
    """A network of `NETWORKS`, cleaned, and its integer graph calibrated on noise."""
    graph = clean(load(network(name), input_shape=SHAPE))
    x = torch.from_numpy(samples(32))
    values = evaluate_values(graph, {graph.inputs[0].name: x})
    return graph, lower(graph, {k: (float(v.min()), float(v.max())) for k, v in values.items()})


def samples(count: int) -> np.ndarray:
    """float32 [N, *SHAPE]"""
    return np.random.default_rng(0).normal(size=(count, *SHAPE)).astype(np.float32)


def finished_run(folder: Path, name: str = "mobilenet_v2", target: str = "nrf52840") -> tuple[Graph, IntegerGraph]:
    """Writes what `export` reads, and returns the float and the integer network."""
    graph, integer = lowered(name)
    stage = folder / "stages" / f"refine-{name}"
    stage.mkdir(parents=True)
    graph.save(stage / "graph.json")
    for path in (stage, folder):
        integer.save(path / "integer.json")
    x = np.zeros((1, *integer.tensors[integer.inputs[0]].shape), np.int8)
    vector = x.tobytes(), simulate.run(integer, x)[integer.outputs[0]].tobytes()
    write_firmware(folder / "firmware", emit(integer, load_target(target), test_vector=vector))
    write_bytes_atomic(folder / "model.tflite", to_tflite(integer))
    write_json_atomic(folder / "result.json", {"model": name, "target": target})
    preprocessing = {"size": list(SHAPE[1:]), "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3}
    write_json_atomic(folder / "run.json", {"preprocessing": preprocessing})
    return graph, integer
