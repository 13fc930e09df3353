"""Knowledge distillation: the student learns the reference's soft answers beside the labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from thumbnet.training.loop import Images


@dataclass(frozen=True)
class CrossEntropy:
    """Plain training on labels."""

    label_smoothing: float = 0.0

    def __call__(self, outputs: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(outputs, labels, label_smoothing=self.label_smoothing)


@dataclass(frozen=True, eq=False)
class Distillation:
    """Hinton, Vinyals, Dean 2015: `weight` × T² KL(teacher ‖ student at temperature T) + (1 − weight) × cross entropy.

    `teacher` holds the reference's outputs [N, classes] for the training images, in their order: computed once, so
    that a step costs the student alone.
    """

    teacher: torch.Tensor
    weight: float = 0.7
    temperature: float = 2.0

    def __call__(self, outputs: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        t = self.temperature
        soft = F.kl_div(F.log_softmax(outputs / t, 1), F.softmax(self.teacher[indices] / t, 1), reduction="batchmean")
        return self.weight * t * t * soft + (1 - self.weight) * F.cross_entropy(outputs, labels)


def teacher_outputs(
    module: nn.Module, data: Images, *, mirrored: bool, on_images: Callable[[int], None] = lambda count: None
) -> torch.Tensor:
    """The reference's outputs for every image; with `mirrored`, the mean over the image and its mirror image.

    `on_images` hears of every batch how many forward passes it took.
    """
    module.eval()
    outputs = []
    with torch.inference_mode():
        for x in data.batches():
            y = module(x)
            outputs.append((y + module(x.flip(3))) / 2 if mirrored else y)
            on_images(len(x) * (2 if mirrored else 1))
    return torch.cat(outputs).clone()
