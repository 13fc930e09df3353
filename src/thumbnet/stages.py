"""The stages of `optimize`, one function each. Every slow one keeps its result in the run directory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file

from thumbnet.cost import estimate
from thumbnet.data import Augmentation
from thumbnet.emulation.verify import Proof, verify_firmware
from thumbnet.errors import InfeasibleError, VerificationError
from thumbnet.exporters.c import emit, write_firmware
from thumbnet.exporters.tflite import to_tflite
from thumbnet.files import read_json, write_bytes_atomic, write_json_atomic
from thumbnet.graph.graph import Graph
from thumbnet.graph.passes import clean
from thumbnet.integer import simulate
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.lower import lower
from thumbnet.job import Job
from thumbnet.progress import Progress
from thumbnet.result import Result
from thumbnet.results import Costs, Trial, trial_from_json
from thumbnet.runs import RunDirectory
from thumbnet.search.fit import Fitted, Fitter
from thumbnet.search.halving import Lesson, propose
from thumbnet.search.halving import search as halve
from thumbnet.search.importance import channel_importance
from thumbnet.search.recipe import Context
from thumbnet.search.space import Space, explore_space
from thumbnet.summary import write_summary
from thumbnet.training.distill import CrossEntropy, Distillation, teacher_outputs
from thumbnet.training.loop import Images, Point, Schedule, accuracy, predict, recalibrate, train
from thumbnet.training.module import GraphModule
from thumbnet.training.normalize import insert_batch_norm, restore_names
from thumbnet.training.quantize_aware import QuantizedModule

IMPORTANCE_IMAGES = 256
NORM_IMAGES = 256
PROOF_IMAGES = 64
FLOAT_RATE, QUANTIZED_RATE = 2e-3, 2e-4
FROZEN_RANGES = 0.5  # last part of quantization-aware training in which the ranges no longer move


@dataclass(frozen=True, eq=False)
class Baseline:
    """The reference as it came: its answers (soft targets for the students) and what plain int8 would need."""

    train_outputs: torch.Tensor  # [N, classes]
    val_outputs: torch.Tensor
    val_accuracy: float
    costs: Costs  # estimated, for the reference lowered as it is


@dataclass(frozen=True, eq=False)
class Finalist:
    """A network that came through the search, in float, with batch norms."""

    recipe_id: str
    graph: Graph
    curve: tuple[Point, ...]


@dataclass(frozen=True, eq=False)
class Finished:
    """A finalist after distillation and quantization-aware training: the integer network."""

    recipe_id: str
    integer: IntegerGraph
    graph: Graph  # the float network it was lowered from
    val_accuracy: float  # percent, of the integer network
    costs: Costs
    curves: dict[str, tuple[Point, ...]]

    @property
    def size(self) -> tuple[int, int]:
        height, width, _ = self.integer.tensors[self.integer.inputs[0]].shape
        return height, width


def load_reference(job: Job, run: RunDirectory, progress: Progress) -> Graph:
    """The imported network, kept in the run directory so that `profile` and `report` can read it later."""
    path = run.path / "reference.json"
    if not path.exists():
        job.graph.save(path)
    for note in job.data.notes:
        progress.note(f"Data: {note}")
    progress.note(f"Reference: {job.name}, {job.graph.parameters:,} parameters, {job.graph.macs / 1e6:.1f} M MACs.")
    return job.graph


def evaluate_reference(job: Job, run: RunDirectory, reference: Graph, progress: Progress) -> Baseline:
    """Answers of the reference on the training and the validation split; the test split stays closed."""

    def compute() -> dict[str, torch.Tensor]:
        module = GraphModule(reference).eval()
        training, validation = Images.of(job.data.train, job.preprocessing), Images.of(job.data.val, job.preprocessing)
        with progress.stage("Ask the reference", total=len(training) * 2 + len(validation)) as stage:
            outputs = teacher_outputs(module, training, mirrored=True, on_images=lambda n: stage.advance(n))
            answers = teacher_outputs(module, validation, mirrored=False, on_images=lambda n: stage.advance(n))
        return {"train": outputs, "val": answers}

    outputs = run.stage("baseline", job.key, compute, _save_tensors, _load_tensors)
    labels = torch.from_numpy(np.asarray(job.data.val.labels))
    score = accuracy(outputs["val"], labels)
    costs = estimate(lower(clean(reference), None, fixed=_input_grid(job, reference)), job.target)
    progress.note(
        f"Reference: {score:.1f} % on validation; plain int8 would take {costs.flash_bytes / 1024:.0f} KB of flash "
        f"and {costs.ram_bytes / 1024:.0f} KB of RAM."
    )
    return Baseline(outputs["train"], outputs["val"], score, costs)


def normalize(job: Job, reference: Graph) -> Graph:
    """The lossless clean-up, then batch norms measured on data: the graph every recipe starts from."""
    images = Images.of(job.data.train, job.preprocessing)
    return insert_batch_norm(clean(reference), images.normalized(_some(len(images), NORM_IMAGES, job.seed)))


def explore(job: Job, run: RunDirectory, graph: Graph, baseline: Baseline, progress: Progress) -> tuple[Space, Context]:
    """The design space, and how much each channel matters."""
    space = explore_space(graph)
    progress.note(f"Design space: {space.summary()}.")
    images = Images.of(job.data.train, job.preprocessing)

    def compute() -> dict[str, torch.Tensor]:
        chosen = _some(len(images), IMPORTANCE_IMAGES, job.seed)
        with progress.stage("Weigh channels by importance", total=1) as stage:
            scores = channel_importance(graph, space.groups, images, CrossEntropy(), chosen)
            stage.advance(1)
        return {k: torch.from_numpy(v) for k, v in scores.items()}

    scores = run.stage("importance", job.key, compute, _save_tensors, _load_tensors)
    return space, Context({k: v.numpy() for k, v in scores.items()})


def search(
    job: Job, run: RunDirectory, space: Space, context: Context, baseline: Baseline, progress: Progress
) -> tuple[list[Finalist], list[Trial]]:
    """Candidates that fit, halved while they learn."""

    def compute() -> tuple[list[Finalist], list[Trial]]:
        fitter = Fitter(space, context, job.target, job.limits)
        proposals, misses = propose(fitter, job.effort, progress)
        if not proposals:
            raise InfeasibleError(*_nearest_misses(job, misses))
        candidates, trials = halve(space.graph, context, proposals, _lesson(job, baseline), job.effort, progress)
        finalists = [Finalist(c.fitted.recipe.id, c.module.to_graph(), c.curve) for c in candidates]
        return finalists, trials

    return run.stage("search", job.key, compute, _save_search, _load_search)


def refine(
    job: Job, run: RunDirectory, finalists: list[Finalist], baseline: Baseline, progress: Progress
) -> list[Finished]:
    """Each finalist trained to the end, quantization-aware, and lowered."""
    lesson = _lesson(job, baseline)
    return [
        run.stage(
            f"refine-{f.recipe_id}",
            job.key,
            lambda f=f: _finish(job, f, lesson, progress),  # type: ignore[misc]
            _save_finished,
            _load_finished,
        )
        for f in finalists
    ]


def select(job: Job, finished: list[Finished], baseline: Baseline) -> Finished:
    """The best integer network on validation; the test split then judges whether it keeps `max_drop`."""
    return min(finished, key=lambda f: (-f.val_accuracy, f.costs.flash_bytes, f.recipe_id))


def export(job: Job, run: RunDirectory, best: Finished) -> Path:
    """Writes the firmware folder and the TFLite file; returns the folder."""
    preprocessing = replace(job.preprocessing, size=best.size)
    first = best.integer.tensors[best.integer.inputs[0]]
    files = emit(
        best.integer,
        job.target,
        preprocessing={
            **preprocessing.json(),
            "classes": list(job.data.classes),
            "table": preprocessing.table(first.scale, first.zero_point),
        },
        test_vector=_test_vector(job, best),
    )
    folder = run.path / "firmware"
    write_firmware(folder, files)
    best.integer.save(run.path / "integer.json")
    write_bytes_atomic(run.path / "model.tflite", to_tflite(best.integer))
    return folder


def verify(job: Job, run: RunDirectory, best: Finished, firmware: Path, progress: Progress) -> Proof:
    """Builds the firmware, runs it on the emulated core over test images, and compares every byte."""
    inputs = quantized(job, best, PROOF_IMAGES)
    np.save(run.path / "proof_inputs.npy", inputs, allow_pickle=False)

    def compute() -> Proof:
        with progress.stage("Verify on the emulated core", total=len(inputs)) as stage:
            return verify_firmware(firmware, best.integer, job.target, inputs, progress=lambda: stage.advance(1))

    def store(folder: Path, proof: Proof) -> None:
        write_json_atomic(folder / "proof.json", proof.json())

    proof = run.stage(
        "verify", best.integer.digest, compute, store, lambda folder: Proof.from_json(read_json(folder / "proof.json"))
    )
    if not proof.bit_exact:
        raise VerificationError(
            f"The firmware in {firmware} differs from the reference arithmetic: {proof.mismatches[:1]}.",
            "This is a bug in Thumbnet; please report it with this run directory.",
        )
    return proof


def report(
    job: Job,
    run: RunDirectory,
    reference: Graph,
    baseline: Baseline,
    trials: list[Trial],
    finished: list[Finished],
    best: Finished,
    proof: Proof,
    progress: Progress,
) -> Result:
    """Opens the test split, once, and writes result.json, details.json and report.html."""
    test = Images.of(job.data.test, job.preprocessing)
    with progress.stage("Test both networks", total=2) as stage:
        before = predict(GraphModule(reference), test)
        stage.advance(1)
        after = integer_outputs(best.integer, quantized(job, best, None))
        stage.advance(1)
    return write_summary(job, run, reference, baseline, trials, finished, best, proof, before, after)


# --- helpers


def quantized(job: Job, best: Finished, count: int | None) -> npt.NDArray[np.int8]:
    """The first `count` test images as the firmware gets them."""
    preprocessing = replace(job.preprocessing, size=best.size)
    first = best.integer.tensors[best.integer.inputs[0]]
    images = job.data.test.images(best.size)
    if count is not None:  # spread over the split: test sets are often sorted by class
        images = images[np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int)]
    return preprocessing.quantize(images, first.scale, first.zero_point)


def integer_outputs(graph: IntegerGraph, inputs: npt.NDArray[np.int8]) -> torch.Tensor:
    """Dequantized outputs [N, classes] of the integer simulator."""
    out = graph.tensors[graph.outputs[0]]
    stored = simulate.run(graph, inputs)[graph.outputs[0]]
    return (torch.from_numpy(stored.reshape(len(stored), -1)).float() - out.zero_point) * out.scale


def _finish(job: Job, finalist: Finalist, lesson: Lesson, progress: Progress) -> Finished:
    training, validation = lesson.images(finalist.graph.inputs[0].shape[1:])  # type: ignore[arg-type]
    module = GraphModule(finalist.graph)
    epoch = max(1, len(training) // 32)
    steps = math.ceil(job.effort.final_epochs * epoch)
    with progress.stage("Distil the finalist", total=steps) as stage:
        floating = train(
            module,
            training,
            lesson.objective,
            Schedule(steps, rate=FLOAT_RATE, warmup=0.05, average=0.99),
            augmentation=lesson.augmentation,
            seed=job.seed,
            evaluate=lambda m: accuracy(predict(m, validation), validation.labels),
            on_step=lambda info: stage.advance(1, info=info),
        )
    recalibrate(module, training, _some(len(training), 512, job.seed))
    graph = restore_names(clean(module.to_graph()))
    student = QuantizedModule(graph, _input_grid(job, graph))
    steps = math.ceil(job.effort.quantized_epochs * epoch)
    frozen_from, done = round(steps * (1 - FROZEN_RANGES)), itertools.count(1)
    with progress.stage("Train quantization-aware", total=steps) as stage:

        def on_step(info: str) -> None:
            student.observing = next(done) < frozen_from
            stage.advance(1, info=info)

        quantization = train(
            student,
            training,
            lesson.objective,
            Schedule(steps, rate=QUANTIZED_RATE, warmup=0.05, weight_decay=0.0),
            augmentation=lesson.augmentation,
            seed=job.seed + 1,
            evaluate=lambda m: accuracy(predict(m, validation), validation.labels),
            on_step=on_step,
        )
    trained = student.to_graph()
    integer = lower(trained, student.ranges(), fixed=_input_grid(job, trained))
    costs = estimate(integer, job.target)
    finished = Finished(
        finalist.recipe_id,
        integer,
        trained,
        0.0,
        costs,
        {"search": finalist.curve, "distillation": floating.curve, "quantization-aware": quantization.curve},
    )
    preprocessing = replace(job.preprocessing, size=finished.size)
    first = integer.tensors[integer.inputs[0]]
    inputs = preprocessing.quantize(job.data.val.images(finished.size), first.scale, first.zero_point)
    return replace(finished, val_accuracy=accuracy(integer_outputs(integer, inputs), validation.labels))


def _lesson(job: Job, baseline: Baseline) -> Lesson:
    return Lesson(
        train=job.data.train,
        val=job.data.val,
        preprocessing=job.preprocessing,
        teacher=baseline.train_outputs,
        objective=Distillation(baseline.train_outputs, weight=0.8),
        augmentation=Augmentation.surface() if job.data.kind == "image" else Augmentation.none(),
        seed=job.seed,
    )


def _input_grid(job: Job, graph: Graph) -> dict[str, tuple[float, int]]:
    """Quantization of the input, fixed so that a pixel becomes its stored byte without arithmetic where possible."""
    return {graph.inputs[0].name: job.preprocessing.input_qparams()}


def _test_vector(job: Job, best: Finished) -> tuple[bytes, bytes]:
    inputs = quantized(job, best, 1)
    return inputs[0].tobytes(), simulate.run(best.integer, inputs)[best.integer.outputs[0]][0].tobytes()


def _some(total: int, count: int, seed: int) -> torch.Tensor:
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:count]


def _nearest_misses(job: Job, misses: Iterable[Fitted]) -> tuple[str, str]:
    ranked = sorted(misses, key=lambda m: (max(m.violations.values()), m.recipe.id))
    if not ranked:
        return "No network of this design space could be made smaller at all.", "Try another reference."
    nearest = ranked[0]
    c = nearest.costs
    over = ", ".join(f"{name} {factor:.2f} times the limit" for name, factor in nearest.violations.items())
    return (
        f"Nothing in the design space of '{job.name}' fits these limits on {job.target.name}.",
        f"The nearest needs {c.flash_bytes / 1024:.0f} KB of flash, {c.ram_bytes / 1024:.0f} KB of RAM, "
        f"{c.latency_ms:.0f} ms ({over}): allow that much, or choose a smaller reference.",
    )


# --- what stages keep


def _save_tensors(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "tensors.safetensors")


def _load_tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "tensors.safetensors")


def _save_search(folder: Path, found: tuple[list[Finalist], list[Trial]]) -> None:
    finalists, trials = found
    for finalist in finalists:
        finalist.graph.save(folder / f"{finalist.recipe_id}.json")
    write_json_atomic(
        folder / "search.json",
        {
            "finalists": [{"id": f.recipe_id, "curve": list(f.curve)} for f in finalists],
            "trials": [asdict(t) for t in trials],
        },
    )


def _load_search(folder: Path) -> tuple[list[Finalist], list[Trial]]:
    data = read_json(folder / "search.json")
    finalists = [
        Finalist(f["id"], Graph.load(folder / f"{f['id']}.json"), tuple(f["curve"])) for f in data["finalists"]
    ]
    return finalists, [trial_from_json(t) for t in data["trials"]]


def _save_finished(folder: Path, finished: Finished) -> None:
    finished.integer.save(folder / "integer.json")
    finished.graph.save(folder / "graph.json")
    write_json_atomic(
        folder / "finished.json",
        {
            "id": finished.recipe_id,
            "val_accuracy": finished.val_accuracy,
            "costs": asdict(finished.costs),
            "curves": finished.curves,
        },
    )


def _load_finished(folder: Path) -> Finished:
    from thumbnet.results import costs_from_json

    data = read_json(folder / "finished.json")
    return Finished(
        data["id"],
        IntegerGraph.load(folder / "integer.json"),
        Graph.load(folder / "graph.json"),
        data["val_accuracy"],
        costs_from_json(data["costs"]),
        {k: tuple(v) for k, v in data["curves"].items()},
    )
