"""The methods that the headline benchmark compares. Each gives an integer network and the training steps it took."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from headline_grid import tuned
from headline_pruning import pruned
from headline_setting import Setting, Size, Width, batches

import thumbnet
from thumbnet.graph.graph import Graph
from thumbnet.graph.passes import clean
from thumbnet.importers.quantized_models import load_integer_graph
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.lower import lower
from thumbnet.runs import RunDirectory
from thumbnet.training.loop import Images, draw_some
from thumbnet.training.module import GraphModule
from thumbnet.training.quantize_aware import QuantizedModule, calibrate

CALIBRATION_IMAGES = 512


@dataclass(frozen=True, eq=False)
class Outcome:
    """An integer network, the steps of all networks that were trained for it, and what was chosen, in words."""

    integer: IntegerGraph
    steps: int
    note: str


@dataclass(frozen=True)
class Method:
    """`run(setting, folder, steps)`: `steps` is what Thumbnet took, 0 where the method does not train."""

    name: str
    title: str
    run: Callable[[Setting, Path, int], Outcome]
    fits: bool = True  # whether it is made to fit the limits
    trains: bool = True  # whether it takes as many steps as Thumbnet did


def by_thumbnet(setting: Setting, folder: Path, steps: int) -> Outcome:
    """The product as users call it."""
    p = setting.problem
    thumbnet.optimize(
        setting.reference,
        setting.data,
        target=p.target,
        flash=f"{setting.flash_kb}KB",
        ram=f"{p.ram_kb}KB",
        effort=setting.effort,
        seed=setting.seed,
        run_dir=folder,
        input_size=p.size,
        mean=p.mean,
        std=p.std,
        augment=p.augment,
        progress=setting.progress,
    )
    taken = training_steps(folder)
    return Outcome(load_integer_graph(folder / "integer.json"), taken, f"{taken} steps of all networks it trained")


def by_ptq(setting: Setting, folder: Path, steps: int) -> Outcome:
    """Post-training int8 of the reference: ranges from training images, weights as they are."""
    job = setting.job
    graph = clean(job.graph)
    student = QuantizedModule(graph, job.input_grid(graph))
    training = Images.of(job.data.train, job.preprocessing)
    calibrate(student, list(batches(training, draw_some(len(training), CALIBRATION_IMAGES, setting.seed))))
    integer = lower(student.to_graph(), student.ranges(), fixed=job.input_grid(graph))
    return Outcome(integer, 0, f"ranges from {min(CALIBRATION_IMAGES, len(training))} training images")


def by_uniform_width(setting: Setting, folder: Path, steps: int) -> Outcome:
    """All widths times one factor, channels and weights by importance; then distillation as Thumbnet's finalists."""
    with RunDirectory.open(folder, identity(setting, steps), setting.progress) as run:
        width, size, graph = widest_uniform(setting)
        module = setting.inherited(graph, setting.lesson)
        integer = setting.finished(module, steps, run)
    return Outcome(integer, steps, f"{width} at {size[0]} × {size[1]}")


def widest_uniform(setting: Setting) -> tuple[Width, Size, Graph]:
    """The widest network that any resolution allows, at the largest resolution that allows it.

    Flash hardly depends on the resolution, so this uses all of it; where RAM does not hold the images, they shrink.
    """
    fitting = {size: setting.widest(size) for size in setting.resolutions()}
    known = {size: width for size, width in fitting.items() if width is not None}
    if not known:
        raise setting.too_large()
    graphs = {size: setting.narrowed(width, size) for size, width in known.items()}
    size = max(graphs, key=lambda s: (graphs[s].parameters, s))
    return known[size], size, graphs[size]


def by_pruning(setting: Setting, folder: Path, steps: int) -> Outcome:
    """torch-pruning's global magnitude pruning, fine-tuned on labels."""
    with RunDirectory.open(folder, identity(setting, steps), setting.progress) as run:
        found, lesson = pruned(setting)
        integer = setting.finished(setting.inherited(found.graph, lesson), steps, run, lesson)
    return Outcome(integer, steps, str(found))


def by_grid(setting: Setting, folder: Path, steps: int) -> Outcome:
    """Width and resolution tuned with Optuna; the best short training goes on to the end."""
    with RunDirectory.open(folder, identity(setting, steps), setting.progress) as run:
        best = tuned(setting, steps, run)
        integer = setting.finished(GraphModule(best.graph), steps - best.spent, run)
    return Outcome(integer, steps, best.note)


def identity(setting: Setting, steps: int) -> dict[str, object]:
    return {**setting.job.identity, "steps": steps}


def training_steps(run_dir: Path) -> int:
    """Optimizer steps of all networks that a run of `thumbnet.optimize` trained, what its blocks learned included."""
    return int(json.loads((run_dir / "result.json").read_text())["training"]["equivalent_steps"])


METHODS = {
    m.name: m
    for m in (
        Method("ptq", "Post-training int8 of the reference", by_ptq, fits=False, trains=False),
        Method("thumbnet", "Thumbnet", by_thumbnet, trains=False),
        Method("uniform", "Uniform width, distilled", by_uniform_width),
        Method("pruning", "Global magnitude pruning", by_pruning),
        Method("grid", "Width and resolution tuned (Optuna)", by_grid),
    )
}
