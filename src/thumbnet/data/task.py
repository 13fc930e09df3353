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

        Paired: only images on which exactly one is right contribute. Wald's interval with half an image added to each
        cell of the 2 × 2 table (Agresti & Min, Statistics in Medicine 24, 2005), so that it has a width even where no
        image differs.
        """
        lost = float(((before == labels) & (after != labels)).sum()) + 0.5
        won = float(((before != labels) & (after == labels)).sum()) + 0.5
        n = len(labels) + 2.0
        mean = (lost - won) / n
        half = Z95 * math.sqrt(lost + won - (lost - won) ** 2 / n) / n
        return 100 * max(-1.0, mean - half), 100 * min(1.0, mean + half)

    def confusion(self, labels: npt.NDArray[Any], answers: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Counts [true class, answered class]."""
        size = len(self.classes)
        return np.bincount(labels * size + answers, minlength=size * size).reshape(size, size)
