"""What candidates learn from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from thumbnet.data import Augmentation, Classification, Preprocessing, Split, Task
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
    _cache: dict[tuple[int, ...], tuple[Images, Images]] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        """Other processes decode and resize what they need themselves."""
        return {**self.__dict__, "_cache": {}}

    @property
    def batch(self) -> int:
        return batch_of(len(self.train))

    def images(self, shape: tuple[int, ...]) -> tuple[Images, Images]:
        """Training and validation images for a network with a first input of this shape."""
        if shape not in self._cache:
            p = self.preprocessing.at(shape)
            self._cache[shape] = (Images.of(self.train, p), Images.of(self.val, p))
        return self._cache[shape]
