"""A finalist trained to the end: distillation in float, quantization-aware training, the integer network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch

from thumbnet.cost.thrift import fitted_kernels
from thumbnet.data import Batch, Split, Task
from thumbnet.data.task import Arrays, joined, targets_of
from thumbnet.graph.graph import Graph
from thumbnet.graph.passes import clean
from thumbnet.integer import simulate
from thumbnet.integer.graph import IntegerGraph, QTensor
from thumbnet.integer.lower import lower
from thumbnet.job import Job
from thumbnet.kept import Finalist, Finished
from thumbnet.progress import Progress
from thumbnet.search.lesson import Lesson
from thumbnet.training.checkpoint import Checkpoints
from thumbnet.training.loop import Point, Schedule, assess, draw_some, recalibrate, train
from thumbnet.training.module import GraphModule
from thumbnet.training.normalize import restore_names
from thumbnet.training.quantize_aware import QuantizedModule

FLOAT_RATE, QUANTIZED_RATE = 2e-3, 2e-4
AVERAGE, QUANTIZED_AVERAGE = 0.99, 0.97  # decay of the weights' moving average: the mean of about 100 and 30 steps
STATISTICS_IMAGES = 512  # for the batch norms' final statistics
FROZEN_RANGES = 0.5  # last part of quantization-aware training in which the ranges no longer move
SIMULATED = 256  # samples whose outputs are held at once

Int8s = npt.NDArray[np.int8]


def finish(
    job: Job,
    finalist: Finalist,
    lesson: Lesson,
    checkpoints: Checkpoints,
    progress: Progress,
    steps: int,
    quantized_steps: Callable[[Graph], int],
) -> Finished:
    """The finalist's integer network, with its accuracy on validation, after so many steps of distillation and of
    quantization-aware training; the latter number may depend on the network that the former gives."""
    floating, distilled = distil(job, finalist.graph, lesson, checkpoints, progress, steps)
    trained, integer, quantized = quantize(job, floating, lesson, checkpoints, progress, quantized_steps(floating))
    integer, costs = fitted_kernels(integer, job.target, job.limits)
    score, interval = judged(job.task, integer_answers(job, integer, job.data.val))
    return Finished(
        recipe_id=finalist.recipe_id,
        integer=integer,
        graph=trained,
        val_accuracy=score,
        costs=costs,
        curves={"search": finalist.curve, "distillation": distilled, "quantization-aware": quantized},
        val_interval=interval,
    )


def distil(
    job: Job, graph: Graph, lesson: Lesson, checkpoints: Checkpoints, progress: Progress, steps: int
) -> tuple[Graph, tuple[Point, ...]]:
    """Long training on the reference's answers; the graph with its batch norms folded, and the curve."""
    training, validation = lesson.images(graph.inputs[0].shape)
    module = GraphModule(graph)
    with progress.stage("Distil the finalist", total=steps) as stage:
        curve = train(
            module,
            training,
            lesson.objective,
            Schedule(steps, batch=lesson.batch, rate=FLOAT_RATE, warmup=0.05, average=AVERAGE),
            augmentation=lesson.augmentation,
            seed=job.seed,
            evaluate=lambda m: assess(m, validation, job.task).score,
            said=job.task.metric.text,
            on_step=stage.advance,
            checkpoint=checkpoints.named("distil"),
        )
    recalibrate(module, training, draw_some(len(training), STATISTICS_IMAGES, job.seed))
    return restore_names(clean(module.to_graph())), curve


def quantize(
    job: Job, graph: Graph, lesson: Lesson, checkpoints: Checkpoints, progress: Progress, steps: int
) -> tuple[Graph, IntegerGraph, tuple[Point, ...]]:
    """Quantization-aware training; the float graph it ends with, the integer graph, and the curve."""
    training, validation = lesson.images(graph.inputs[0].shape)
    student = QuantizedModule(graph, job.input_grid(graph))
    frozen_from = round(steps * (1 - FROZEN_RANGES))

    def before_step(step: int) -> None:
        student.observing = step < frozen_from

    with progress.stage("Train quantization-aware", total=steps) as stage:
        curve = train(
            student,
            training,
            lesson.objective,
            Schedule(
                steps, batch=lesson.batch, rate=QUANTIZED_RATE, warmup=0.05, weight_decay=0.0, average=QUANTIZED_AVERAGE
            ),
            augmentation=lesson.augmentation,
            seed=job.seed + 1,
            evaluate=lambda m: assess(m, validation, job.task).score,
            said=job.task.metric.text,
            before_step=before_step,
            on_step=stage.advance,
            checkpoint=checkpoints.named("quantize"),
        )
    floating = student.to_graph()
    return floating, lower(floating, student.ranges(), fixed=job.input_grid(floating)), curve


def stored_inputs(job: Job, graph: IntegerGraph, split: Split, count: int | None = None) -> dict[str, Int8s]:
    """Samples of `split` as the firmware gets them, [N, H, W, C] or [N, length] by the inputs' names.

    `count` of them, spread over the split, or all.
    """
    first = graph.tensors[graph.inputs[0]]
    own = job.preprocessing_at((first.shape[-1], *first.shape[:-1]))
    arrays = split.images(own.size), *split.further_inputs
    if count is not None:  # test sets are often sorted by class
        chosen = np.linspace(0, len(split) - 1, min(count, len(split))).round().astype(int)
        arrays = tuple(a[chosen] for a in arrays)
    stored = {}
    for name, array, preprocessing in zip(graph.inputs, arrays, own.each, strict=True):
        x = graph.tensors[name]
        stored[name] = preprocessing.quantize(array, x.scale, x.zero_point).reshape(-1, *x.shape)
    return stored


def integer_answers(job: Job, graph: IntegerGraph, split: Split) -> Iterator[Batch]:
    """The split batch by batch, with what the integer simulator gives, in real units and channels first. The inputs are
    those that the firmware sees."""
    feeds = stored_inputs(job, graph, split)
    targets = [torch.from_numpy(np.asarray(y)) for y in (split.labels, *split.further_targets)]
    for start in range(0, len(split), SIMULATED):
        rows = slice(start, start + SIMULATED)
        part = {v: x[rows] for v, x in feeds.items()}
        outputs = simulate.run(graph, part)
        yield Batch(
            tuple(_real(graph.tensors[v], outputs[v]) for v in graph.outputs),
            tuple(t[rows] for t in targets),
            tuple(_real(graph.tensors[v], part[v]) for v in graph.inputs),
        )


def judged(task: Task, batches: Iterable[Batch]) -> tuple[float, tuple[float, float]]:
    """The task's metric over a split, and its 95 % interval."""
    targets: list[Arrays] = []
    answers: list[Arrays] = []
    for batch in batches:
        targets.append(targets_of(batch))
        answers.append(task.answers(batch))
    wanted, given = joined(targets), joined(answers)
    return task.score(wanted, given), task.interval(wanted, given)


def _real(tensor: QTensor, stored: Int8s) -> torch.Tensor:
    """float32 [N, C, H, W] or [N, length]."""
    x = torch.from_numpy(stored)
    x = x.permute(0, 3, 1, 2) if x.ndim == 4 else x
    return (x.float() - tensor.zero_point) * tensor.scale
