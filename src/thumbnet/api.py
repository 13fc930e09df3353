"""The smaller entrances: what a network costs, and the proof of a finished run or a compiled firmware repeated."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thumbnet import compiled
from thumbnet.compiler import costs_of, figures, oracle_of
from thumbnet.cost import estimate
from thumbnet.cost.limit import Cascades, cascades, within
from thumbnet.cost.order import reordered
from thumbnet.cost.peak import Peak, peak
from thumbnet.emulation.cmsis_nn import locate
from thumbnet.emulation.verify import Oracle, Proof, verify_firmware
from thumbnet.errors import RunError, UsageError
from thumbnet.files import read_json
from thumbnet.graph.passes import clean
from thumbnet.importers import load
from thumbnet.importers.quantized_models import is_quantized, load_integer_graph, load_quantized
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.lower import lower
from thumbnet.integer.passes import lossless
from thumbnet.integer.passes.join_inputs import join_ports
from thumbnet.progress import Progress
from thumbnet.results import Costs
from thumbnet.targets import Isa, Target, load_target


@dataclass(frozen=True, eq=False)
class Profile:
    """What a network costs on a target, and what makes its arena as large as it is."""

    graph: IntegerGraph
    target: Target
    costs: Costs
    peak: Peak
    cascades: Cascades | None

    def json(self) -> dict[str, Any]:
        head = {"model": self.graph.name, "target": self.target.name, "core": self.target.core.name}
        more = {"peak": self.peak.json(), "cascades": self.cascades.json() if self.cascades else None}
        return {**head, **figures(self.graph, self.costs, None), **more}


def profile(
    model: Any,
    target: str | None = None,
    *,
    input_shape: tuple[int, ...] | None = None,
    weights: str | Path | None = None,
) -> Costs:
    """What a network costs on a target, layer by layer, estimated; nothing is trained or built.

    `model`: a finished run's or a compiled firmware's directory (its target is the default), a quantized model as
    `compile` takes it (lossless passes applied), or anything `optimize` takes. `input_shape` is (channels, height,
    width) where the model does not tell.
    """
    return profile_fully(model, target, input_shape=input_shape, weights=weights).costs


def profile_fully(
    model: Any,
    target: str | None = None,
    *,
    input_shape: tuple[int, ...] | None = None,
    weights: str | Path | None = None,
) -> Profile:
    """As `profile`, with the graph, the target, and who causes the peak of RAM."""
    if isinstance(model, str | Path) and compiled.is_compiled(Path(model)) and compiled.calls_cmsis_nn(Path(model)):
        raise UsageError(
            f"{model} calls CMSIS-NN, whose costs are not modelled.", "Run 'thumbnet verify': it counts them."
        )
    board = load_target(target) if target else _target_of(model)
    graph = _integer_graph(model, input_shape, weights, board.core.isa)
    units, plan = within(graph, board, _limit_of(model))
    costs = estimate(graph, board, plan, units)
    return Profile(graph, board, costs, peak(graph, plan), cascades(graph, board, units, plan))


def _limit_of(model: Any) -> int | None:
    """The limit of RAM that a firmware was compiled for."""
    if isinstance(model, str | Path) and compiled.is_compiled(Path(model)):
        limit = compiled.read_options(Path(model)).get("ram")
        return limit if isinstance(limit, int) else None
    return None


def _target_of(model: Any) -> Target:
    """The target that a directory was made for; a Cortex-M4 for everything else."""
    folder = Path(model) if isinstance(model, str | Path) else None
    if folder is not None and compiled.is_compiled(folder):
        return compiled.read_target(folder)
    if folder is not None and (folder / "integer.json").is_file():
        return load_target(read_json(folder / "result.json")["target"])
    return load_target("cortex-m4")


def _integer_graph(
    model: Any, input_shape: tuple[int, ...] | None, weights: str | Path | None, isa: Isa
) -> IntegerGraph:
    if isinstance(model, str | Path) and (Path(model) / "integer.json").is_file():
        return join_ports(load_integer_graph(Path(model) / "integer.json"))
    if is_quantized(model):
        return reordered(join_ports(lossless(load_quantized(model).graph)), isa)
    return join_ports(lower(clean(load(model, input_shape=input_shape, weights=weights)), None))


def verify(folder: str | Path, *, cmsis_nn: str | Path | None = None, progress: Progress | None = None) -> Proof:
    """Builds the firmware of a finished run, or a compiled one, again, runs it on the emulated core, and compares
    every byte.

    `cmsis_nn` is the library's folder for firmware that calls it, by default the one it was compiled with. Raises
    `RunError` where the folder holds neither.
    """
    return verify_fully(folder, cmsis_nn=cmsis_nn, progress=progress)[0]


def verify_fully(
    folder: str | Path, *, cmsis_nn: str | Path | None = None, progress: Progress | None = None
) -> tuple[Proof, dict[str, Any]]:
    """As `verify`, with the figures for programs: those of the proof, and what `compile` and `profile` tell, too."""
    root = Path(folder)
    is_compiled = compiled.is_compiled(root)
    needed = ["integer.json", "proof_inputs.npy", *(() if is_compiled else ("result.json", "firmware/model.c"))]
    missing = [str(root / n) for n in needed if not (root / n).is_file()]
    if missing:
        raise RunError(
            f"{root} holds no finished run and no compiled firmware ({Path(missing[0]).name} is missing).",
            "Run 'thumbnet optimize' or 'thumbnet compile' first.",
        )
    graph, oracle, library = load_integer_graph(root / "integer.json"), None, None
    if is_compiled:
        if compiled.calls_cmsis_nn(root):
            library = locate(cmsis_nn or str(compiled.read_options(root).get("cmsis_nn", "")))
        target, inputs, oracle = compiled.read_target(root), compiled.read_inputs(root), _oracle(root)
    else:
        target = load_target(read_json(root / "result.json")["target"])
        inputs = np.load(root / "proof_inputs.npy", allow_pickle=False)
    progress = progress or Progress.quiet()
    with (
        compiled.buildable(root) if is_compiled else nullcontext(root / "firmware") as firmware,
        progress.stage("Verify on the emulated core", total=len(inputs)) as stage,
    ):
        proof = verify_firmware(
            firmware, graph, target, inputs, progress=lambda: stage.advance(1), oracle=oracle, library=library
        )
    return proof, {**proof.json(), **figures(graph, costs_of(graph, proof, target), proof)}


def _oracle(folder: Path) -> Oracle | None:
    """TFLite Micro on the original file that was compiled, if it was one."""
    if not (folder / compiled.ORIGINAL).is_file():
        return None
    softmax = "drop" if compiled.read_options(folder).get("softmax") == "drop" else "keep"
    return oracle_of(load_quantized(folder), softmax)  # type: ignore[arg-type]  # one of the two
