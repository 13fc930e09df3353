"""What every task must hold, whichever it is: the suite for the extension point `thumbnet.data.task.Task`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from thumbnet.data import Batch, Classification, Task
from thumbnet.data.task import count, joined, targets_of
from thumbnet.data.tasks import TASKS
from thumbnet.data.tasks.anomaly import Anomaly
from thumbnet.data.tasks.custom import Custom, own_metric
from thumbnet.data.tasks.multi_label import MultiLabel
from thumbnet.data.tasks.regression import Regression
from thumbnet.data.tasks.segmentation import Segmentation
from thumbnet.results import TASK_NAMES, Metric


@dataclass(frozen=True)
class Case:
    """A task with what a perfect network answers, and a useless one."""

    task: Task
    targets: tuple[torch.Tensor, ...]
    perfect: tuple[torch.Tensor, ...]
    inputs: tuple[torch.Tensor, ...] = ()

    def batch(self, outputs: tuple[torch.Tensor, ...], rows: slice = slice(None)) -> Batch:
        return Batch(*(tuple(t[rows] for t in part) for part in (outputs, self.targets, self.inputs)))

    def useless(self) -> tuple[torch.Tensor, ...]:
        generator = torch.Generator().manual_seed(1)
        return tuple(torch.randn(o.shape, generator=generator) for o in self.perfect)


def one_hot(numbers: torch.Tensor, classes: int) -> torch.Tensor:
    """Logits that choose these classes."""
    return 20 * torch.nn.functional.one_hot(numbers.long(), classes).float()


def cases() -> list[Case]:
    torch.manual_seed(0)
    n = 40
    classes, labels = torch.arange(n) % 3, torch.randint(0, 2, (n, 3)).float()
    masks, numbers = torch.randint(0, 2, (n, 6, 6)).to(torch.uint8), torch.randn(n, 2)
    unlabelled = masks.clone()
    unlabelled[:9, :3] = 255
    odd = torch.arange(n) % 2
    seen = torch.randn(n, 8)
    own = own_metric(Custom(), lambda o, t: (o - t).square().mean(), lambda o, t: -float((o - t).abs().mean()), ())
    return [
        Case(Classification(("a", "b", "c")), (classes,), (one_hot(classes, 3),)),
        Case(MultiLabel(("a", "b", "c")), (labels,), (40 * labels - 20,)),
        Case(Regression(("a", "b"), (1.0, 1.0)), (numbers,), (numbers.clone(),)),
        Case(Segmentation(("a", "b")), (unlabelled,), (one_hot(masks, 2).permute(0, 3, 1, 2),)),
        Case(Anomaly(), (odd,), (seen + odd[:, None],), (seen,)),
        Case(own, (numbers,), (numbers.clone(),)),
    ]


CASES = cases()
every = pytest.mark.parametrize("case", CASES, ids=lambda c: c.task.name)


def test_every_task_is_here_and_has_a_name() -> None:
    assert [c.task.name for c in CASES] == list(TASK_NAMES) == list(TASKS)


@every
def test_a_perfect_network_is_better_by_loss_and_metric(case: Case) -> None:
    good, bad = (case.task.assess([case.batch(outputs)]) for outputs in (case.perfect, case.useless()))
    assert good.loss < bad.loss
    assert case.task.metric.drop(good.score, bad.score) > 0


@every
def test_batches_do_not_matter(case: Case) -> None:
    whole = case.task.assess([case.batch(case.useless())])
    parts = case.task.assess([case.batch(case.useless(), rows) for rows in (slice(0, 16), slice(16, 40))])
    assert parts.score == pytest.approx(whole.score, rel=1e-6)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-4)


@every
def test_losses_can_be_differentiated_and_the_reference_is_nearest_to_itself(case: Case) -> None:
    outputs = tuple(o.clone().requires_grad_() for o in case.useless())
    loss = case.task.loss(case.batch(outputs)) + case.task.distance(outputs, case.perfect)
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(o.grad is not None and bool(o.grad.any()) for o in outputs)
    far, near = (float(case.task.distance(o, case.perfect)) for o in (case.useless(), case.perfect))
    assert near < far


@every
def test_answers_are_as_many_as_samples_and_small(case: Case) -> None:
    batch = case.batch(case.perfect)
    answers = case.task.answers(batch)
    assert count(answers) == 40
    arrays = answers if isinstance(answers, tuple) else (answers,)
    assert sum(a.nbytes for a in arrays) <= sum(o.nbytes for o in batch.outputs)


@every
def test_scores_intervals_and_figures_agree(case: Case) -> None:
    task, (good, bad) = case.task, (case.task.answers(case.batch(o)) for o in (case.perfect, case.useless()))
    targets: Any = targets_of(case.batch(case.perfect))
    for answers in (good, bad):
        low, high = task.interval(targets, answers)
        assert low - 1e-9 <= task.score(targets, answers) <= high + 1e-9
    low, high = task.drop_interval(targets, good, bad)
    assert 0 < low <= task.metric.drop(task.score(targets, good), task.score(targets, bad)) <= high
    back = task.drop_interval(targets, bad, good)
    assert back == pytest.approx((-high, -low), rel=0.05, abs=0.5)
    assert all(np.isfinite(f.value) for f in task.figures(targets, bad))
    assert joined([bad, bad])[0].shape == joined([bad])[0].shape


@every
def test_the_metric_survives_json(case: Case) -> None:
    assert Metric.of({"metric": case.task.metric.json()}) == case.task.metric
