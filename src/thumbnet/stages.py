"""The stages of `optimize`, one function each. Every slow one keeps its result in the run directory."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from thumbnet.cost import estimate
from thumbnet.data.task import joined
from thumbnet.emulation.verify import Proof, verify_firmware
from thumbnet.errors import InfeasibleError, VerificationError
from thumbnet.exporters.c import emit, write_firmware
from thumbnet.exporters.tflite import to_tflite
from thumbnet.files import read_json, write_bytes_atomic, write_json_atomic
from thumbnet.front import front_figures, smallest_good, write_front
from thumbnet.graph.blocks import part
from thumbnet.graph.graph import Graph
from thumbnet.graph.passes import clean
from thumbnet.integer import simulate
from thumbnet.integer.lower import lower
from thumbnet.integer.passes.join_inputs import join_ports, joined_inputs
from thumbnet.job import Job
from thumbnet.kept import (
    Baseline,
    Finalist,
    Finished,
    load_facts,
    load_finished,
    load_search,
    load_tensors,
    load_variants,
    save_facts,
    save_finished,
    save_search,
    save_tensors,
    save_variants,
)
from thumbnet.pace import Pace
from thumbnet.progress import Progress
from thumbnet.refine import finish, integer_answers, judged, stored_inputs
from thumbnet.result import Result
from thumbnet.results import Trial
from thumbnet.robustness import corruptions_of, robustness
from thumbnet.runs import RunDirectory
from thumbnet.search.efforts import batch_of
from thumbnet.search.executors import run_tasks
from thumbnet.search.feasible import check_feasible, refusal
from thumbnet.search.front import budgets_for, propose_front
from thumbnet.search.halving import best_first
from thumbnet.search.halving import search as halve
from thumbnet.search.importance import importance
from thumbnet.search.insight import explain
from thumbnet.search.lesson import Lesson
from thumbnet.search.propose import Bench, propose
from thumbnet.search.recipe import Context
from thumbnet.search.space import Space, explore_space
from thumbnet.search.variants import Variant, Workshop, teachable, total_steps
from thumbnet.search.variants import teach as teach_block
from thumbnet.search.work import training_work
from thumbnet.summary import Tested, write_summary
from thumbnet.training.checkpoint import Checkpoints
from thumbnet.training.distill import objective_of, reference_outputs
from thumbnet.training.loop import Images, answered, draw_some
from thumbnet.training.module import GraphModule
from thumbnet.training.normalize import insert_batch_norm

IMPORTANCE_IMAGES = 256
NORM_IMAGES = 256
PROOF_IMAGES = 64
DISTILLATION_WEIGHT = 0.8


def load_reference(job: Job, run: RunDirectory, progress: Progress) -> Graph:
    """The imported network, kept in the run directory so that `profile` and `report` can read it later."""
    path = run.path / "reference.json"
    if not path.exists():
        job.graph.save(path)
    for note in job.data.notes:
        progress.note(f"Data: {note}")
    if job.task.name != "classification":
        progress.note(f"Task: {job.task.name}, judged by {job.task.metric.label}.")
    progress.note(f"Reference: {job.name}, {job.graph.parameters:,} parameters, {job.graph.macs / 1e6:.1f} M MACs.")
    if job.agreement:
        progress.note(f"Import: {job.agreement.sentence()}")
    if job.left_out:
        progress.note(job.left_out)
    return job.graph


def evaluate_reference(job: Job, run: RunDirectory, reference: Graph, progress: Progress) -> Baseline:
    """Answers of the reference on the training and the validation split; the test split stays closed."""

    def compute() -> dict[str, torch.Tensor]:
        module = GraphModule(clean(reference)).eval()  # the same function, faster
        training, validation = Images.of(job.data.train, job.preprocessing), Images.of(job.data.val, job.preprocessing)
        mirrored = job.augmentation.flip
        with progress.stage("Ask the reference", total=len(training) * (1 + mirrored) + len(validation)) as stage:
            outputs = reference_outputs(
                module, training, job.task, mirrored=mirrored, on_images=lambda n: stage.advance(n)
            )
            score, interval = judged(job.task, answered(module, validation))
            stage.advance(len(validation))
        found = {"val": torch.tensor([score, *interval], dtype=torch.float64)}
        return found | {f"train/{k}": y for k, y in enumerate(outputs)}

    kept = run.stage("baseline", f"{job.key}/interval", compute, save_tensors, load_tensors)
    outputs = tuple(kept[f"train/{k}"] for k in range(len(kept) - 1))
    score, metric = float(kept["val"][0]), job.task.metric
    if not outputs:
        progress.note("The reference's outputs are too large to keep: candidates learn from the targets alone.")
    costs = estimate(join_ports(lower(clean(reference), None, fixed=job.input_grid(reference))), job.target)
    name = "" if metric.key == "accuracy" else f"{metric.name} "
    progress.note(
        f"Reference: {name}{metric.text(score)} on validation; plain int8 would take {costs.flash_bytes / 1024:.0f} KB "
        f"of flash and {costs.ram_bytes / 1024:.0f} KB of RAM."
    )
    if job.limits.metric_limit is not None and metric.drop(job.limits.metric_limit, score) > 0:
        progress.note(f"The limit is {job.limits.bound(metric)}: the reference itself does not reach that.")
    return Baseline(outputs, score, costs, (float(kept["val"][1]), float(kept["val"][2])))


def normalize(job: Job, reference: Graph) -> Graph:
    """The lossless clean-up, then batch norms measured on data: the graph every recipe starts from."""
    images = Images.of(job.data.train, job.preprocessing)
    return insert_batch_norm(clean(reference), *images.inputs(draw_some(len(images), NORM_IMAGES, job.seed)))


def check_limits(job: Job, graph: Graph) -> None:
    """Raises `InfeasibleError` where no network of the design space can keep the limits on costs."""
    check_feasible(_space(job, graph), job.target, job.limits, job.name)


def explore(job: Job, run: RunDirectory, graph: Graph, baseline: Baseline, progress: Progress) -> tuple[Space, Context]:
    """The design space, and how much each channel and block matters."""
    space = _space(job, graph)
    progress.note(f"Design space: {space.summary()}.")
    images = Images.of(job.data.train, job.preprocessing)

    def compute() -> dict[str, torch.Tensor]:
        chosen = draw_some(len(images), IMPORTANCE_IMAGES, job.seed)
        with progress.stage("Weigh channels and blocks", total=len(chosen)) as stage:
            learned = objective_of(job.task)
            scores = importance(
                graph, space.groups, space.blocks, images, learned, chosen, on_images=lambda n: stage.advance(n)
            )
        channels = {f"channels/{k}": torch.from_numpy(v) for k, v in scores.channels.items()}
        return channels | {f"blocks/{k}": torch.tensor(v, dtype=torch.float64) for k, v in scores.blocks.items()}

    scores = run.stage("importance", job.key, compute, save_tensors, load_tensors)
    return space, Context(
        {g.id: scores[f"channels/{g.id}"].numpy() for g in space.groups},
        {b.name: float(scores[f"blocks/{b.name}"]) for b in space.blocks},
        colours=job.preprocessing.colours,
    )


def teach(
    job: Job, run: RunDirectory, space: Space, context: Context, baseline: Baseline, progress: Progress, pace: Pace
) -> tuple[tuple[tuple[Variant, ...], ...], Context]:
    """What each block can become, and what that costs in accuracy: variants that learned the reference's features. And
    the context with what they learned."""

    def compute() -> tuple[tuple[Variant, ...], ...]:
        blocks = teachable(space.graph) if job.effort.taught else ()
        lesson = _lesson(job, baseline)
        steps = pace.teaching(space, context, blocks, lesson)
        blocks = blocks if steps else ()
        total = sum(total_steps(part(space.graph, b), steps) for b in blocks)
        workshop = Workshop(space.graph, lesson, steps, frozenset(b.name for b in space.blocks))
        with progress.stage(f"Teach variants to {len(blocks)} blocks", total=total) as stage:
            return tuple(
                map(tuple, run_tasks(teach_block, workshop, blocks, workers=run.workers, on_step=stage.advance))
            )

    variants = run.stage("variants", job.key, compute, save_variants, load_variants)
    return variants, replace(context, taught={v.name: v.taught for own in variants for v in own})


def search(
    job: Job,
    run: RunDirectory,
    space: Space,
    context: Context,
    variants: tuple[tuple[Variant, ...], ...],
    baseline: Baseline,
    progress: Progress,
    pace: Pace,
) -> tuple[list[Finalist], list[Trial]]:
    """Candidates that fit, halved while they learn."""

    def compute() -> tuple[list[Finalist], list[Trial]]:
        bench = Bench(space, replace(context, taught={}), job.target, job.limits.tightened())
        budgets = budgets_for(bench, baseline.costs.flash_bytes) if job.front else None
        if budgets is None:
            proposals, misses = propose(bench, variants, job.effort, progress, run.workers)
        else:
            proposals, misses = propose_front(bench, budgets, variants, job.effort, progress, run.workers)
        if not proposals:
            raise InfeasibleError(*refusal(space, job.target, job.limits, job.name, misses))
        lesson = _lesson(job, baseline)
        candidates, trials = halve(
            space.graph,
            context,
            proposals,
            lesson,
            job.effort,
            progress,
            _checkpoints(job, run, "search"),
            run.workers,
            lambda first: pace.search(lesson, [c.graph for c in first]),
            budgets or best_first,
        )
        finalists = [Finalist(c.fitted.recipe.id, c.graph, c.curve) for c in candidates]
        return finalists, trials

    return run.stage("search", job.key, compute, save_search, load_search)


def refine(
    job: Job, run: RunDirectory, finalists: list[Finalist], baseline: Baseline, progress: Progress, pace: Pace
) -> list[Finished]:
    """Each finalist trained to the end, quantization-aware, and lowered."""
    lesson = _lesson(job, baseline)

    def refined(finalist: Finalist) -> Finished:
        name = f"refine-{finalist.recipe_id}"

        def compute() -> Finished:
            waiting = [f.graph for f in finalists[finalists.index(finalist) :]]
            steps = pace.final(waiting, lesson, finalist.recipe_id)
            return finish(
                *(job, finalist, lesson, _checkpoints(job, run, name), progress, steps),
                lambda floating: pace.quantized(floating, lesson, finalist.recipe_id, steps),
            )

        return run.stage(name, job.key, compute, save_finished, load_finished)

    return [refined(f) for f in finalists]


def select(job: Job, finished: list[Finished], baseline: Baseline, progress: Progress) -> Finished:
    """The best integer network on validation, of those that keep the limits on costs where any does.

    If one keeps the limits on quality, so does the best; of a front it is the smallest of them. If none does, the best
    goes on all the same, and that is told: the test split judges in the end (`Result.missed`).
    """
    metric, limits = job.task.metric, job.limits
    sign = -1 if metric.higher_is_better else 1

    def rank(f: Finished) -> tuple[float, float, int, str]:
        excess = max(limits.violations(f.costs).values(), default=0.0)
        return (excess, sign * f.val_accuracy, f.costs.flash_bytes, f.recipe_id)

    best = (smallest_good(job, finished, baseline) if job.front else None) or min(finished, key=rank)
    drop = metric.drop(baseline.val_accuracy, best.val_accuracy)
    missed = [*limits.exceeded(best.costs), *limits.worse(metric, drop, best.val_accuracy, "validation")]
    if missed:
        progress.note(f"The best network found misses a limit: {', '.join(missed)}. It is built and verified anyway.")
    return best


def insight(
    job: Job,
    run: RunDirectory,
    space: Space,
    context: Context,
    baseline: Baseline,
    trials: list[Trial],
    best: Finished,
    progress: Progress,
) -> dict[str, Any]:
    """Why this architecture: what matters in the reference, and what each change of the recipe cost and gained."""

    def compute() -> dict[str, Any]:
        with progress.stage("Explain the architecture", total=1) as stage:
            lesson = _lesson(job, baseline)
            found = explain(space, context, lesson, job.target, job.limits, trials, best.recipe_id)
            stage.advance(1, info=f"{len(found['moves'])} changes")
            return found

    return run.stage("insight", f"{job.key}/{best.recipe_id}", compute, save_facts, load_facts)


def export(job: Job, run: RunDirectory, best: Finished) -> Path:
    """Writes the firmware folder and the TFLite file; returns the folder."""
    preprocessing = job.preprocessing_at(best.shape)
    first = best.integer.tensors[best.integer.inputs[0]]
    graph = join_ports(best.integer)
    example = joined_inputs(best.integer, stored_inputs(job, best.integer, job.data.val, 1))
    expected = simulate.run(graph, example)[graph.outputs[0]]
    files = emit(
        graph,
        job.target,
        preprocessing={
            **preprocessing.json(),
            "classes": list(job.data.classes) if job.task.names_outputs else [],
            "table": preprocessing.table(first.scale, first.zero_point),
        },
        test_vector=(example[0].tobytes(), expected[0].tobytes()),
        feeds=[best.integer.tensors[v] for v in best.integer.inputs],
        parts=[best.integer.tensors[v] for v in best.integer.outputs],
        stack_bytes=best.costs.stack_bytes,
    )
    folder = run.path / "firmware"
    write_firmware(folder, files)
    best.integer.save(run.path / "integer.json")
    write_bytes_atomic(run.path / "model.tflite", to_tflite(best.integer))
    return folder


def verify(job: Job, run: RunDirectory, best: Finished, firmware: Path, progress: Progress) -> Proof:
    """Builds the firmware, runs it on the emulated core over validation images, and compares every byte."""
    inputs = joined_inputs(best.integer, stored_inputs(job, best.integer, job.data.val, PROOF_IMAGES))
    np.save(run.path / "proof_inputs.npy", inputs, allow_pickle=False)

    def compute() -> Proof:
        with progress.stage("Verify on the emulated core", total=len(inputs)) as stage:
            return verify_firmware(firmware, best.integer, job.target, inputs, progress=lambda: stage.advance(1))

    def store(folder: Path, proof: Proof) -> None:
        write_json_atomic(folder / "proof.json", proof.json())

    def load(folder: Path) -> Proof:
        return Proof.from_json(read_json(folder / "proof.json"))

    proof = run.stage("verify", _digest(firmware), compute, store, load)
    if not proof.bit_exact:
        raise VerificationError(
            f"The firmware in {firmware} differs from the reference arithmetic: {proof.mismatches[:1]}.",
            "This is a bug in Thumbnet; please report it with this run directory.",
        )
    return proof


def training(
    job: Job,
    space: Space,
    variants: tuple[tuple[Variant, ...], ...],
    trials: list[Trial],
    finished: list[Finished],
    best: Finished,
) -> dict[str, int]:
    """How much was trained, for the record and for comparisons at equal work."""
    batch = batch_of(len(job.data.train))
    return training_work(space.graph, variants, trials, [f.curves for f in finished], batch, best.costs.macs)


def report(
    job: Job,
    run: RunDirectory,
    reference: Graph,
    baseline: Baseline,
    trials: list[Trial],
    finished: list[Finished],
    best: Finished,
    proof: Proof,
    insight: dict[str, Any],
    training: dict[str, int],
    progress: Progress,
) -> Result:
    """Opens the test split, which nothing before has seen, and writes result.json, details.json and report.html."""
    test = Images.of(job.data.test, job.preprocessing)
    with progress.stage("Test both networks", total=2) as stage:
        with torch.inference_mode():
            before = [job.task.answers(b) for b in answered(GraphModule(reference), test)]
        stage.advance(1)
        tried = finished if job.front else [best]
        after = {
            f.recipe_id: joined([job.task.answers(b) for b in integer_answers(job, f.integer, job.data.test)])
            for f in tried
        }
        stage.advance(1)
    front = front_figures(job, finished, best, after) if job.front else []
    write_front(run.path, finished if job.front else [])
    tested = Tested(joined(before), after[best.recipe_id], _robustness(job, run, reference, best, progress), front)
    return write_summary(job, run, reference, baseline, trials, finished, best, proof, tested, insight, training)


def _robustness(job: Job, run: RunDirectory, reference: Graph, best: Finished, progress: Progress) -> dict[str, Any]:
    """Both networks on test samples with noise, blur and other light."""

    def compute() -> dict[str, Any]:
        conditions = 1 + sum(len(c.severities) for c in corruptions_of(job))
        with progress.stage("Test with noise, blur and other light", total=conditions) as stage:
            return robustness(job, reference, best.integer, lambda name: stage.advance(1, info=name))

    return run.stage("robustness", f"{job.key}/{best.integer.digest}", compute, save_facts, load_facts)


# --- helpers


def _space(job: Job, graph: Graph) -> Space:
    return explore_space(graph, resizable=job.resizable, greys=job.greys(graph))


def _lesson(job: Job, baseline: Baseline) -> Lesson:
    teacher = baseline.train_outputs
    return Lesson(
        train=job.data.train,
        val=job.data.val,
        preprocessing=job.preprocessing,
        teacher=teacher[0] if len(teacher) == 1 and teacher[0].ndim == 2 else None,
        objective=objective_of(job.task, teacher, DISTILLATION_WEIGHT),
        augmentation=job.augmentation,
        seed=job.seed,
        task=job.task,
    )


def _checkpoints(job: Job, run: RunDirectory, stage: str) -> Checkpoints:
    return Checkpoints(run.unfinished(stage), job.key)


def _digest(firmware: Path) -> str:
    """SHA-256 over names and contents of the sources; what a build left beside them does not count."""
    total = hashlib.sha256()
    for path in sorted(p for p in firmware.rglob("*") if p.is_file()):
        name, content = path.relative_to(firmware).as_posix(), path.read_bytes()
        if not name.startswith("build/"):
            total.update(f"{name}\0{len(content)}\0".encode() + content)
    return total.hexdigest()
