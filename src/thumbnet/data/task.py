"""What the network is for: how answers are judged, with honest intervals."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Z95 = 1.959964


class Task(ABC):
    """Extension point: a kind of answer and its measure of quality."""

    @abstractmethod
    def accuracy(self, labels: npt.NDArray[Any], answers: npt.NDArray[Any]) -> float:
        """The measure, in percent; higher is better."""

    @abstractmethod
    def interval(self, labels: npt.NDArray[Any], answers: npt.NDArray[Any]) -> tuple[float, float]:
        """Its 95 % interval, in percent."""


@dataclass(frozen=True)
class Classification(Task):
    """One class of several; answers and labels are class numbers [N]."""

    classes: tuple[str, ...]

    def accuracy(self, labels: npt.NDArray[Any], answers: npt.NDArray[Any]) -> float:
        return 100.0 * float((labels == answers).mean())

    def interval(self, labels: npt.NDArray[Any], answers: npt.NDArray[Any]) -> tuple[float, float]:
        """Wilson's score interval (E. B. Wilson, JASA 1927)."""
        n, p = len(labels), float((labels == answers).mean())
        centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
        half = Z95 / (1 + Z95**2 / n) * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n))
        return 100 * max(0.0, centre - half), 100 * min(1.0, centre + half)

    def drop_interval(
        self, labels: npt.NDArray[Any], before: npt.NDArray[Any], after: npt.NDArray[Any]
    ) -> tuple[float, float]:
        """95 % interval of accuracy(before) - accuracy(after) on the same images, in points.

        Paired: only images on which the two disagree contribute (the Wald interval for matched pairs).
        """
        difference = (before == labels).astype(float) - (after == labels).astype(float)
        half = Z95 * float(difference.std(ddof=1)) / math.sqrt(len(labels)) if len(labels) > 1 else 1.0
        mean = float(difference.mean())
        return 100 * (mean - half), 100 * (mean + half)

    def confusion(self, labels: npt.NDArray[Any], answers: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Counts [true class, answered class]."""
        size = len(self.classes)
        return np.bincount(labels * size + answers, minlength=size * size).reshape(size, size)
