"""What is unlike the training samples: an auto-encoder that cannot reproduce it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from thumbnet.data.task import Arrays, Batch, Figure, Floats, Metric, Scorer, Shape, Task, Tensors, one
from thumbnet.errors import ModelError

Z95 = 1.959964


@dataclass(frozen=True)
class Anomaly(Task):
    """Targets are 0 (normal) or 1 [N]; answers are the mean squared errors of the reproduction [N]."""

    name = "anomaly"

    @property
    def metric(self) -> Metric:
        return Metric("auc", "ROC AUC")

    def check(self, outputs: Sequence[Shape], targets: Sequence[Shape], inputs: Sequence[Shape]) -> None:
        if len(outputs) != 1 or len(inputs) != 1 or math.prod(outputs[0]) != math.prod(inputs[0]):
            raise ModelError(
                f"The model takes {' and '.join(map(str, inputs))} and answers {' and '.join(map(str, outputs))}.",
                "An auto-encoder answers its one input; use task='custom' for other anomaly scores.",
            )

    def loss(self, batch: Batch) -> torch.Tensor:
        """The mean squared error over the normal samples: there are no others where the network learns."""
        errors, normal = squared_errors(batch), (batch.targets[0] == 0).float()
        return (errors * normal).sum() / normal.sum().clamp_min(1)

    def weight(self, batch: Batch) -> float:
        return float((batch.targets[0] == 0).sum())

    def distance(self, outputs: Tensors, teacher: Tensors) -> torch.Tensor:
        return (outputs[0] - teacher[0]).square().mean()

    def answers(self, batch: Batch) -> Arrays:
        return squared_errors(batch).detach().numpy()

    def scorer(self, targets: Arrays, answers: Arrays) -> Scorer:
        area = roc_auc(one(targets), one(answers))
        return lambda counts: 100.0 * area(counts)

    def interval(self, targets: Arrays, answers: Arrays) -> tuple[float, float]:
        """Newcombe's score interval for an area (Statistics in Medicine 25, 2006, method 5): it has a width even where
        no anomaly is mistaken."""
        odd = int((one(targets) == 1).sum())
        low, high = auc_interval(self.score(targets, answers) / 100, odd, len(one(targets)) - odd)
        return 100.0 * low, 100.0 * high

    def figures(self, targets: Arrays, answers: Arrays) -> tuple[Figure, ...]:
        """The partial area up to a false-positive rate of 10 % (as DCASE reports it), standardized."""
        return (Figure("Partial AUC (p = 0.1)", 100.0 * partial_auc(one(targets), one(answers), 0.1), "%"),)


def squared_errors(batch: Batch) -> torch.Tensor:
    """Mean over the values of each sample [N]."""
    return (batch.outputs[0].flatten(1) - batch.inputs[0].flatten(1)).square().mean(1)


def roc_auc(labels: npt.NDArray[Any], scores: npt.NDArray[Any]) -> Scorer:
    """P(score of a positive > score of a negative) + ½ P(equal), in 0..1 (Mann & Whitney, 1947). Not a number where
    only one of the two is drawn."""
    order = np.argsort(scores, kind="stable")
    ranked, positive = scores[order], labels[order] > 0
    first, last = np.searchsorted(ranked, ranked, side="left"), np.searchsorted(ranked, ranked, side="right")

    def score(counts: npt.NDArray[np.int64]) -> Floats:
        drawn = counts[:, order].astype(np.float64)
        plus, minus = drawn * positive, drawn * ~positive
        below = np.concatenate([np.zeros((len(counts), 1)), minus.cumsum(1)], axis=1)
        won = (plus * (below[:, first] + below[:, last]) / 2).sum(1)
        pairs = plus.sum(1) * minus.sum(1)
        return np.where(pairs > 0, won / np.maximum(pairs, 1.0), np.nan)

    return score


def auc_interval(area: float, positives: int, negatives: int) -> tuple[float, float]:
    """The areas whose distance from the observed one is 1.96 of their own standard errors (Hanley & McNeil, 1982, with
    both groups' sizes averaged)."""
    more = (positives + negatives) / 2 - 1

    def far(true: float) -> bool:
        spread = 1 + more * ((1 - true) / (2 - true) + true / (1 + true))
        error = math.sqrt(true * (1 - true) * spread / (positives * negatives))
        return abs(true - area) > Z95 * error

    return _edge(far, 0.0, area), _edge(far, 1.0, area)


def _edge(far: Callable[[float], bool], outside: float, inside: float) -> float:
    """Where `far` ends between the two, by bisection."""
    if not far(outside):
        return outside
    for _ in range(60):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if far(middle) else (outside, middle)
    return inside


def partial_auc(labels: npt.NDArray[Any], scores: npt.NDArray[Any], limit: float) -> float:
    """Area under the ROC curve left of the false-positive rate `limit`, divided by `limit`."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # thresholds: ends of equal scores
    positive = labels[order] > 0
    true = np.concatenate([[0.0], positive.cumsum()[ends] / max(1, positive.sum())])
    false = np.concatenate([[0.0], (~positive).cumsum()[ends] / max(1, (~positive).sum())])
    x = np.append(false[false < limit], limit)
    y = np.append(true[false < limit], np.interp(limit, false, true))
    return float(np.trapezoid(y, x) / limit)
