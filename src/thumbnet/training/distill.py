"""Knowledge distillation: the student learns the reference's answers beside the targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from thumbnet.data import Batch, Classification, Task
from thumbnet.training.images import Images, Seen, Tensors, as_tuple
from thumbnet.training.objective import Objective, SeenObjective

HALF_MAX = 6e4
MAX_BYTES = 2 << 30  # of the reference's outputs that are kept to learn from


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
        for seen in data.batches():
            x, *others = seen.inputs
            y = module(x, *others)
            outputs.append((y + module(x.flip(3), *others)) / 2 if mirrored else y)
            on_images(len(x) * (2 if mirrored else 1))
    return torch.cat(outputs).clone()


@dataclass(frozen=True, eq=False)
class Lessons(SeenObjective):
    """The objective of any task: `weight` × its distance to the reference's outputs + (1 − weight) × its loss.

    `teacher` holds the reference's outputs for the training samples, in their order, one tensor [N, ...] per output
    (float16 where they are maps); empty: targets alone. Where the task's outputs are maps of the image, targets and the
    reference's outputs move with it.
    """

    task: Task
    teacher: Tensors = ()
    weight: float = 0.7

    def of(self, outputs: Tensors, seen: Seen, indices: torch.Tensor) -> torch.Tensor:
        moved = seen.moved if self.task.spatial else _as_they_are
        loss = self.task.loss(Batch(outputs, tuple(moved(t) for t in seen.targets), seen.inputs))
        if not self.teacher:
            return loss
        wanted = tuple(moved(t[indices].float()) for t in self.teacher)
        return self.weight * self.task.distance(outputs, wanted) + (1 - self.weight) * loss


def objective_of(task: Task, teacher: Tensors = (), weight: float = 0.7) -> Objective:
    """What networks learn for a task: from the targets, and from the reference's outputs where they are given."""
    if isinstance(task, Classification):
        return Distillation(teacher[0], weight=weight) if teacher else CrossEntropy()
    return Lessons(task, teacher, weight)


def reference_outputs(
    module: nn.Module, data: Images, task: Task, *, mirrored: bool, on_images: Callable[[int], None]
) -> Tensors:
    """The reference's outputs to learn from, one tensor per output.

    Maps are kept in float16; where all together would need more than `MAX_BYTES`, there are none to learn from. With
    `mirrored`, the mean over the image and its mirror image, maps mirrored back.
    """
    if isinstance(task, Classification):
        return (teacher_outputs(module, data, mirrored=mirrored, on_images=on_images),)
    module.eval()
    parts: list[Tensors] = []
    with torch.inference_mode():
        for seen in data.batches(32):
            x, *others = seen.inputs
            outputs = as_tuple(module(x, *others))
            if mirrored:
                back = (y.flip(3) if task.spatial else y for y in as_tuple(module(x.flip(3), *others)))
                outputs = tuple((a + b) / 2 for a, b in zip(outputs, back, strict=True))
            outputs = tuple(_kept(y) for y in outputs)
            if len(data) * sum(y[0].numel() * y.element_size() for y in outputs) > MAX_BYTES:
                return ()
            parts.append(outputs)
            on_images(len(x) * (2 if mirrored else 1))
    return tuple(torch.cat([p[k] for p in parts]).clone() for k in range(len(parts[0])))


def _kept(outputs: torch.Tensor) -> torch.Tensor:
    """Maps in half the memory, where their values fit into float16."""
    return outputs.half() if outputs.ndim == 4 and float(outputs.abs().max()) < HALF_MAX else outputs


def _as_they_are(maps: torch.Tensor) -> torch.Tensor:
    return maps
