"""What a network is for: how it learns, how its answers are judged, and how sure that judgement is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from thumbnet.data.bootstrap import percentile_interval, resampled
from thumbnet.errors import DataError, ModelError
from thumbnet.results import Metric

Shape = tuple[int, ...]
Tensors = tuple[torch.Tensor, ...]
Arrays = npt.NDArray[Any] | tuple[npt.NDArray[Any], ...]  # one, or several where there are several outputs or targets
Floats = npt.NDArray[np.float64]
Scorer = Callable[[npt.NDArray[np.int64]], Floats]  # how often each sample counts [R, N] -> the metric of each row [R]


@dataclass(frozen=True)
class Figure:
    """A further figure of quality, for the report: nothing is decided by it."""

    name: str
    value: float
    unit: str = ""


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples: what the network answered, what it should have, and what it saw. Leading axes are the samples."""

    outputs: Tensors
    targets: Tensors
    inputs: Tensors = ()

    def __len__(self) -> int:
        return len(self.outputs[0])


@dataclass(frozen=True)
class Assessment:
    """The metric, and the mean loss, over a split."""

    score: float
    loss: float


class Task(ABC):
    """Extension point: a kind of answer, its loss and its measure of quality.

    Targets and answers are what `answers` gives for all samples, one after the other: an array [N, ...], or a tuple of
    them where there are several.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """As in the table of tasks."""

    @property
    def spatial(self) -> bool:
        """Whether outputs and targets are maps of the image, which move when it moves."""
        return False

    @property
    def names_outputs(self) -> bool:
        """Whether the classes of the data set name the values of the one output, in their order."""
        return False

    @property
    def costly(self) -> bool:
        """Whether a call of the metric may take long, so that only the main figures get an interval by resampling."""
        return False

    @property
    @abstractmethod
    def metric(self) -> Metric:
        """What `score` measures."""

    @abstractmethod
    def check(self, outputs: Sequence[Shape], targets: Sequence[Shape], inputs: Sequence[Shape]) -> None:
        """Raises `DataError` or `ModelError` where targets of these shapes cannot be what a network with these outputs
        answers. Shapes are of one sample: channels first, as the network has them."""

    @abstractmethod
    def loss(self, batch: Batch) -> torch.Tensor:
        """The mean loss of a batch, a scalar that can be differentiated."""

    def weight(self, batch: Batch) -> float:
        """Over how many samples `loss` is the mean."""
        return len(batch)

    @abstractmethod
    def distance(self, outputs: Tensors, teacher: Tensors) -> torch.Tensor:
        """How far outputs are from the reference's, as a loss of about the size of `loss`."""

    @abstractmethod
    def answers(self, batch: Batch) -> Arrays:
        """All that the metric needs of a batch's outputs, as small as can be."""

    @abstractmethod
    def scorer(self, targets: Arrays, answers: Arrays) -> Scorer:
        """The metric as a function of how often each sample counts."""

    def score(self, targets: Arrays, answers: Arrays) -> float:
        """The metric over all samples."""
        return float(self.scorer(targets, answers)(np.ones((1, count(targets)), np.int64))[0])

    def interval(self, targets: Arrays, answers: Arrays) -> tuple[float, float]:
        """The metric's 95 % interval: by default a bootstrap over samples (Efron's percentiles, a fixed seed)."""
        return percentile_interval(resampled(count(targets), self.scorer(targets, answers)))

    def drop_interval(self, targets: Arrays, before: Arrays, after: Arrays) -> tuple[float, float]:
        """95 % interval of `metric.drop` on the same samples: by default a paired bootstrap."""
        old, new = (resampled(count(targets), self.scorer(targets, a)) for a in (before, after))
        return percentile_interval(old - new if self.metric.higher_is_better else new - old)

    def figures(self, targets: Arrays, answers: Arrays) -> tuple[Figure, ...]:
        """More figures for the report."""
        return ()

    def assess(self, batches: Iterable[Batch]) -> Assessment:
        """Metric and loss of a split; outputs are not kept longer than a batch."""
        total, size = 0.0, 0.0
        targets: list[Arrays] = []
        answers: list[Arrays] = []
        for batch in batches:
            weight = self.weight(batch)
            total += float(self.loss(batch)) * weight
            size += weight
            targets.append(targets_of(batch))
            answers.append(self.answers(batch))
        return Assessment(self.score(joined(targets), joined(answers)), total / max(1.0, size))


def count(arrays: Arrays) -> int:
    return len(arrays[0]) if isinstance(arrays, tuple) else len(arrays)


def one(arrays: Arrays) -> npt.NDArray[Any]:
    """The array, where there is one."""
    return arrays[0] if isinstance(arrays, tuple) else arrays


def joined(parts: Sequence[Arrays]) -> Arrays:
    """Batches one after the other."""
    if isinstance(parts[0], tuple):
        return tuple(np.concatenate([p[k] for p in parts]) for k in range(len(parts[0])))
    return np.concatenate([one(p) for p in parts])


def targets_of(batch: Batch) -> Arrays:
    arrays = tuple(t.numpy() for t in batch.targets)
    return arrays[0] if len(arrays) == 1 else arrays


def only(kind: str, outputs: Sequence[Shape], targets: Sequence[Shape]) -> tuple[Shape, Shape]:
    """The one output and the one target. Raises `ModelError` or `DataError` where there are more."""
    way = "Use task='custom' with a loss and a metric of your own for several."
    if len(outputs) != 1:
        raise ModelError(f"The model has {len(outputs)} outputs; {kind} takes one.", way)
    if len(targets) != 1:
        raise DataError(f"The data has {len(targets)} targets for each sample; {kind} takes one.", way)
    return outputs[0], targets[0]


__all__ = ["Assessment", "Batch", "Figure", "Metric", "Task"]
