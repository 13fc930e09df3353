"""How brittle both networks are: test samples with noise, blur and other light, answered by the reference in float and
by the result in the integer arithmetic of its firmware."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from thumbnet.data import Split, Task
from thumbnet.data.bootstrap import percentile_interval, resampled
from thumbnet.data.corrupt import IMAGE_CORRUPTIONS, Corruption, array_corruptions
from thumbnet.data.task import Arrays, joined
from thumbnet.graph.graph import Graph
from thumbnet.integer.graph import IntegerGraph
from thumbnet.job import Job
from thumbnet.refine import integer_answers
from thumbnet.results import Kind
from thumbnet.training.images import Images
from thumbnet.training.loop import answered
from thumbnet.training.module import GraphModule

SAMPLES = 1000  # at most; each is answered once clean and once for every severity of every corruption
RESAMPLES = 200  # of the interval of the mean: each draws for all corruptions at once
CLEAN = "none"
UNKNOWN = (-np.inf, np.inf)


def corruptions_of(job: Job) -> tuple[Corruption, ...]:
    """Those that make sense for the first input: images get all, other inputs noise."""
    if job.data.kind == "image":
        return IMAGE_CORRUPTIONS[:1] if job.preprocessing.vector else IMAGE_CORRUPTIONS
    return array_corruptions(np.asarray(job.data.train.source))


def robustness(
    job: Job, reference: Graph, integer: IntegerGraph, on_condition: Callable[[str], None] = lambda said: None
) -> dict[str, Any]:
    """The metric of both networks on damaged test samples, as `result.json` holds it.

    The first input is damaged at the reference's input size, once for both networks; the result gets it resized from
    there to its own, and quantized as its firmware does. At most `SAMPLES` samples, spread evenly over the split.
    """
    split = _some(job.data.test, job.preprocessing.size)
    targets = _targets(split)
    module = GraphModule(reference).eval()
    rows: list[dict[str, Any]] = []
    answers: list[tuple[Arrays, Arrays]] = []
    for name, unit, severity, damaged in _conditions(corruptions_of(job), split, job.seed):
        before, after = _reference(job, module, damaged), _result(job, integer, damaged)
        answers.append((before, after))
        rows.append(
            {"corruption": name, "severity": severity, "unit": unit, **_judged(job.task, targets, before, after)}
        )
        on_condition(name)
    return {
        "samples": len(split),
        "of": len(job.data.test),
        "seed": job.seed,
        "kind": str(Kind.MEASURED),
        "points": rows,
        "mean": _mean(job.task, targets, rows, answers),
    }


def _some(split: Split, size: tuple[int, int]) -> Split:
    """Samples spread evenly over the split (test sets are often sorted by class), the first input at this size."""
    chosen = np.linspace(0, len(split) - 1, min(SAMPLES, len(split))).round().astype(int)
    return Split(
        split.name,
        np.ascontiguousarray(split.images(size)[chosen]),
        np.asarray(split.labels)[chosen],
        tuple(x[chosen] for x in split.further_inputs),
        tuple(y[chosen] for y in split.further_targets),
    )


def _conditions(
    corruptions: tuple[Corruption, ...], split: Split, seed: int
) -> Iterator[tuple[str, str, float, Split]]:
    """(name, unit, severity, the damaged split), the clean one first."""
    yield CLEAN, "", 0.0, split
    for corruption in corruptions:
        for severity in corruption.severities:
            inputs = corruption.corrupted(np.asarray(split.source), severity, seed)
            damaged = Split(split.name, inputs, split.labels, split.further_inputs, split.further_targets)
            yield corruption.name, corruption.unit, severity, damaged


def _reference(job: Job, module: GraphModule, split: Split) -> Arrays:
    with torch.inference_mode():
        return joined([job.task.answers(b) for b in answered(module, Images.of(split, job.preprocessing))])


def _result(job: Job, integer: IntegerGraph, split: Split) -> Arrays:
    return joined([job.task.answers(b) for b in integer_answers(job, integer, split)])


def _targets(split: Split) -> Arrays:
    wanted = (np.asarray(split.labels), *split.further_targets)
    return wanted if len(wanted) > 1 else wanted[0]


def _judged(task: Task, targets: Arrays, before: Arrays, after: Arrays) -> dict[str, Any]:
    """Both scores with their intervals, and the drop with that of the paired difference; unknown where they would be
    costly."""
    scores = task.score(targets, before), task.score(targets, after)
    intervals = (UNKNOWN, UNKNOWN, UNKNOWN)
    if not task.costly:
        paired = task.drop_interval(targets, before, after)
        intervals = (task.interval(targets, before), task.interval(targets, after), paired)
    return {
        "reference": scores[0],
        "reference_interval": _finite(intervals[0]),
        "result": scores[1],
        "result_interval": _finite(intervals[1]),
        "drop": task.metric.drop(*scores),
        "drop_interval": _finite(intervals[2]),
    }


def _mean(
    task: Task, targets: Arrays, rows: list[dict[str, Any]], answers: list[tuple[Arrays, Arrays]]
) -> dict[str, Any]:
    """Means over all corruptions and severities, and how much more the result loses to them than the reference does.

    Its interval is a bootstrap over samples, paired: each draw holds the same samples for both networks, clean and
    damaged.
    """
    clean, damaged = rows[0], rows[1:]
    lost = {
        name: float(np.mean([task.metric.drop(clean[name], r[name]) for r in damaged]))
        for name in ("reference", "result")
    }
    interval: tuple[float, float] = UNKNOWN
    if not task.costly:
        drawn = [_draws(task, targets, [pair[k] for pair in answers]) for k in range(2)]
        interval = percentile_interval(drawn[1] - drawn[0])
    return {
        **{name: float(np.mean([r[name] for r in damaged])) for name in ("reference", "result")},
        "reference_lost": lost["reference"],
        "result_lost": lost["result"],
        "more_lost": lost["result"] - lost["reference"],
        "more_lost_interval": _finite(interval),
    }


def _draws(task: Task, targets: Arrays, answers: list[Arrays]) -> npt.NDArray[np.float64]:
    """What a network loses to damage on average, for each draw of samples."""
    size = len(targets[0]) if isinstance(targets, tuple) else len(targets)
    scores = [resampled(size, task.scorer(targets, a), RESAMPLES) for a in answers]
    lost = scores[0] - np.mean(scores[1:], axis=0)
    return np.asarray(lost if task.metric.higher_is_better else -lost)


def _finite(interval: tuple[float, float]) -> list[float | None]:
    return [v if np.isfinite(v) else None for v in interval]
