"""The smaller entrances: what a network costs, and the proof of a finished run repeated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from thumbnet.cost import estimate
from thumbnet.emulation.verify import Proof, verify_firmware
from thumbnet.errors import RunError
from thumbnet.files import read_json
from thumbnet.graph.passes import clean
from thumbnet.importers import load
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.lower import lower
from thumbnet.progress import Progress
from thumbnet.results import Costs
from thumbnet.targets import load_target


def profile(
    model: Any,
    target: str | None = None,
    *,
    input_shape: tuple[int, ...] | None = None,
    weights: str | Path | None = None,
) -> Costs:
    """What a network costs on a target, layer by layer, estimated; nothing is trained or built.

    `model`: a finished run's directory (its target is the default), or anything `optimize` takes as a model.
    `input_shape` is (channels, height, width) where the model does not tell.
    """
    if isinstance(model, str | Path) and (Path(model) / "integer.json").is_file():
        run = Path(model)
        name = target or read_json(run / "result.json")["target"]
        return estimate(IntegerGraph.load(run / "integer.json"), load_target(name))
    board = load_target(target or "cortex-m4")
    return estimate(lower(clean(load(model, input_shape=input_shape, weights=weights)), None), board)


def verify(run_dir: str | Path, *, progress: Progress | None = None) -> Proof:
    """Builds a finished run's firmware again, runs it on the emulated core, and compares every byte.

    Raises `RunError` where the run has not finished.
    """
    run = Path(run_dir)
    needed = ("integer.json", "result.json", "proof_inputs.npy", "firmware/model.c")
    missing = [n for n in needed if not (run / n).is_file()]
    if missing:
        raise RunError(f"{run} holds no finished run ({missing[0]} is missing).", "Run 'thumbnet optimize' first.")
    graph = IntegerGraph.load(run / "integer.json")
    target = load_target(read_json(run / "result.json")["target"])
    inputs = np.load(run / "proof_inputs.npy", allow_pickle=False)
    progress = progress or Progress.quiet()
    with progress.stage("Verify on the emulated core", total=len(inputs)) as stage:
        return verify_firmware(run / "firmware", graph, target, inputs, progress=lambda: stage.advance(1))
