"""Numbers: one or several, of any fixed shape."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from thumbnet.data.task import Arrays, Batch, Figure, Floats, Metric, Scorer, Shape, Task, Tensors
from thumbnet.errors import DataError

Z95 = 1.959964
MAX_NAMED = 20
_UNIT = re.compile(r"\[([^\[\]]{1,20})\]\s*$")


@dataclass(frozen=True)
class Regression(Task):
    """Targets and answers have the shapes of the outputs. `spread` is the standard deviation of each number over the
    training split: errors count in its units while learning, so that no number drowns the others. The metric is in
    the targets' own unit: the mean absolute error, over all numbers of a sample."""

    name = "regression"
    names: tuple[str, ...]
    spread: tuple[float, ...]

    @property
    def metric(self) -> Metric:
        return Metric("mae", "Mean absolute error", self.unit, higher_is_better=False, digits=4)

    @property
    def unit(self) -> str:
        """That in brackets behind every name, as in "pressure [bar]"; "" where they differ or there is none."""
        found = {m.group(1) if (m := _UNIT.search(n)) else "" for n in self.names}
        return found.pop() if len(found) == 1 else ""

    def check(self, outputs: Sequence[Shape], targets: Sequence[Shape], inputs: Sequence[Shape]) -> None:
        if list(outputs) != list(targets):
            answered, wanted = (" and ".join(map(str, s)) for s in (outputs, targets))
            raise DataError(
                f"The model answers numbers of shape {answered}, the data has {wanted} for each sample.",
                "Regression takes targets of the outputs' shapes, channels first.",
            )

    def loss(self, batch: Batch) -> torch.Tensor:
        return self._squared(batch.outputs, batch.targets)

    def distance(self, outputs: Tensors, teacher: Tensors) -> torch.Tensor:
        return self._squared(outputs, teacher)

    def _squared(self, outputs: Tensors, wanted: Tensors) -> torch.Tensor:
        error = torch.cat([(o - w.float()).flatten(1) for o, w in zip(outputs, wanted, strict=True)], 1)
        return (error / torch.tensor(self.spread)).square().mean()

    def answers(self, batch: Batch) -> Arrays:
        arrays = tuple(o.detach().numpy() for o in batch.outputs)
        return arrays[0] if len(arrays) == 1 else arrays

    def scorer(self, targets: Arrays, answers: Arrays) -> Scorer:
        errors = np.abs(flat(targets) - flat(answers)).mean(1)

        def score(counts: npt.NDArray[np.int64]) -> Floats:
            return np.asarray((counts @ errors) / counts.sum(1))

        return score

    def interval(self, targets: Arrays, answers: Arrays) -> tuple[float, float]:
        """Of a mean over samples, by the central limit theorem."""
        low, high = _mean_interval(np.abs(flat(targets) - flat(answers)).mean(1))
        return max(0.0, low), high

    def drop_interval(self, targets: Arrays, before: Arrays, after: Arrays) -> tuple[float, float]:
        """Of the mean difference of the errors on the same samples."""
        old, new = (np.abs(flat(targets) - flat(a)).mean(1) for a in (before, after))
        return _mean_interval(new - old)

    def figures(self, targets: Arrays, answers: Arrays) -> tuple[Figure, ...]:
        """R² (the mean over the numbers), the root mean squared error, and each number's absolute error."""
        wanted, given = flat(targets), flat(answers)
        squared, spread = (wanted - given) ** 2, ((wanted - wanted.mean(0)) ** 2).sum(0)
        varies = spread > 0
        found = [Figure("Root mean squared error", float(np.sqrt(squared.mean())), self.unit)]
        if varies.any():
            found.insert(0, Figure("R²", float((1 - squared.sum(0)[varies] / spread[varies]).mean())))
        if 1 < len(self.names) == wanted.shape[1] <= MAX_NAMED:
            each = np.abs(wanted - given).mean(0)
            found += [
                Figure(f"Mean absolute error, {n}", float(e), self.unit) for n, e in zip(self.names, each, strict=True)
            ]
        return tuple(found)


def flat(arrays: Arrays) -> npt.NDArray[np.float64]:
    """All numbers of a sample in a row: [N, numbers]."""
    parts: tuple[npt.NDArray[Any], ...] = arrays if isinstance(arrays, tuple) else (arrays,)
    return np.concatenate([p.reshape(len(p), -1).astype(np.float64) for p in parts], axis=1)


def _mean_interval(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    mean, n = float(values.mean()), len(values)
    half = Z95 * float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    return mean - half, mean + half
