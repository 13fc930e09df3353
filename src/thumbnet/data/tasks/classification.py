"""One class of several."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from thumbnet.data.task import Arrays, Assessment, Batch, Floats, Metric, Scorer, Shape, Task, Tensors, one, only
from thumbnet.errors import DataError

Z95 = 1.959964
TEMPERATURE = 2.0


@dataclass(frozen=True)
class Classification(Task):
    """Labels are class numbers [N]; answers are class numbers [N], or the outputs [N, classes]."""

    name = "classification"
    names_outputs = True
    classes: tuple[str, ...]

    @property
    def metric(self) -> Metric:
        return Metric("accuracy", "Accuracy")

    def check(self, outputs: Sequence[Shape], targets: Sequence[Shape], inputs: Sequence[Shape]) -> None:
        (answered, *_), _ = only("classification", outputs, targets)
        if answered != len(self.classes):
            raise DataError(
                f"The model tells {answered} classes apart, the data has {len(self.classes)}: "
                f"{', '.join(self.classes)}.",
                "Give the network a head for these classes and fine-tune it first.",
            )

    def loss(self, batch: Batch) -> torch.Tensor:
        return F.cross_entropy(batch.outputs[0], batch.targets[0])

    def distance(self, outputs: Tensors, teacher: Tensors) -> torch.Tensor:
        """T² KL(teacher ‖ student) at temperature T (Hinton, Vinyals, Dean 2015)."""
        student, wanted = F.log_softmax(outputs[0] / TEMPERATURE, 1), F.softmax(teacher[0] / TEMPERATURE, 1)
        return TEMPERATURE**2 * F.kl_div(student, wanted, reduction="batchmean")

    def answers(self, batch: Batch) -> Arrays:
        return batch.outputs[0].detach().numpy()

    def scorer(self, targets: Arrays, answers: Arrays) -> Scorer:
        right = (one(targets) == self.chosen(answers)).astype(np.float64)

        def score(counts: npt.NDArray[np.int64]) -> Floats:
            return np.asarray(100.0 * (counts @ right) / counts.sum(1))

        return score

    def score(self, targets: Arrays, answers: Arrays) -> float:
        return self.accuracy(one(targets), self.chosen(answers))

    def assess(self, batches: Iterable[Batch]) -> Assessment:
        """Over all outputs at once: they are few numbers."""
        kept = list(batches)
        outputs = torch.cat([b.outputs[0] for b in kept]).clone()
        labels = torch.cat([b.targets[0] for b in kept])
        score = 100.0 * float((outputs.argmax(1) == labels).float().mean())
        return Assessment(score, float(F.cross_entropy(outputs, labels)))

    def accuracy(self, labels: npt.NDArray[Any], answers: npt.NDArray[Any]) -> float:
        """In percent, of class numbers."""
        return 100.0 * float((labels == answers).mean())

    def chosen(self, answers: Arrays) -> npt.NDArray[Any]:
        """The class numbers [N] of answers."""
        given = one(answers)
        return given if given.ndim == 1 else np.asarray(given.argmax(1))

    def interval(self, targets: Arrays, answers: Arrays) -> tuple[float, float]:
        """Wilson's score interval (E. B. Wilson, JASA 1927)."""
        labels = one(targets)
        n, p = len(labels), float((labels == self.chosen(answers)).mean())
        centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
        half = Z95 / (1 + Z95**2 / n) * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n))
        return 100 * max(0.0, centre - half), 100 * min(1.0, centre + half)

    def drop_interval(self, targets: Arrays, before: Arrays, after: Arrays) -> tuple[float, float]:
        """95 % interval of accuracy(before) - accuracy(after) on the same images, in points.

        Paired: only images on which exactly one is right contribute. Wald's interval with half an image added to each
        cell of the 2 × 2 table (Agresti & Min, Statistics in Medicine 24, 2005), so that it has a width even where no
        image differs.
        """
        labels, old, new = one(targets), self.chosen(before), self.chosen(after)
        lost = float(((old == labels) & (new != labels)).sum()) + 0.5
        won = float(((old != labels) & (new == labels)).sum()) + 0.5
        n = len(labels) + 2.0
        mean = (lost - won) / n
        half = Z95 * math.sqrt(lost + won - (lost - won) ** 2 / n) / n
        return 100 * max(-1.0, mean - half), 100 * min(1.0, mean + half)

    def confusion(self, labels: npt.NDArray[Any], answers: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Counts [true class, answered class]."""
        size = len(self.classes)
        return np.bincount(labels * size + answers, minlength=size * size).reshape(size, size)
