"""Metrics, losses and intervals of every task, against values worked out by hand or by brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thumbnet.data import Batch, Classification, Task
from thumbnet.data.augment import AUGMENTATIONS
from thumbnet.data.bootstrap import percentile_interval, resampled
from thumbnet.data.tasks.anomaly import Anomaly, auc_interval, partial_auc, roc_auc
from thumbnet.data.tasks.custom import Custom, own_metric
from thumbnet.data.tasks.multi_label import MultiLabel, average_precision
from thumbnet.data.tasks.regression import Regression
from thumbnet.data.tasks.segmentation import Segmentation, overlaps
from thumbnet.errors import DataError, ModelError, UsageError

RNG = np.random.default_rng(0)
WHOLE = np.ones((1, 1), np.int64)


def whole(n: int) -> np.ndarray[Any, Any]:
    return np.ones((1, n), np.int64)


# --- metrics against definitions


def test_average_precision_by_hand() -> None:
    present, scores = np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1])
    assert average_precision(present, scores)(whole(4))[0] == pytest.approx((1 / 1 + 2 / 3) / 2)
    tied = np.array([0.5, 0.5, 0.5, 0.5])  # one threshold: everything is found at a precision of one half
    assert average_precision(present, tied)(whole(4))[0] == pytest.approx(0.5)
    assert np.isnan(average_precision(np.zeros(4), scores)(whole(4))[0])


def brute_force_precision(present: np.ndarray[Any, Any], scores: np.ndarray[Any, Any]) -> float:
    total, area, recall = present.sum(), 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        said = scores >= threshold
        hits = float((said & (present > 0)).sum())
        area += (hits / total - recall) * hits / said.sum()
        recall = hits / total
    return area


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 4)), min_size=2, max_size=20), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_counts_stand_for_repeated_samples(samples: list[tuple[int, int]], seed: int) -> None:
    labels, scores = (np.array(v) for v in zip(*samples, strict=True))
    counts = np.random.default_rng(seed).integers(0, 3, (1, len(labels)))
    repeated = np.repeat(labels, counts[0]), np.repeat(scores, counts[0])
    plus, minus = (repeated[1][repeated[0] == k] for k in (1, 0))
    precision, area = average_precision(labels, scores)(counts)[0], roc_auc(labels, scores)(counts)[0]
    assert np.isnan(precision) == (len(plus) == 0)
    if len(plus):
        assert precision == pytest.approx(brute_force_precision(*repeated))
    assert np.isnan(area) == (len(plus) == 0 or len(minus) == 0)
    if len(plus) and len(minus):
        pairs = (plus[:, None] > minus).mean() + 0.5 * (plus[:, None] == minus).mean()
        assert area == pytest.approx(pairs)


def test_mean_intersection_over_union_by_hand() -> None:
    masks = np.array([[[0, 0], [1, 255]], [[1, 1], [1, 1]]], np.uint8)
    answers = np.array([[[0, 1], [1, 1]], [[1, 1], [0, 1]]], np.uint8)
    shared, either = overlaps(masks, answers, 3)
    assert shared.tolist() == [[1, 1, 0], [0, 3, 0]]
    assert either.tolist() == [[2, 2, 0], [1, 4, 0]]  # the unlabelled pixel counts nowhere
    task = Segmentation(("floor", "wall", "door"))
    assert task.score(masks, answers) == pytest.approx(100 * (1 / 3 + 4 / 6) / 2)  # nothing is a door
    figures = {f.name: f.value for f in task.figures(masks, answers)}
    assert figures["Pixel accuracy"] == pytest.approx(100 * 5 / 7)
    assert set(figures) == {"IoU, floor", "IoU, wall", "Pixel accuracy"}


def test_segmentation_with_one_logit_is_that_with_two() -> None:
    torch.manual_seed(0)
    one, masks = torch.randn(3, 1, 4, 4), torch.randint(0, 2, (3, 4, 4)).to(torch.uint8)
    masks[0, 0, 0] = 255
    two = torch.cat([torch.zeros_like(one), one], 1)
    task = Segmentation(("no", "yes"))
    assert torch.allclose(task.loss(Batch((one,), (masks,))), task.loss(Batch((two,), (masks,))))
    teacher = torch.randn(3, 1, 4, 4)
    both = torch.cat([torch.zeros_like(teacher), teacher], 1)
    assert torch.allclose(task.distance((one,), (teacher,)), task.distance((two,), (both,)))
    assert (np.asarray(task.answers(Batch((one,), (masks,)))) == (one[:, 0] > 0).numpy()).all()


def test_regression_by_hand() -> None:
    task = Regression(("a", "b"), (1.0, 10.0))
    targets, answers = np.array([[0.0, 0], [2, 20]]), np.array([[1.0, 0], [2, 40]])
    assert task.score(targets, answers) == pytest.approx((1 + 0 + 0 + 20) / 4)
    loss = task.loss(Batch((torch.from_numpy(answers).float(),), (torch.from_numpy(targets).float(),)))
    assert float(loss) == pytest.approx((1 + 4) / 4)  # in units of each number's spread
    figures = {f.name: f.value for f in task.figures(targets, answers)}
    assert figures["R²"] == pytest.approx(((1 - 1 / 2) + (1 - 400 / 200)) / 2)
    assert figures["Root mean squared error"] == pytest.approx((401 / 4) ** 0.5)
    assert figures["Mean absolute error, b"] == 10
    assert task.metric.drop(1.0, 1.5) == 0.5  # more error is worse
    assert task.metric.change(0.5) == "+0.5000"
    assert Regression(("left [mm]", "right [mm]"), (1.0, 1.0)).metric.text(0.25) == "0.2500 mm"
    assert Regression(("left [mm]", "angle [°]"), (1.0, 1.0)).metric.unit == ""


def test_the_interval_of_a_mean_covers_it_and_narrows() -> None:
    task, errors = Regression(("a",), (1.0,)), RNG.exponential(1.0, 4000)
    for n in (40, 4000):
        low, high = task.interval(np.zeros((n, 1)), errors[:n, None])
        assert low < errors[:n].mean() < high
        assert high - low == pytest.approx(2 * 1.96 * errors[:n].std(ddof=1) / n**0.5, rel=1e-3)
    better, worse = task.drop_interval(np.zeros((4000, 1)), errors[:, None], errors[:, None] + 0.1)
    assert better == pytest.approx(0.1)
    assert worse == pytest.approx(0.1)  # paired: the spread of the samples does not matter


def test_the_area_of_nothing_mistaken_is_not_certain() -> None:
    low, high = auc_interval(1.0, 20, 20)
    assert 0.8 < low < 0.95
    assert high == 1.0
    narrow, _ = auc_interval(1.0, 200, 200)
    assert narrow > low
    low, high = auc_interval(0.8, 50, 50)
    again = 1 - high, 1 - low
    assert auc_interval(0.2, 50, 50) == pytest.approx(again)


def test_partial_area_up_to_a_rate() -> None:
    labels, scores = np.array([0] * 10 + [1] * 10), np.arange(20)
    assert partial_auc(labels, scores, 0.1) == 1.0
    assert partial_auc(labels, -scores, 0.1) == 0.0
    assert partial_auc(labels, np.zeros(20), 0.1) == pytest.approx(0.05)  # the diagonal
    assert partial_auc(labels, scores, 1.0) == pytest.approx(roc_auc(labels, scores)(whole(20))[0])


def test_anomalies_are_scored_by_their_error_and_learning_sees_none() -> None:
    inputs, outputs = torch.tensor([[1.0, 1.0], [0.0, 4.0]]), torch.zeros(2, 2)
    batch = Batch((outputs,), (torch.tensor([0, 1]),), (inputs,))
    assert np.asarray(Anomaly().answers(batch)).tolist() == [1.0, 8.0]
    assert float(Anomaly().loss(batch)) == 1.0


# --- intervals


def test_the_bootstrap_agrees_with_the_central_limit_theorem() -> None:
    errors = RNG.normal(5.0, 2.0, 500)
    low, high = percentile_interval(resampled(500, lambda counts: counts @ errors / counts.sum(1)))
    half = 1.96 * errors.std() / 500**0.5
    assert low == pytest.approx(errors.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(errors.mean() + half, abs=0.1 * half)
    again = percentile_interval(resampled(500, lambda counts: counts @ errors / counts.sum(1)))
    assert again == (low, high)


def cases() -> list[tuple[Task, Any, Any]]:
    n = 60
    labels = RNG.integers(0, 3, n)
    return [
        (Classification(("a", "b", "c")), labels, RNG.normal(size=(n, 3)) + 2 * np.eye(3)[labels]),
        (MultiLabel(("a", "b")), RNG.integers(0, 2, (n, 2)), RNG.normal(size=(n, 2))),
        (Regression(("a",), (1.0,)), RNG.normal(size=(n, 1)), RNG.normal(size=(n, 1))),
        (
            Segmentation(("a", "b")),
            RNG.integers(0, 2, (n, 4, 4)).astype(np.uint8),
            RNG.integers(0, 2, (n, 4, 4)).astype(np.uint8),
        ),
        (Anomaly(), labels % 2, RNG.random(n)),
        (
            own_metric(Custom(), lambda o, t: (o - t).mean(), lambda o, t: float((o - t).abs().mean()), ()),
            RNG.normal(size=(n, 2)),
            RNG.normal(size=(n, 2)),
        ),
    ]


@pytest.mark.parametrize("case", cases(), ids=lambda c: c[0].name)
def test_intervals_hold_the_score_and_no_change_is_within_that_of_no_drop(case: tuple[Task, Any, Any]) -> None:
    task, targets, answers = case
    score = task.score(targets, answers)
    assert task.scorer(targets, answers)(whole(60))[0] == pytest.approx(score)
    low, high = task.interval(targets, answers)
    assert low < score < high
    low, high = task.drop_interval(targets, answers, answers)
    assert low <= 0 <= high
    assert high - low < 8


# --- what fits what


@pytest.mark.parametrize(
    ("task", "outputs", "targets", "error"),
    [
        (Classification(("a", "b")), [(3,)], [()], "tells 3 classes apart, the data has 2"),
        (Classification(("a", "b")), [(2,), (2,)], [()], "2 outputs; classification takes one"),
        (MultiLabel(("a", "b")), [(3,)], [(2,)], "answers 3 values, the data has 2"),
        (Regression(("a",), (1.0,)), [(2,)], [(1,)], "numbers of shape"),
        (Segmentation(("a", "b")), [(2,)], [(8, 8)], "takes logits"),
        (Segmentation(("a", "b")), [(3, 8, 8)], [(8, 8)], "3 classes apart, the masks have 2"),
        (Segmentation(("a", "b")), [(2, 4, 4)], [(8, 8)], "pixels"),
        (Anomaly(), [(7,)], [()], "auto-encoder answers its one input"),
        (Segmentation(("a", "b")), [(2, 8, 8)], [(8, 8), (1,)], "2 targets for each sample"),
    ],
)
def test_targets_that_no_such_network_answers_are_refused(task: Task, outputs: Any, targets: Any, error: str) -> None:
    with pytest.raises((DataError, ModelError), match=error):
        task.check(outputs, targets, [(1, 8, 8)])


def test_targets_that_fit() -> None:
    Segmentation(("a", "b")).check([(1, 8, 8)], [(8, 8)], [(1, 8, 8)])
    Anomaly().check([(64,)], [()], [(1, 8, 8)])
    Regression(("a",), (1.0,)).check([(1,), (2, 3)], [(1,), (2, 3)], [(4,)])
    Custom().check([(1,), (2, 3)], [(7,)], [(4,), (4,)])


# --- the user's own functions


def boxes(outputs: Any, targets: Any) -> float:
    return float(outputs[1].mean()) + float(targets["where"].mean())


def test_own_functions_get_tuples_of_outputs_and_named_targets() -> None:
    task = own_metric(Custom(), lambda o, t: (o[0] - t["what"]).square().mean(), boxes, ("what", "where"))
    batch = Batch((torch.ones(2, 3), torch.full((2, 1), 5.0)), (torch.zeros(2, 3), torch.full((2,), 7.0)))
    assert float(task.loss(batch)) == 1.0
    targets = tuple(t.numpy() for t in batch.targets)
    assert task.score(targets, task.answers(batch)) == 12.0
    assert (task.metric.key, task.metric.name, task.metric.unit) == ("boxes", "boxes", "")


def test_a_metric_describes_itself_by_attributes() -> None:
    def cost(outputs: Any, targets: Any) -> float:
        return 1.0

    cost.title, cost.unit, cost.higher_is_better, cost.digits = "Cost", "EUR", False, 2  # type: ignore[attr-defined]
    metric = own_metric(Custom(), cost, cost, ()).metric
    assert metric.text(1.5) == "1.50 EUR"
    assert metric.drop(1.0, 2.0) == 1.0
    assert metric.change(1.0) == "+1.00 EUR"


def macs(outputs: Any, targets: Any) -> float:
    return 1.0


def test_a_metric_takes_no_other_figure_s_place() -> None:
    assert own_metric(Custom(), macs, macs, ()).metric.key == "macs_metric"


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (lambda o, t: o, "shape"),
        (lambda o, t: 1.0, "float"),
        (lambda o, t: o @ torch.ones(9, 9), r"failed: [\s\S]*RuntimeError"),
    ],
)
def test_losses_that_are_none_are_refused(loss: Any, says: str) -> None:
    batch = Batch((torch.ones(2, 3),), (torch.ones(2, 3),))
    with pytest.raises(UsageError, match=says):
        own_metric(Custom(), loss, boxes, ()).loss(batch)


@pytest.mark.parametrize(("value", "says"), [(float("nan"), "nan"), ("high", "gives a str"), (None, "NoneType")])
def test_metrics_that_are_none_are_refused(value: Any, says: str) -> None:
    task = own_metric(Custom(), boxes, lambda o, t: value, ())
    with pytest.raises(UsageError, match=says):
        task.score(np.zeros((2, 1)), np.zeros((2, 1)))


def test_an_own_metric_keeps_the_task_s_loss() -> None:
    task = own_metric(Regression(("a",), (1.0,)), None, lambda o, t: 3.0, ())
    batch = Batch((torch.ones(2, 1),), (torch.zeros(2, 1),))
    assert (task.name, float(task.loss(batch)), task.score(np.zeros((2, 1)), np.zeros((2, 1)))) == ("regression", 1, 3)
    assert not own_metric(Segmentation(("a", "b")), None, boxes, ()).names_outputs
    assert own_metric(Segmentation(("a", "b")), None, boxes, ()).spatial


# --- masks move with their images


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_masks_move_with_their_images(name: str) -> None:
    augmentation, generator = AUGMENTATIONS[name], torch.Generator().manual_seed(1)
    masks = torch.zeros(16, 24, 24, dtype=torch.uint8)
    masks[:, 3:12, 5:20] = 1
    view = augmentation.draw(16, generator)
    plain = AUGMENTATIONS[name].__class__(**{**vars(augmentation), "contrast": 0.0, "brightness": 0.0})
    images = plain.apply(masks[:, None].float(), view)[:, 0]
    moved = augmentation.move(masks, view)
    assert moved.dtype == torch.uint8
    clear = (images < 0.3) | (images > 0.7)  # off the edges, where the filters differ
    assert clear.float().mean() > 0.8
    assert torch.equal(moved[clear], (images > 0.5).to(torch.uint8)[clear])
    half = torch.nn.functional.avg_pool2d(masks[:, None].float(), 2)
    assert torch.allclose(plain.apply(half, view), augmentation.move(half, view))
