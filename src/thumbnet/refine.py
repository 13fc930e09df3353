"""A finalist trained to the end: distillation in float, quantization-aware training, the integer network."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from thumbnet.cost import estimate
from thumbnet.data import Split
from thumbnet.graph.graph import Graph
from thumbnet.graph.passes import clean
from thumbnet.integer import simulate
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.lower import lower
from thumbnet.job import Job
from thumbnet.kept import Finalist, Finished
from thumbnet.progress import Progress
from thumbnet.search.halving import Lesson
from thumbnet.training.checkpoint import Checkpoints
from thumbnet.training.loop import Images, Point, Schedule, accuracy, draw_some, predict, recalibrate, train
from thumbnet.training.module import GraphModule
from thumbnet.training.normalize import restore_names
from thumbnet.training.quantize_aware import QuantizedModule

FLOAT_RATE, QUANTIZED_RATE = 2e-3, 2e-4
AVERAGE, QUANTIZED_AVERAGE = 0.99, 0.97  # decay of the weights' moving average: the mean of about 100 and 30 steps
STATISTICS_IMAGES = 512  # for the batch norms' final statistics
FROZEN_RANGES = 0.5  # last part of quantization-aware training in which the ranges no longer move
BATCH = 32


def finish(job: Job, finalist: Finalist, lesson: Lesson, checkpoints: Checkpoints, progress: Progress) -> Finished:
    """The finalist's integer network, with its accuracy on validation."""
    size = cast(tuple[int, int], finalist.graph.inputs[0].shape[1:])
    floating, distilled = distil(job, finalist.graph, lesson, size, checkpoints, progress)
    trained, integer, quantized = quantize(job, floating, lesson, size, checkpoints, progress)
    outputs = integer_outputs(integer, stored_inputs(job, integer, job.data.val))
    return Finished(
        recipe_id=finalist.recipe_id,
        integer=integer,
        graph=trained,
        val_accuracy=accuracy(outputs, torch.from_numpy(np.asarray(job.data.val.labels))),
        costs=estimate(integer, job.target),
        curves={"search": finalist.curve, "distillation": distilled, "quantization-aware": quantized},
    )


def distil(
    job: Job, graph: Graph, lesson: Lesson, size: tuple[int, int], checkpoints: Checkpoints, progress: Progress
) -> tuple[Graph, tuple[Point, ...]]:
    """Long training on the reference's answers; the graph with its batch norms folded, and the curve."""
    training, validation = lesson.images(size)
    module = GraphModule(graph)
    steps = _steps(job.effort.final_epochs, training)
    with progress.stage("Distil the finalist", total=steps) as stage:
        curve = train(
            module,
            training,
            lesson.objective,
            Schedule(steps, batch=BATCH, rate=FLOAT_RATE, warmup=0.05, average=AVERAGE),
            augmentation=lesson.augmentation,
            seed=job.seed,
            evaluate=lambda m: accuracy(predict(m, validation), validation.labels),
            on_step=stage.advance,
            checkpoint=checkpoints.named("distil"),
        )
    recalibrate(module, training, draw_some(len(training), STATISTICS_IMAGES, job.seed))
    return restore_names(clean(module.to_graph())), curve


def quantize(
    job: Job, graph: Graph, lesson: Lesson, size: tuple[int, int], checkpoints: Checkpoints, progress: Progress
) -> tuple[Graph, IntegerGraph, tuple[Point, ...]]:
    """Quantization-aware training; the float graph it ends with, the integer graph, and the curve."""
    training, validation = lesson.images(size)
    student = QuantizedModule(graph, job.input_grid(graph))
    steps = _steps(job.effort.quantized_epochs, training)
    frozen_from = round(steps * (1 - FROZEN_RANGES))

    def before_step(step: int) -> None:
        student.observing = step < frozen_from

    with progress.stage("Train quantization-aware", total=steps) as stage:
        curve = train(
            student,
            training,
            lesson.objective,
            Schedule(steps, batch=BATCH, rate=QUANTIZED_RATE, warmup=0.05, weight_decay=0.0, average=QUANTIZED_AVERAGE),
            augmentation=lesson.augmentation,
            seed=job.seed + 1,
            evaluate=lambda m: accuracy(predict(m, validation), validation.labels),
            before_step=before_step,
            on_step=stage.advance,
            checkpoint=checkpoints.named("quantize"),
        )
    floating = student.to_graph()
    return floating, lower(floating, student.ranges(), fixed=job.input_grid(floating)), curve


def stored_inputs(job: Job, graph: IntegerGraph, split: Split, count: int | None = None) -> npt.NDArray[np.int8]:
    """Images of `split` as the firmware gets them, [N, H, W, C]; `count` of them, spread over the split, or all."""
    first = graph.tensors[graph.inputs[0]]
    size = (first.shape[0], first.shape[1])
    images = split.images(size)
    if count is not None:  # test sets are often sorted by class
        images = images[np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int)]
    return job.preprocessing_at(size).quantize(images, first.scale, first.zero_point)


def integer_outputs(graph: IntegerGraph, inputs: npt.NDArray[np.int8]) -> torch.Tensor:
    """Dequantized outputs [N, classes] of the integer simulator."""
    out = graph.tensors[graph.outputs[0]]
    stored = simulate.run(graph, inputs)[graph.outputs[0]]
    return (torch.from_numpy(stored.reshape(len(stored), -1)).float() - out.zero_point) * out.scale


def _steps(epochs: float, training: Images) -> int:
    return math.ceil(epochs * max(1, len(training) // BATCH))
