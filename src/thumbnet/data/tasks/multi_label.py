"""Any number of several labels: the network's outputs are one logit per label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from thumbnet.data.task import Arrays, Batch, Figure, Floats, Metric, Scorer, Shape, Task, Tensors, one, only
from thumbnet.errors import DataError

MAX_NAMED = 20  # labels with a figure of their own in the report


@dataclass(frozen=True)
class MultiLabel(Task):
    """Targets are 0 or 1 [N, labels]; answers are logits [N, labels]."""

    name = "multi-label"
    names_outputs = True
    labels: tuple[str, ...]

    @property
    def metric(self) -> Metric:
        return Metric("map", "Mean average precision")

    def check(self, outputs: Sequence[Shape], targets: Sequence[Shape], inputs: Sequence[Shape]) -> None:
        output, target = only("multi-label classification", outputs, targets)
        if output != target:
            raise DataError(
                f"The model answers {_text(output)}, the data has {_text(target)} for each sample.",
                "Multi-label classification takes one 0 or 1 per output: targets [N, labels].",
            )

    def loss(self, batch: Batch) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(batch.outputs[0], batch.targets[0].float())

    def distance(self, outputs: Tensors, teacher: Tensors) -> torch.Tensor:
        """Cross entropy to the reference's probabilities."""
        return F.binary_cross_entropy_with_logits(outputs[0], teacher[0].sigmoid())

    def answers(self, batch: Batch) -> Arrays:
        return batch.outputs[0].detach().numpy()

    def scorer(self, targets: Arrays, answers: Arrays) -> Scorer:
        """Mean over labels of the average precision; labels that no drawn sample has are left out."""
        present, given = one(targets), one(answers)
        labels = [average_precision(present[:, k], given[:, k]) for k in range(present.shape[1])]

        def score(counts: npt.NDArray[np.int64]) -> Floats:
            each = np.stack([precision(counts) for precision in labels])
            known = np.isfinite(each)
            mean = np.where(known, each, 0.0).sum(0) / np.maximum(known.sum(0), 1)
            return np.where(known.any(0), 100.0 * mean, np.nan)

        return score

    def figures(self, targets: Arrays, answers: Arrays) -> tuple[Figure, ...]:
        """The macro F1 at a probability of one half, and each label's average precision."""
        present, said = one(targets) > 0, one(answers) > 0
        both, either = (present & said).sum(0), present.sum(0) + said.sum(0)
        f1 = 100.0 * float(np.where(either > 0, 2 * both / np.maximum(either, 1), 1.0).mean())
        whole = np.ones((1, len(present)), np.int64)
        each = [
            Figure(
                f"Average precision, {name}",
                100.0 * float(average_precision(present[:, k], one(answers)[:, k])(whole)[0]),
                "%",
            )
            for k, name in enumerate(self.labels[:MAX_NAMED])
            if present[:, k].any()
        ]
        return Figure("Macro F1", f1, "%"), *each


def average_precision(present: npt.NDArray[Any], scores: npt.NDArray[Any]) -> Scorer:
    """Σ (recall − recall before) · precision over the thresholds, in 0..1, without interpolation; samples of one score
    share a threshold. Not a number where no drawn sample is positive."""
    order = np.argsort(-scores, kind="stable")
    positive = (present[order] > 0).astype(np.float64)
    end = np.searchsorted(-scores[order], -scores[order], side="right") - 1  # last sample of the same score

    def score(counts: npt.NDArray[np.int64]) -> Floats:
        drawn = counts[:, order].astype(np.float64)
        hits = drawn * positive
        found, asked = hits.cumsum(1)[:, end], drawn.cumsum(1)[:, end]
        total = hits.sum(1)
        summed = (hits * found / np.maximum(asked, 1.0)).sum(1)
        return np.where(total > 0, summed / np.maximum(total, 1.0), np.nan)

    return score


def _text(shape: Shape) -> str:
    return " × ".join(str(d) for d in shape) + (" value" if shape == (1,) else " values")
