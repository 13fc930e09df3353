"""How much training fits into the time that is left: measured rates in, numbers of steps out.

What a training takes is a line: some seconds once (loading, judging) and some for each step. A few timed steps of a
copy of the very network tell both on this machine, in the processes in which it will be trained. The proportions of
the effort stay: there is one unknown, the steps of the final training, and the time that all trainings take grows with
it, so that bisection finds it.
"""

from __future__ import annotations

import heapq
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from torch import nn

from thumbnet.graph.graph import Graph
from thumbnet.search.efforts import Effort
from thumbnet.search.executors import OnStep
from thumbnet.search.lesson import Lesson
from thumbnet.training.loop import Schedule, assess, train
from thumbnet.training.module import GraphModule

LEAST_STEPS = 50  # of the final training; the effort's own number where that is smaller
MOST_STEPS = 100_000_000
LEAST_TAUGHT, MOST_TAUGHT = 8, 4  # steps of a variant at least; at most so many times the effort's
WARM_STEPS, TIMED_STEPS = 3, 12
SLOW_SECONDS = 1.5  # where the first steps take longer, they are all that is timed
EVALUATIONS = 5  # on validation in the course of each of the two last trainings (see `train`)

now = time.perf_counter  # tests put a clock of their own here


@dataclass(frozen=True)
class Rate:
    """What training a network takes, in seconds: for each step, and to judge it on validation once."""

    step: float
    judged: float
    loaded: float = 0.0  # to have its images ready


@dataclass(frozen=True)
class Final:
    """The two trainings of a finalist."""

    floating: Rate
    quantized: Rate

    def seconds(self, steps: int, quantized_steps: int) -> float:
        judged = EVALUATIONS * (self.floating.judged + self.quantized.judged)
        return steps * self.floating.step + quantized_steps * self.quantized.step + judged


def step_seconds(module: nn.Module, lesson: Lesson, shape: tuple[int, ...], average: float = 0.0) -> float:
    """Of one training step of `module`, which learns from it: give a copy."""
    training, _ = lesson.images(shape)
    first = _timed(module, lesson, training, WARM_STEPS, average)
    if sum(first) > SLOW_SECONDS:
        return first[-1]
    return statistics.median(_timed(module, lesson, training, TIMED_STEPS, average)[1:])


def _timed(module: nn.Module, lesson: Lesson, training: object, steps: int, average: float) -> list[float]:
    """Seconds of each of some steps."""
    times = [now()]
    train(
        module,
        training,  # type: ignore[arg-type]
        lesson.objective,
        Schedule(steps, batch=lesson.batch, rate=1e-5, average=average),
        augmentation=lesson.augmentation,
        seed=lesson.seed,
        on_step=lambda done, info: times.append(now()),
    )
    return [b - a for a, b in pairwise(times)]


def rate(
    make: Callable[[], nn.Module], lesson: Lesson, shape: tuple[int, ...], average: float = 0.0, judges: bool = True
) -> Rate:
    """Of a network with a first input of this shape; `make` gives a copy of it."""
    started = now()
    _, validation = lesson.images(shape)
    loaded = now()
    module = make()
    if judges:
        assess(module, validation, lesson.task)
    judged = now()
    return Rate(step_seconds(module, lesson, shape, average), judged - loaded, loaded - started)


def graph_rate(lesson: Lesson, graph: Graph, on_step: OnStep) -> Rate:
    """Of a candidate, as a task for `run_tasks`: with as many at once as in a rung."""
    found = rate(lambda: GraphModule(graph), lesson, graph.inputs[0].shape)
    on_step(1, "")
    return found


def makespan(durations: Sequence[float], workers: int) -> float:
    """Seconds until all tasks are done, each given to the first worker that is free, in their order."""
    free = [0.0] * max(1, workers)
    for seconds in durations:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


def scaled(effort: Effort, steps: int) -> Effort:
    """The effort with so many steps of final training, whatever the data; all else in proportion."""
    return replace(effort, final_epochs=0, least_steps=steps)


def rungs_seconds(effort: Effort, rates: Sequence[Rate], images: int, workers: int, start: float) -> float:
    """What all rungs take, from the candidates of the first one, best first. Who will go on is not known, so later
    rungs are taken to have candidates of average speed. `start`: seconds until the workers of a rung have begun."""
    mean = Rate(*(statistics.fmean(getattr(r, k) for r in rates) for k in ("step", "judged", "loaded")))
    total, before = 0.0, 0
    for survivors, steps in effort.rung_steps(images):
        own = list(rates)[:survivors] if not before else [mean] * min(survivors, len(rates))
        total += start + makespan([(steps - before) * r.step + r.judged + r.loaded for r in own], workers)
        before = steps
    return total


def least_steps(effort: Effort, images: int) -> int:
    """Of the final training; with fewer there is no point in starting."""
    return min(LEAST_STEPS, effort.steps(images))


def largest(seconds: Callable[[int], float], left: float, least: int = 1) -> int:
    """The largest number of steps ≥ `least` whose `seconds`, which grow with it, are not more than what is left;
    `least` where none is."""
    low, high = least, least + 1
    if seconds(low) > left:
        return least
    while seconds(high) <= left and high < MOST_STEPS:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if seconds(middle) <= left else (low, middle)
    return low


def taught_steps(effort: Effort, factor: float) -> int:
    """Of a variant, where the time that is left is `factor` times what the effort asks for."""
    if not effort.taught:
        return 0
    low, high = min(LEAST_TAUGHT, effort.taught), MOST_TAUGHT * effort.taught
    return min(high, max(low, math.floor(effort.taught * factor)))
