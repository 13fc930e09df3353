"""The search: candidates that fit, scored without training, then halved while they learn longer (Jamieson & Talwalkar,
"Non-stochastic best arm identification", 2016; whole rungs, so that the result does not depend on timing)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

from torch import nn

from thumbnet.data import Classification, Task
from thumbnet.errors import ThumbnetError
from thumbnet.graph.graph import Graph
from thumbnet.progress import Progress, duration
from thumbnet.results import Trial, TrialState
from thumbnet.search.efforts import Effort
from thumbnet.search.executors import OnStep, run_tasks
from thumbnet.search.lesson import Lesson
from thumbnet.search.recipe import Context
from thumbnet.search.shape import Fitted
from thumbnet.training.checkpoint import Checkpoints
from thumbnet.training.head import refit_head, rescale_head
from thumbnet.training.loop import Images, Point, Schedule, assess, draw_some, recalibrate, train
from thumbnet.training.module import GraphModule

RATE = 2e-3
QUANTIZED = 1.7  # seconds of a quantization-aware step, as a multiple of another one's
TOLD_SECONDS = 30  # less is not worth a word
Halve = Callable[[list["Candidate"], int], tuple[list["Candidate"], list["Candidate"]]]
_NO_CHECKPOINTS = Checkpoints.none()


@dataclass(frozen=True, eq=False)
class Candidate:
    """A network on its way through the rungs."""

    fitted: Fitted
    graph: Graph
    accuracy: float  # the task's metric
    loss: float
    rung: int = 0
    steps: int = 0
    curve: tuple[Point, ...] = ()
    failure: str = ""  # why it cannot go on

    @property
    def rank(self) -> tuple[float, float, str]:
        """Best first: validation loss, which a few hundred images tell far better than accuracy; ties by name."""
        return (self.loss, -self.accuracy, self.fitted.recipe.id)

    def trial(self, reason: str) -> Trial:
        return Trial(
            id=self.fitted.recipe.id,
            recipe=self.fitted.recipe.json(),
            state=TrialState.FAILED if self.failure else TrialState.FEASIBLE,
            reason=self.failure or reason,
            costs=replace(self.fitted.costs, layers=()),
            accuracy=self.accuracy,
            rung=self.rung,
            curve=self.curve,
        )


@dataclass(frozen=True, eq=False)
class School:
    """What all trainings of a search share."""

    reference: Graph
    context: Context
    lesson: Lesson
    scoring_images: int
    checkpoints: Checkpoints


def score(school: School, fitted: Fitted, on_step: OnStep) -> Candidate:
    """A candidate with inherited weights: batch norms measured again, the last layer fitted in closed form."""
    lesson = school.lesson
    module = GraphModule(fitted.recipe.apply(school.reference, school.context))
    training, validation = lesson.images(module.graph.inputs[0].shape)
    chosen = draw_some(len(training), school.scoring_images, lesson.seed)
    recalibrate(module, training, chosen)
    fitting = len(chosen) * 3 // 4  # the scale is found on images that the layer was not fitted to
    refitted = lesson.teacher is not None and refit_head(module, training, chosen[:fitting], lesson.teacher)
    if refitted and isinstance(lesson.task, Classification):
        rescale_head(module, training, chosen[fitting:])
    accuracy, loss = _validate(module, validation, lesson.task)
    on_step(1, "")
    return Candidate(fitted, module.to_graph(), accuracy, loss)


def advance(school: School, item: tuple[Candidate, int], on_step: OnStep) -> Candidate:
    """The candidate trained until it has had so many steps in all."""
    candidate, steps = item
    lesson = school.lesson
    module = GraphModule(candidate.graph)
    training, validation = lesson.images(module.graph.inputs[0].shape)
    try:
        curve = train(
            module,
            training,
            lesson.objective,
            Schedule(steps - candidate.steps, batch=lesson.batch, rate=RATE, final_rate=0.1, warmup=0.1),
            augmentation=lesson.augmentation,
            seed=lesson.seed + candidate.steps,
            on_step=on_step,
            checkpoint=school.checkpoints.named(f"{candidate.fitted.recipe.id}-{steps}"),
        )
    except FloatingPointError as e:
        return replace(candidate, failure=f"failed in rung {candidate.rung + 1}: {e}")
    accuracy, loss = _validate(module, validation, lesson.task)
    points = tuple({**p, "step": p["step"] + candidate.steps, "accuracy": accuracy} for p in curve[-1:])
    return replace(
        candidate,
        graph=module.to_graph(),
        accuracy=accuracy,
        loss=loss,
        rung=candidate.rung + 1,
        steps=steps,
        curve=candidate.curve + points,
    )


def search(
    reference: Graph,
    context: Context,
    proposals: list[Fitted],
    lesson: Lesson,
    effort: Effort,
    progress: Progress,
    checkpoints: Checkpoints = _NO_CHECKPOINTS,
    workers: int = 1,
    planned: Callable[[list[Candidate]], Effort] | None = None,
    halve: Halve | None = None,
) -> tuple[list[Candidate], list[Trial]]:
    """The finalists, best first, and every trial. The same with any number of workers.

    `planned` hears which candidates the first rung will train, best first, and may say how long all of them do.
    `halve` says who goes on; left out, those that lose least.
    """
    school = School(reference, context, lesson, effort.scoring_images, checkpoints)
    metric = lesson.task.metric
    with progress.stage("Score candidates without training", total=len(proposals)) as stage:
        candidates = run_tasks(score, school, proposals, workers=workers, on_step=stage.advance)
        stage.advance(0, info=f"best {metric.text(_best(candidates, lesson.task))}")
    trials: list[Trial] = []
    halve = halve or best_first
    usual = effort
    if planned is not None and effort.rungs:
        effort = planned(halve(candidates, effort.rungs[0][0])[0])
    for rung, (survivors, steps) in enumerate(effort.rung_steps(len(lesson.train))):
        candidates, dropped = halve(candidates, survivors)
        trials += [c.trial(f"dropped after rung {c.rung}") for c in dropped]
        total = sum(steps - c.steps for c in candidates)
        with progress.stage(f"Train {len(candidates)} candidates to {steps} steps", total=total) as stage:
            items = [(c, steps) for c in candidates]
            trained = run_tasks(advance, school, items, workers=workers, on_step=stage.advance)
            trials += [c.trial("") for c in trained if c.failure]
            candidates = [c for c in trained if not c.failure]
            if not candidates:
                raise ThumbnetError(
                    f"All candidates failed: {trained[0].failure}.",
                    "Check that targets and inputs are finite and of a usual size.",
                )
            stage.advance(0, info=f"best {metric.text(_best(candidates, lesson.task))}")
        if rung == 0 and effort is usual and stage.step_seconds is not None:  # nobody knows yet how long it takes
            _forecast(effort, len(lesson.train), stage.step_seconds, progress)
    finalists, dropped = halve(candidates, effort.finalists)
    trials += [c.trial(f"dropped after rung {c.rung}") for c in dropped]
    trials += [c.trial("") for c in finalists]
    return finalists, trials


def _forecast(effort: Effort, images: int, step: float, progress: Progress) -> None:
    """Tells how long the rest will take, about, where a step of a candidate took so many seconds, all workers counted.

    The last trainings are alone, which is taken to make up for all cores being theirs. What follows training is not
    in it.
    """
    rungs = effort.rung_steps(images)
    rest = sum(s * (b - a) for (_, a), (s, b) in pairwise(rungs))
    last = effort.finalists * (effort.steps(images) + QUANTIZED * effort.quantized_steps(images))
    seconds = step * (rest + last)
    if seconds >= TOLD_SECONDS:
        progress.note(f"About {duration(seconds)} of training are left.")


def _best(candidates: list[Candidate], task: Task) -> float:
    return (max if task.metric.higher_is_better else min)(c.accuracy for c in candidates)


def best_first(candidates: list[Candidate], survivors: int) -> tuple[list[Candidate], list[Candidate]]:
    """(those that go on, those that do not): the rule of a search for one network."""
    ranked = sorted(candidates, key=lambda c: c.rank)
    return ranked[:survivors], ranked[survivors:]


def _validate(module: nn.Module, validation: Images, task: Task) -> tuple[float, float]:
    found = assess(module, validation, task)
    return found.score, found.loss
