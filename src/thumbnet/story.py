"""The story: a pre-trained network, data, a board and limits go in; verified firmware and a report come out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from thumbnet import stages
from thumbnet.job import Job
from thumbnet.progress import Progress
from thumbnet.result import Result
from thumbnet.runs import RunDirectory
from thumbnet.training.allocator import keep_freed_memory


def optimize(
    model: Any,
    data: Any,
    target: str = "nrf52840",
    *,
    flash: str | int | None = None,
    ram: str | int | None = None,
    latency_ms: float | None = None,
    macs: int | None = None,
    max_drop: float | None = None,
    effort: str = "standard",
    seed: int = 0,
    run_dir: str | Path | None = None,
    input_size: tuple[int, int] | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    weights: str | Path | None = None,
    augment: str | None = None,
    task: str | None = None,
    loss: Callable[[Any, Any], Any] | str | None = None,
    metric: Callable[[Any, Any], Any] | str | None = None,
    progress: Progress | None = None,
) -> Result:
    """Finds a network that fits `target` within the limits and loses least, and hands back its verified firmware.

    `model`: a `torch.nn.Module`, an exported program or its `.pt2` file, or "package.module:factory" (with `weights`).
    `data`: a folder of class folders (with or without train/val/test), an `.npz` of arrays, or an iterable of
    (input, target). `flash` and `ram` are bytes or texts such as "256KB" (1 KB = 1024 bytes). `max_drop` is how much
    worse than the reference's the metric may be: points of accuracy, or the unit of another task's metric. `mean` and
    `std` are what the network was trained with, per channel, for pixels in 0..1. `input_size` is (height, width) where
    the model does not tell. `augment` says how training images may vary: "none", "light" (other exposure), "upright"
    (also moved), "photo" (also mirrored; the default for classes of images) or "surface" (also turned and upside down).

    `task`: "classification", "multi-label", "regression", "segmentation", "anomaly" or "custom"; left out, the data
    tells. `loss` and `metric` are functions of (outputs, targets), or "package.module:function", in place of the
    task's own; see docs/tasks.md.

    Everything is kept in `run_dir` (default `runs/<model>-<target>`); the same call again continues where the last one
    stopped. Raises `InfeasibleError` where nothing can meet the limits, and says what comes nearest.
    """
    keep_freed_memory()
    job = Job.of(
        model,
        data,
        target,
        flash,
        ram,
        latency_ms,
        macs,
        max_drop,
        effort,
        seed,
        input_size,
        mean,
        std,
        weights,
        augment,
        task,
        loss,
        metric,
    )
    progress = progress or Progress.quiet()
    with RunDirectory.open(run_dir or job.default_run_dir, job.identity, progress) as run:
        reference = stages.load_reference(job, run, progress)  # any framework -> float Graph, checked
        baseline = stages.evaluate_reference(job, run, reference, progress)  # its answers, and what it would need
        graph = stages.normalize(job, reference)  # lossless: fold, fuse, drop dead channels
        space, context = stages.explore(job, run, graph, baseline, progress)  # what may change, what matters
        finalists, trials = stages.search(job, run, space, context, baseline, progress)
        finished = stages.refine(job, run, finalists, baseline, progress)  # distillation, quantization-aware training
        best = stages.select(finished, job.task.metric)
        firmware = stages.export(job, run, best)  # one integer table -> C and TFLite
        proof = stages.verify(job, run, best, firmware, progress)  # built, run on the emulated core, compared
        insight = stages.insight(job, run, space, context, baseline, trials, best, progress)  # why this architecture
        return stages.report(job, run, reference, baseline, trials, finished, best, proof, insight, progress)
