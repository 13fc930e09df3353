"""A run's figures, written down: `result.json` for programs, `details.json` for the report."""

from __future__ import annotations

import base64
import hashlib
import io
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from thumbnet.cost.latency import energy_mj, latency_ms
from thumbnet.cost.memory import plan_arena
from thumbnet.data import Classification, Task
from thumbnet.data.task import Arrays, one
from thumbnet.emulation.verify import Proof
from thumbnet.files import write_json_atomic
from thumbnet.graph.graph import Graph
from thumbnet.graph.ops import op_of
from thumbnet.integer.passes.join_inputs import join_ports
from thumbnet.job import Job
from thumbnet.kept import Baseline, Finished
from thumbnet.report import write_report
from thumbnet.result import Result
from thumbnet.results import Trial, under_key
from thumbnet.runs import RunDirectory

SAMPLES = 24  # test images shown in the report


@dataclass(frozen=True, eq=False)
class Tested:
    """What the test split told: the task's answers of the reference and of the integer model, `robustness`, `front`."""

    before: Arrays
    after: Arrays
    robustness: dict[str, Any]
    front: list[dict[str, Any]]  # networks of several sizes, where they were asked for (`front_figures`)


def write_summary(
    job: Job,
    run: RunDirectory,
    reference: Graph,
    baseline: Baseline,
    trials: list[Trial],
    finished: list[Finished],
    best: Finished,
    proof: Proof,
    tested: Tested,
    insight: dict[str, Any],
    training: dict[str, int],
) -> Result:
    """Writes `result.json`, `details.json` and the report."""
    summary = {**_result(job, run, reference, baseline, best, proof, tested), "training": training}
    write_json_atomic(run.path / "result.json", summary)
    details = {
        **_story(job, run, summary),
        "reference_costs": asdict(baseline.costs),
        "best_costs": asdict(best.costs),
        "reference_layers": _layers(reference),
        "best_layers": proof.json().get("layers") or [asdict(layer) for layer in best.costs.layers],
        "arena": _arena(job, best),
        "trials": [under_key(asdict(t), job.task.metric.key) for t in trials],
        "validation": {
            "reference": baseline.val_accuracy,
            "best": best.val_accuracy,
            "best_trial": best.recipe_id,
            "reference_interval": _known(baseline.val_interval),
            "best_interval": _known(best.val_interval),
        },
        "curves": [
            {"name": k, "points": [under_key(p, job.task.metric.key) for p in v]} for k, v in best.curves.items()
        ],
        "finalists": [_finalist(f) for f in finished],
        "insight": insight,
        **_judged(job, tested.before, tested.after),
        "proof": proof.json(),
        "moves": _moves(trials, best.recipe_id),
    }
    write_json_atomic(run.path / "details.json", details)
    write_report(run.path)
    return Result(run.path, summary, tuple(trials))


def _judged(job: Job, before: Arrays, after: Arrays) -> dict[str, Any]:
    """What only a classification shows: which classes are mistaken for which, and samples with both answers."""
    if not isinstance(job.task, Classification):
        return {}
    labels, outputs = np.asarray(job.data.test.labels), (torch.from_numpy(one(before)), torch.from_numpy(one(after)))
    counts = {
        name: job.task.confusion(labels, answer.argmax(1).numpy()).tolist()
        for name, answer in zip(("reference", "best"), outputs, strict=True)
    }
    return {"confusion": counts, "samples": _samples(job, labels, *outputs)}


def _result(
    job: Job,
    run: RunDirectory,
    reference: Graph,
    baseline: Baseline,
    best: Finished,
    proof: Proof,
    tested: Tested,
) -> dict[str, Any]:
    before, after = tested.before, tested.after
    wanted = (np.asarray(job.data.test.labels), *job.data.test.further_targets)
    targets = wanted if len(wanted) > 1 else wanted[0]
    metric, score = (
        job.task.metric,
        {"reference": job.task.score(targets, before), "best": job.task.score(targets, after)},
    )
    drop = metric.drop(score["reference"], score["best"])
    measured = proof.json()
    milliseconds = latency_ms(measured["cycles"], measured["instructions"], job.target)
    return {
        "model": job.name,
        "target": job.target.name,
        "task": job.task.name,
        "metric": metric.json(),
        "reference": {
            **_scored(job.task, targets, before, score["reference"]),
            "size_bytes": 4 * reference.parameters,
            "parameters": reference.parameters,
            "macs": reference.macs,
            "flash_bytes": baseline.costs.flash_bytes,
            "ram_bytes": baseline.costs.ram_bytes,
            "cycles": baseline.costs.cycles,
            "latency_ms": baseline.costs.latency_ms,
            "energy_mj": baseline.costs.energy_mj,
            f"val_{metric.key}": baseline.val_accuracy,
            f"val_{metric.key}_interval": _known(baseline.val_interval),
        },
        "best": {
            **_scored(job.task, targets, after, score["best"]),
            "size_bytes": (run.path / "model.tflite").stat().st_size,
            "flash_bytes": measured["flash_bytes"],
            "code_bytes": measured["code_bytes"],
            "ram_bytes": measured["ram_bytes"],
            "arena_bytes": best.costs.arena_bytes,
            "stack_bytes": measured["stack_bytes"],
            "parameters": best.graph.parameters,
            "macs": best.costs.macs,
            "instructions": measured["instructions"],
            "cycles": measured["cycles"],
            "latency_ms": milliseconds,
            "energy_mj": energy_mj(milliseconds, job.target),
            "input": list(best.size),
            f"val_{metric.key}": best.val_accuracy,
            f"val_{metric.key}_interval": _known(best.val_interval),
        },
        "drop_points" if metric.in_points else "drop": drop,
        "drop_interval": _finite(job.task.drop_interval(targets, before, after)),
        "test_images": len(job.data.test),
        "robustness": tested.robustness,
        **({"front": tested.front} if tested.front else {}),
        "proof": {
            "images": measured["images"],
            "bit_exact": measured["bit_exact"],
            "tflm_equal": measured.get("tflm_equal"),
            "emulator": measured["emulator"],
        },
        "agreement": job.agreement.json() if job.agreement else None,
        "limits": {k: v for k, v in asdict(job.limits).items() if v is not None},
        "seed": job.seed,
        "wall_seconds": run.wall_seconds,
        "versions": run.provenance()["versions"],
    }


def _scored(task: Task, targets: Arrays, answers: Arrays, score: float) -> dict[str, Any]:
    """The metric under its own key, its interval, and whatever else the task tells."""
    more = [asdict(f) for f in task.figures(targets, answers)]
    key = task.metric.key
    return {key: score, f"{key}_interval": _finite(task.interval(targets, answers)), **({"also": more} if more else {})}


def _finite(interval: tuple[float, float]) -> list[float | None]:
    """As JSON has it: null where an end is unknown, as with a single sample."""
    return [v if math.isfinite(v) else None for v in interval]


def _known(interval: tuple[float, float] | None) -> list[float | None] | None:
    return None if interval is None else _finite(interval)


def _finalist(finished: Finished) -> dict[str, Any]:
    """A network that was trained to the end: its integer form on validation."""
    return {
        "id": finished.recipe_id,
        "score": finished.val_accuracy,
        "interval": _known(finished.val_interval),
        "flash_bytes": finished.costs.flash_bytes,
        "ram_bytes": finished.costs.ram_bytes,
    }


def _story(job: Job, run: RunDirectory, summary: dict[str, Any]) -> dict[str, Any]:
    provenance = run.provenance()
    return {
        "title": f"{job.name} on {job.target.title}",
        "command": provenance["command"],
        "target": {
            "name": job.target.name,
            "title": job.target.title,
            "core": job.target.core.name,
            "flash_bytes": job.target.flash_bytes,
            "ram_bytes": job.target.ram_bytes,
            "clock_hz": job.target.clock_hz,
        },
        "limits": asdict(job.limits),
        "classes": list(job.data.classes),
        "data": {
            "name": job.data.name,
            "licence": job.data.licence,
            "digest": job.data.digest,
            "train": len(job.data.train),
            "val": len(job.data.val),
            "test": len(job.data.test),
        },
        "provenance": {
            **provenance,
            "seed": job.seed,
            "model_digest": job.graph.digest,
            "data_digest": job.data.digest,
            "tflite_sha256": _sha256(run, "model.tflite"),
            "model_c_sha256": _sha256(run, "firmware/model.c"),
            "wall_seconds": summary["wall_seconds"],
        },
        "story": run.story(),
    }


def _sha256(run: RunDirectory, name: str) -> str:
    return hashlib.sha256((run.path / name).read_bytes()).hexdigest()


def _layers(graph: Graph) -> list[dict[str, Any]]:
    shapes = graph.shapes
    return [
        {
            "name": n.name,
            "op": n.op,
            "output_shape": list(shapes[n.name]),
            "macs": op_of(n).macs(n, [shapes[v] for v in n.inputs], shapes[n.name]),
            "parameters": n.parameters,
        }
        for n in graph.nodes
    ]


def _arena(job: Job, best: Finished) -> dict[str, Any]:
    graph = join_ports(best.integer)
    plan = plan_arena(graph, job.target.core.isa)
    return {
        "arena_bytes": plan.arena_bytes,
        "lower_bound_bytes": plan.lower_bound_bytes,
        "buffers": [asdict(b) for b in plan.buffers],
        "steps": [n.name for n in graph.nodes],
    }


def _moves(trials: list[Trial], recipe_id: str) -> list[str]:
    from thumbnet.search.recipe import Recipe

    return [str(m) for t in trials if t.id == recipe_id for m in Recipe.from_json(t.recipe).moves]


def _samples(
    job: Job, labels: npt.NDArray[np.int64], before: torch.Tensor, after: torch.Tensor
) -> list[dict[str, Any]]:
    """Disagreements first, then shared mistakes, then images spread over the split."""
    reference, best = before.softmax(1), after.softmax(1)
    a, b = reference.argmax(1).numpy(), best.argmax(1).numpy()
    differ = np.flatnonzero(a != b)[: SAMPLES // 3]
    wrong = np.flatnonzero((a == b) & (b != labels))[: SAMPLES // 3]
    spread = np.linspace(0, len(labels) - 1, SAMPLES).round().astype(int)
    chosen = list(dict.fromkeys([*differ.tolist(), *wrong.tolist(), *spread.tolist()]))[:SAMPLES]
    pixels = job.data.test.images(job.preprocessing.size)

    def answer(outputs: torch.Tensor, k: int) -> dict[str, float]:
        return {"label": int(outputs[k].argmax()), "confidence": round(100 * float(outputs[k].max()), 1)}

    return [
        {
            "png": _png(pixels[k]) if job.data.kind == "image" else "",
            "label": int(labels[k]),
            "reference": answer(reference, k),
            "best": answer(best, k),
        }
        for k in chosen
    ]


def _png(pixels: npt.NDArray[np.uint8]) -> str:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.thumbnail((96, 96))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
