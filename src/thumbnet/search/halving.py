"""The search: candidates that fit, scored without training, then halved while they learn longer (Jamieson & Talwalkar,
"Non-stochastic best arm identification", 2016; whole rungs, so that the result does not depend on timing)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from thumbnet.data import Augmentation, Classification, Preprocessing, Split, Task
from thumbnet.graph.graph import Graph
from thumbnet.progress import Progress
from thumbnet.results import Trial, TrialState
from thumbnet.search.efforts import Effort
from thumbnet.search.fit import Fitted, Fitter
from thumbnet.search.recipe import Context
from thumbnet.training.checkpoint import Checkpoint, Checkpoints
from thumbnet.training.head import refit_head
from thumbnet.training.loop import Images, Objective, Point, Schedule, assess, recalibrate, train
from thumbnet.training.module import GraphModule

RATE = 2e-3
_NO_CHECKPOINTS = Checkpoints.none()


@dataclass(frozen=True, eq=False)
class Lesson:
    """What candidates learn from: splits by resolution, the reference's answers, the objective."""

    train: Split
    val: Split
    preprocessing: Preprocessing
    teacher: torch.Tensor | None  # reference outputs for the training split [N, classes], where there is one vector
    objective: Objective
    augmentation: Augmentation
    seed: int
    task: Task = field(default_factory=lambda: Classification(()))
    _cache: dict[tuple[int, ...], tuple[Images, Images]] = field(default_factory=dict)

    def images(self, shape: tuple[int, ...]) -> tuple[Images, Images]:
        """Training and validation images for a network with a first input of this shape."""
        if shape not in self._cache:
            p = self.preprocessing.at(shape)
            self._cache[shape] = (Images.of(self.train, p), Images.of(self.val, p))
        return self._cache[shape]


@dataclass(eq=False)
class Candidate:
    """A network on its way through the rungs."""

    fitted: Fitted
    module: GraphModule
    accuracy: float  # the task's metric
    loss: float
    rung: int = 0
    steps: int = 0
    curve: tuple[Point, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the first input."""
        return self.module.graph.inputs[0].shape

    @property
    def rank(self) -> tuple[float, float, str]:
        """Best first: validation loss, which a few hundred images tell far better than accuracy; ties by name."""
        return (self.loss, -self.accuracy, self.fitted.recipe.id)

    def trial(self, reason: str) -> Trial:
        return Trial(
            id=self.fitted.recipe.id,
            recipe=self.fitted.recipe.json(),
            state=TrialState.FEASIBLE,
            reason=reason,
            costs=replace(self.fitted.costs, layers=()),
            accuracy=self.accuracy,
            rung=self.rung,
            curve=self.curve,
        )


def propose(fitter: Fitter, effort: Effort, progress: Progress) -> tuple[list[Fitted], list[Fitted]]:
    """The candidates to score, most of the reference's importance kept first within each resolution, and the misses."""
    shapes = list(fitter.shapes())
    fits: dict[str, Fitted] = {}
    misses: list[Fitted] = []
    with progress.stage("Fit candidates to the limits", total=len(shapes)) as stage:
        for shape in shapes:
            fitted = fitter.fit(shape)
            if fitted is not None and fitted.fits:
                fits.setdefault(fitted.recipe.id, fitted)
            elif fitted is not None:
                misses.append(fitted)
            stage.advance(1, info=f"{len(fits)} fit")
    return _diverse(list(fits.values()), effort.candidates), misses


def _diverse(fitted: list[Fitted], count: int) -> list[Fitted]:
    """Round-robin over resolutions, largest kept importance first."""
    lanes: dict[object, list[Fitted]] = {}
    for item in sorted(fitted, key=lambda f: (-f.kept, f.recipe.id)):
        lanes.setdefault(item.shape.resolution, []).append(item)
    chosen: list[Fitted] = []
    while len(chosen) < count and any(lanes.values()):
        for lane in lanes.values():
            if lane and len(chosen) < count:
                chosen.append(lane.pop(0))
    return chosen


def score(reference: Graph, context: Context, fitted: Fitted, lesson: Lesson, images: int) -> Candidate:
    """A candidate with inherited weights: batch norms measured again, the last layer fitted in closed form."""
    module = GraphModule(fitted.recipe.apply(reference, context))
    candidate = Candidate(fitted, module, 0.0, float("inf"))
    training, validation = lesson.images(candidate.shape)
    generator = torch.Generator().manual_seed(lesson.seed)
    chosen = torch.randperm(len(training), generator=generator)[:images]
    recalibrate(module, training, chosen)
    if lesson.teacher is not None:
        refit_head(module, training, chosen, lesson.teacher)
    candidate.accuracy, candidate.loss = _validate(module, validation, lesson.task)
    return candidate


def advance(
    candidate: Candidate, lesson: Lesson, steps: int, checkpoint: Checkpoint | None, on_step: Callable[[int, str], None]
) -> None:
    """Trains the candidate until it has had `steps` steps in all."""
    training, validation = lesson.images(candidate.shape)
    schedule = Schedule(steps - candidate.steps, rate=RATE, final_rate=0.3, warmup=0.2)
    curve = train(
        candidate.module,
        training,
        lesson.objective,
        schedule,
        augmentation=lesson.augmentation,
        seed=lesson.seed + candidate.steps,
        on_step=on_step,
        checkpoint=checkpoint,
    )
    before = candidate.steps
    candidate.steps = steps
    candidate.rung += 1
    candidate.accuracy, candidate.loss = _validate(candidate.module, validation, lesson.task)
    points = tuple({**p, "step": p["step"] + before} for p in curve[-1:])
    candidate.curve += tuple({**p, "accuracy": candidate.accuracy} for p in points)


def search(
    reference: Graph,
    context: Context,
    proposals: list[Fitted],
    lesson: Lesson,
    effort: Effort,
    progress: Progress,
    checkpoints: Checkpoints = _NO_CHECKPOINTS,
) -> tuple[list[Candidate], list[Trial]]:
    """The finalists, best first, and every trial."""
    candidates: list[Candidate] = []
    metric = lesson.task.metric
    with progress.stage("Score candidates without training", total=len(proposals)) as stage:
        for fitted in proposals:
            candidates.append(score(reference, context, fitted, lesson, effort.scoring_images))
            best = (max if metric.higher_is_better else min)(c.accuracy for c in candidates)
            stage.advance(1, info=f"best {metric.text(best)}")
    trials: list[Trial] = []
    for survivors, steps in effort.rungs:
        candidates, dropped = _halve(candidates, survivors)
        trials += [c.trial(f"dropped after rung {c.rung}") for c in dropped]
        total = sum(steps - c.steps for c in candidates)
        with progress.stage(f"Train {len(candidates)} candidates to {steps} steps", total=total) as stage:
            for candidate in candidates:
                checkpoint = checkpoints.named(f"{candidate.fitted.recipe.id}-{steps}")
                advance(candidate, lesson, steps, checkpoint, stage.advance)
    finalists, dropped = _halve(candidates, effort.finalists)
    trials += [c.trial(f"dropped after rung {c.rung}") for c in dropped]
    trials += [c.trial("") for c in finalists]
    return finalists, trials


def _halve(candidates: list[Candidate], survivors: int) -> tuple[list[Candidate], list[Candidate]]:
    ranked = sorted(candidates, key=lambda c: c.rank)
    return ranked[:survivors], ranked[survivors:]


def _validate(module: nn.Module, validation: Images, task: Task) -> tuple[float, float]:
    found = assess(module, validation, task)
    return found.score, found.loss
