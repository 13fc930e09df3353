"""What the methods of the headline benchmark share: one job, its prepared reference, and how a network is finished.

Every method trains through Thumbnet's own stages, so that objective, augmentation, averaging and quantization-aware
training are the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from headline_problems import Problem
from torch import nn

from thumbnet import refine, stages
from thumbnet.cost import estimate
from thumbnet.data import Dataset
from thumbnet.data.task import Arrays, joined
from thumbnet.graph.channels import ChannelGroup, channel_groups, keep_channels
from thumbnet.graph.graph import Graph, Input
from thumbnet.graph.passes import clean
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.lower import lower
from thumbnet.integer.passes.join_inputs import join_ports
from thumbnet.job import Job
from thumbnet.kept import Baseline
from thumbnet.progress import Progress
from thumbnet.results import Costs
from thumbnet.runs import RunDirectory
from thumbnet.search.lesson import Lesson
from thumbnet.search.recipe import Context
from thumbnet.targets import limits_on, load_target
from thumbnet.training.checkpoint import Checkpoints
from thumbnet.training.head import refit_head
from thumbnet.training.loop import Images, answered, draw_some, recalibrate
from thumbnet.training.module import GraphModule

RESOLUTIONS = (1.0, 0.875, 0.75, 0.625, 0.5)  # of the reference's input, as the search has them
MIN_SIDE = 16
STEPS = (4, 2, 1)  # widths are multiples of the first, since kernels work on four channels at a time; see `chosen`
FINER = 1.05  # a finer step must give that many times the parameters
FRACTIONS = 128  # widths are fitted to this part of the reference's
HEAD_IMAGES = 512  # for the batch norms and the last layer of a network that was made narrower
Size = tuple[int, int]
T = TypeVar("T")


class NothingFitsError(Exception):
    """A method has no network within the limits; the text says what comes nearest."""


@dataclass(frozen=True)
class Width:
    """All groups keep this fraction of their channels, rounded down to a multiple of `step`, but at least that many."""

    fraction: float
    step: int = STEPS[0]

    def of(self, size: int) -> int:
        return min(size, max(self.step, int(size * self.fraction) // self.step * self.step))

    def __str__(self) -> str:
        return f"widths × {self.fraction:.3f} in steps of {self.step}"


@dataclass(frozen=True, eq=False)
class Prepared:
    """The reference before anything is made smaller: its answers, its normalized graph, how much channels matter."""

    baseline: Baseline
    graph: Graph
    context: Context
    test_answers: Arrays  # of the float reference


@dataclass(eq=False)
class Setting:
    """One cell's question: a problem under a limit of flash, for one seed. `folder` is the problem's run directory;
    `progress` is exchanged for each method, since a run's time counts from its first stage."""

    problem: Problem
    data: Dataset
    reference: nn.Module
    flash_kb: int | None  # None: no limits, for what is not made to fit
    seed: int
    effort: str
    folder: Path
    progress: Progress

    @cached_property
    def job(self) -> Job:
        return self._job(self.flash_kb)

    def _job(self, flash_kb: int | None) -> Job:
        p = self.problem
        board = load_target(p.target)
        flash, ram = (None, None) if flash_kb is None else (f"{flash_kb}KB", f"{p.ram_kb}KB")
        limits = limits_on(board, flash=flash, ram=ram)
        own = (self.effort, self.seed, p.size, p.mean, p.std, None, p.augment)
        return Job.of(self.reference, self.data, board, limits, *own)

    @cached_property
    def prepared(self) -> Prepared:
        """Computed once for each data set and seed, whatever the limits."""
        job = self._job(None)
        folder = self.folder / f"prepared-seed{self.seed}-{job.key[:8]}"
        with RunDirectory.open(folder, job.identity, self.progress) as run:
            baseline = stages.evaluate_reference(job, run, job.graph, self.progress)
            graph = stages.normalize(job, job.graph)
            _, context = stages.explore(job, run, graph, baseline, self.progress)

            def compute() -> dict[str, torch.Tensor]:
                test = Images.of(self.data.test, job.preprocessing)
                with torch.inference_mode():
                    answers = joined([job.task.answers(b) for b in answered(GraphModule(job.graph), test)])
                return {"answers": torch.from_numpy(np.array(answers))}

            kept = run.stage("test", job.key, compute, stages.save_tensors, stages.load_tensors)
        return Prepared(baseline, graph, context, kept["answers"].numpy())

    @cached_property
    def lesson(self) -> Lesson:
        """What Thumbnet's own finalists learn from, made by the stage that makes theirs."""
        return stages._lesson(self.job, self.prepared.baseline)

    @property
    def quantized_steps(self) -> int:
        """Of a finalist of Thumbnet at this effort; every method ends with as many."""
        return self.job.effort.quantized_steps(len(self.lesson.train))

    # --- limits

    def costs(self, graph: Graph) -> Costs:
        """Exact costs of a float graph, lowered as it is."""
        return estimate(join_ports(lower(clean(graph), None)), self.job.target)

    def over(self, graph: Graph) -> dict[str, float]:
        """By which factor a float graph exceeds each limit."""
        return self.job.limits.violations(self.costs(graph))

    @property
    def groups(self) -> list[ChannelGroup]:
        return [g for g in channel_groups(self.prepared.graph) if not g.pinned]

    def narrowed(self, width: Width, size: Size) -> Graph:
        """The reference with the most important channels of each group, at another resolution."""
        kept = {}
        for group in self.groups:
            order = np.argsort(-self.prepared.context.importance[group.id], kind="stable")
            kept[group.id] = sorted(int(k) for k in order[: width.of(group.size)])
        return resized(keep_channels(self.prepared.graph, kept), size)

    def widest(self, size: Size) -> Width | None:
        """The widest whose network keeps all limits at this resolution; None where none does."""

        def fitting(step: int) -> Width | None:
            found = largest(lambda k: not self.over(self.narrowed(Width(k / FRACTIONS, step), size)))
            return None if found is None else Width(found / FRACTIONS, step)

        return chosen(fitting, lambda width: self.narrowed(width, size).parameters)

    def too_large(self) -> NothingFitsError:
        """What the narrowest network lacks."""
        smallest = self.narrowed(Width(0.0, STEPS[-1]), self.resolutions()[-1])
        return NothingFitsError(f"The narrowest needs {nearest_miss(self.over(smallest))}.")

    # --- training

    def finished(
        self, module: GraphModule, steps: int, run: RunDirectory, lesson: Lesson | None = None
    ) -> IntegerGraph:
        """The network trained for `steps` steps in all, the last of them quantization-aware, and lowered."""
        lesson = lesson or self.lesson
        graph = module.to_graph()
        quantized = min(self.quantized_steps, steps // 2)
        checkpoints = Checkpoints(run.unfinished("train"), f"{self.job.key}/{graph.digest}/{steps}")
        floating, _ = refine.distil(self.job, graph, lesson, checkpoints, self.progress, steps - quantized)
        return refine.quantize(self.job, floating, lesson, checkpoints, self.progress, quantized)[1]

    def inherited(self, graph: Graph, lesson: Lesson) -> GraphModule:
        """A network made from the reference, ready to be trained: batch norms measured again, last layer fitted."""
        module = GraphModule(graph)
        training, _ = lesson.images(graph.inputs[0].shape)
        drawn = draw_some(len(training), HEAD_IMAGES, self.seed)
        recalibrate(module, training, drawn, batch=min(64, len(drawn)))
        if lesson.teacher is not None:
            refit_head(module, training, drawn, lesson.teacher)
        return module

    def resolutions(self) -> list[Size]:
        return resolutions(self.problem.size)


def resolutions(size: Size) -> list[Size]:
    """Inputs in multiples of 8 pixels from `size` down to its half, largest first."""
    found = [size]
    for factor in RESOLUTIONS[1:]:
        smaller = (8 * round(size[0] * factor / 8), 8 * round(size[1] * factor / 8))
        if min(smaller) >= MIN_SIDE and smaller not in found:
            found.append(smaller)
    return found


def resized(graph: Graph, size: Size) -> Graph:
    """The graph for inputs of another (height, width). Raises `ModelError` where a dense layer fixes it."""
    first, *rest = graph.inputs
    out = replace(graph, inputs=(Input(first.name, (first.shape[0], *size)), *rest))
    out.validate()
    return out


def chosen(fitting: Callable[[int], T | None], parameters: Callable[[T], int]) -> T | None:
    """What fits with the coarsest of `STEPS`; with a finer one where that holds clearly more parameters.

    In a deep and narrow network multiples of four leave flash unused, or do not fit at all.
    """
    best: T | None = None
    for step in STEPS:
        found = fitting(step)
        if found is not None and (best is None or parameters(found) > FINER * parameters(best)):
            best = found
    return best


def largest(fits: Callable[[int], bool], high: int = FRACTIONS) -> int | None:
    """The largest 0 < k ≤ `high` that fits, by bisection for a `fits` that is true up to somewhere; None for none."""
    if fits(high):
        return high
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low or None


def integer_test_answers(setting: Setting, integer: IntegerGraph) -> Arrays:
    """What the integer network answers on the test split."""
    return joined(
        [setting.job.task.answers(b) for b in refine.integer_answers(setting.job, integer, setting.data.test)]
    )


def size_of(graph: IntegerGraph) -> Size:
    shape = graph.tensors[graph.inputs[0]].shape
    return shape[0], shape[1]


def batches(images: Images, chosen: torch.Tensor, batch: int = 32) -> Iterator[torch.Tensor]:
    for part in chosen.split(batch):
        yield images.normalized(part)


def nearest_miss(over: dict[str, float]) -> str:
    return ", ".join(f"{name} {factor:.2f} times the limit" for name, factor in sorted(over.items()))
