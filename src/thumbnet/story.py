"""The story: a pre-trained network, data, a board and limits go in; verified firmware and a report come out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from thumbnet import stages
from thumbnet.durations import parse_duration
from thumbnet.job import Job
from thumbnet.pace import Pace
from thumbnet.progress import Progress
from thumbnet.result import Result
from thumbnet.runs import RunDirectory
from thumbnet.search.executors import cores
from thumbnet.targets import limits_on, load_target
from thumbnet.training.allocator import keep_freed_memory


def optimize(
    model: Any,
    data: Any,
    target: str = "nrf52840",
    *,
    flash: str | int | None = None,
    ram: str | int | None = None,
    latency_ms: float | None = None,
    cycles: int | None = None,
    macs: int | None = None,
    energy_mj: float | None = None,
    max_drop: float | None = None,
    metric_limit: float | None = None,
    front: bool | None = None,
    effort: str = "standard",
    time_limit: str | float | None = None,
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
    workers: int | None = None,
    progress: Progress | None = None,
) -> Result:
    """Finds a network that fits `target` within the limits and loses least, and hands back its verified firmware.

    `model`: a `torch.nn.Module`, an exported program or its `.pt2` file, or "package.module:factory" (with `weights`).
    `data`: a folder of class folders (with or without train/val/test), an `.npz` of arrays, or an iterable of
    (input, target). `flash` and `ram` are bytes or texts such as "256KB" (1 KB = 1024 bytes). `latency_ms`,
    `cycles`, `macs` and `energy_mj` (estimated, millijoules) are of one inference. `max_drop` is how much worse than
    the reference's the metric may be: points of accuracy, or the unit of another task's metric; `metric_limit` is the
    worst value of the metric itself, such as 90 for 90 % accuracy, or a largest error (docs/limits.md). With `front`
    networks of several sizes are made, and the smallest that keeps a limit on quality becomes the firmware, or the best
    where there is none; left out, that is done where no cost is limited (docs/front.md). `mean` and
    `std` are what the network was trained with, per channel, for pixels in 0..1. `input_size` is (height, width) where
    the model does not tell. `augment` says how training images may vary: "none", "light" (other exposure), "upright"
    (also moved), "photo" (also mirrored; the default for classes of images) or "surface" (also turned and upside down).

    `task`: "classification", "multi-label", "regression", "segmentation", "anomaly" or "custom"; left out, the data
    tells. `loss` and `metric` are functions of (outputs, targets), or "package.module:function", in place of the
    task's own; see docs/tasks.md.

    `time_limit` is how long all of this may take, in seconds or as a text such as "30min": trainings get as many steps
    as fit, in the proportions of the effort. Their number then depends on the machine.

    `workers` is how many networks train at once, by default one for each processor core; the result does not depend on
    it. Everything is kept in `run_dir` (default `runs/<model>-<target>`); the same call again continues where the last
    one stopped. Raises `InfeasibleError` where nothing can keep the limits on costs, before anything slow, and says
    what comes nearest. Quality that is missed in the end is no error here: `Result.missed` tells it.
    """
    began = time.monotonic()
    keep_freed_memory()
    seconds = None if time_limit is None else parse_duration(time_limit)
    board = load_target(target)
    limits = limits_on(
        board,
        flash=flash,
        ram=ram,
        latency_ms=latency_ms,
        cycles=cycles,
        macs=macs,
        energy_mj=energy_mj,
        max_drop=max_drop,
        metric_limit=metric_limit,
    )
    job = Job.of(
        model,
        data,
        board,
        limits,
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
        seconds,
        all(v is None for v in (flash, ram, latency_ms, cycles, macs, energy_mj)) if front is None else front,
    )
    progress, before = progress or Progress.quiet(), time.monotonic() - began
    with RunDirectory.open(run_dir or job.default_run_dir, job.identity, progress, workers or cores()) as run:
        pace = Pace(job, run, progress, before)  # how many steps a time limit leaves
        reference = stages.load_reference(job, run, progress)  # any framework -> float Graph, checked
        graph = stages.normalize(job, reference)  # lossless: fold, fuse, drop dead channels
        stages.check_limits(job, graph)  # whether anything can keep them, before the slow stages
        baseline = stages.evaluate_reference(job, run, reference, progress)  # its answers, and what it would need
        space, context = stages.explore(job, run, graph, baseline, progress)  # what may change, what matters
        variants, context = stages.teach(job, run, space, context, baseline, progress, pace)  # what blocks can become
        finalists, trials = stages.search(job, run, space, context, variants, baseline, progress, pace)
        finished = stages.refine(
            job, run, finalists, baseline, progress, pace
        )  # distillation, quantization-aware training
        best = stages.select(job, finished, baseline, progress)
        firmware = stages.export(job, run, best)  # one integer table -> C and TFLite
        proof = stages.verify(job, run, best, firmware, progress)  # built, run on the emulated core, compared
        insight = stages.insight(job, run, space, context, baseline, trials, best, progress)  # why this architecture
        training = stages.training(job, space, variants, trials, finished, best)
        return stages.report(job, run, reference, baseline, trials, finished, best, proof, insight, training, progress)
