"""What a network learns: a loss of its outputs, of labels alone or of all that it was shown."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import torch

from thumbnet.training.images import Outputs, Seen, Tensors, as_tuple


class LabelObjective(Protocol):
    """Loss of a batch: network outputs [B, classes], labels [B], and the images' positions in the split [B]."""

    def __call__(self, outputs: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor) -> torch.Tensor: ...


class SeenObjective(ABC):
    """Loss of a batch for networks of any outputs: these, all that the network was shown, and the samples' positions in
    the split [B]."""

    @abstractmethod
    def of(self, outputs: Tensors, seen: Seen, indices: torch.Tensor) -> torch.Tensor: ...


Objective = LabelObjective | SeenObjective


def loss_of(objective: Objective, outputs: Outputs, seen: Seen, indices: torch.Tensor) -> torch.Tensor:
    """The loss of a batch by either kind of objective."""
    given = as_tuple(outputs)
    if isinstance(objective, SeenObjective):
        return objective.of(given, seen, indices)
    return objective(given[0], seen.targets[0], indices)
