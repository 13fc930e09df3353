"""The networks of a Pareto front, each trained to the end: what they need, how good they are, and their files."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thumbnet.data.task import Arrays
from thumbnet.exporters.tflite import to_tflite
from thumbnet.files import write_bytes_atomic
from thumbnet.job import Job
from thumbnet.kept import Baseline, Finished

FOLDER = "front"  # in the run directory: a folder for each network, named by its recipe


def smallest_good(job: Job, finished: Sequence[Finished], baseline: Baseline) -> Finished | None:
    """The network with least flash that keeps all limits on validation; None where there is no limit on quality, or
    none keeps them."""
    limits, metric = job.limits, job.task.metric
    if limits.max_drop is None and limits.metric_limit is None:
        return None

    def good(f: Finished) -> bool:
        drop = metric.drop(baseline.val_accuracy, f.val_accuracy)
        return not limits.violations(f.costs) and not limits.shortfalls(metric, drop, f.val_accuracy)

    return min(filter(good, finished), key=lambda f: (f.costs.flash_bytes, f.recipe_id), default=None)


def undominated(job: Job, finished: Sequence[Finished]) -> set[str]:
    """Ids of the networks that no other one beats in flash and the metric on validation."""
    sign = -1 if job.task.metric.higher_is_better else 1
    found = {f.recipe_id: (f.costs.flash_bytes, sign * f.val_accuracy) for f in finished}
    return {
        name
        for name, own in found.items()
        if not any(o != own and o[0] <= own[0] and o[1] <= own[1] for o in found.values())
    }


def write_front(run_dir: Path, finished: Sequence[Finished]) -> None:
    """`front/<id>/` with the integer graph and the TFLite file of each network."""
    shutil.rmtree(run_dir / FOLDER, ignore_errors=True)
    for f in finished:
        folder = run_dir / FOLDER / f.recipe_id
        folder.mkdir(parents=True)
        f.integer.save(folder / "integer.json")
        write_bytes_atomic(folder / "model.tflite", to_tflite(f.integer))


def front_figures(
    job: Job, finished: Sequence[Finished], best: Finished, answers: Mapping[str, Arrays]
) -> list[dict[str, Any]]:
    """As `result.json` holds them, smallest first; `answers` are those to the test split. Costs are estimated."""
    wanted = (np.asarray(job.data.test.labels), *job.data.test.further_targets)
    targets = wanted if len(wanted) > 1 else wanted[0]
    on_front, key = undominated(job, finished), job.task.metric.key
    return [
        {
            "id": f.recipe_id,
            "flash_bytes": f.costs.flash_bytes,
            "ram_bytes": f.costs.ram_bytes,
            "macs": f.costs.macs,
            "instructions": f.costs.instructions,
            "latency_ms": f.costs.latency_ms,
            f"val_{key}": f.val_accuracy,
            f"val_{key}_interval": _finite(f.val_interval),
            key: job.task.score(targets, answers[f.recipe_id]),
            f"{key}_interval": _finite(job.task.interval(targets, answers[f.recipe_id])),
            "undominated": f.recipe_id in on_front,
            "chosen": f.recipe_id == best.recipe_id,
            "model": f"{FOLDER}/{f.recipe_id}/model.tflite",
        }
        for f in sorted(finished, key=lambda f: (f.costs.flash_bytes, f.recipe_id))
    ]


def _finite(interval: tuple[float, float] | None) -> list[float | None] | None:
    return None if interval is None else [v if np.isfinite(v) else None for v in interval]
