"""What candidates learn from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch

from thumbnet.data import Augmentation, Classification, Preprocessing, Split, Task
from thumbnet.graph.graph import Graph
from thumbnet.search.efforts import batch_of
from thumbnet.training.loop import Images, Objective


@dataclass(frozen=True)
class Lesson:
    """Splits by resolution, the reference's answers, the objective."""

    train: Split
    val: Split
    preprocessing: Preprocessing
    teacher: torch.Tensor | None  # reference outputs for the training split [N, classes], where there is one vector
    objective: Objective
    augmentation: Augmentation
    seed: int
    task: Task = field(default_factory=lambda: Classification(()))
    _cache: dict[tuple[int, int], tuple[Images, Images]] = field(default_factory=dict)

    @property
    def batch(self) -> int:
        return batch_of(len(self.train))

    def images(self, size: tuple[int, int]) -> tuple[Images, Images]:
        """Training and validation images at this resolution."""
        if size not in self._cache:
            p = replace(self.preprocessing, size=size)
            self._cache[size] = (Images.of(self.train, p), Images.of(self.val, p))
        return self._cache[size]


def size_of(graph: Graph) -> tuple[int, int]:
    """(height, width) of the first input; (1, length) of a vector."""
    shape = graph.inputs[0].shape
    return (shape[1], shape[2]) if len(shape) == 3 else (1, shape[0])
