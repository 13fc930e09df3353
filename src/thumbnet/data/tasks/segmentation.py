"""A class for every pixel."""

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

UNLABELLED = 255  # pixels of this number count nowhere, as in Pascal VOC
TEMPERATURE = 2.0


@dataclass(frozen=True)
class Segmentation(Task):
    """Targets are class numbers [N, H, W], 255 where there is none; answers are class numbers of the same shape.

    Outputs are logits (classes, H, W), or one logit (1, H, W) where there are two classes.
    """

    name = "segmentation"
    spatial = True
    classes: tuple[str, ...]

    @property
    def metric(self) -> Metric:
        return Metric("miou", "mIoU")

    def check(self, outputs: Sequence[Shape], targets: Sequence[Shape], inputs: Sequence[Shape]) -> None:
        output, target = only("segmentation", outputs, targets)
        if len(output) != 3:
            raise DataError(
                f"The model answers values of shape {output}.", "Segmentation takes logits (classes, height, width)."
            )
        if output[0] != len(self.classes) and (output[0], len(self.classes)) != (1, 2):
            raise DataError(
                f"The model tells {output[0]} classes apart, the masks have {len(self.classes)}: "
                f"{', '.join(self.classes)}.",
                "Give the network a head for these classes and fine-tune it first.",
            )
        if output[1:] != target:
            raise DataError(f"The model answers {output[1:]} pixels, the masks have {target}.")

    def loss(self, batch: Batch) -> torch.Tensor:
        """Cross entropy over the labelled pixels."""
        logits, wanted = batch.outputs[0], batch.targets[0].long()
        labelled = wanted != UNLABELLED
        if logits.shape[1] == 1:
            each = F.binary_cross_entropy_with_logits(logits[:, 0], (wanted == 1).float(), reduction="none")
            return (each * labelled).sum() / labelled.sum().clamp_min(1)
        summed = F.cross_entropy(logits, wanted, ignore_index=UNLABELLED, reduction="sum")
        return summed / labelled.sum().clamp_min(1)

    def weight(self, batch: Batch) -> float:
        return float((batch.targets[0] != UNLABELLED).sum())

    def distance(self, outputs: Tensors, teacher: Tensors) -> torch.Tensor:
        """T² KL(teacher ‖ student) at temperature T, the mean over pixels."""
        student, wanted = outputs[0] / TEMPERATURE, teacher[0] / TEMPERATURE
        if student.shape[1] == 1:  # the other class has logit 0
            student, wanted = (torch.cat([torch.zeros_like(v), v], 1) for v in (student, wanted))
        each = F.kl_div(F.log_softmax(student, 1), F.log_softmax(wanted, 1), reduction="none", log_target=True)
        return TEMPERATURE**2 * each.sum(1).mean()

    def answers(self, batch: Batch) -> Arrays:
        logits = batch.outputs[0].detach()
        chosen = logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(1)
        return chosen.to(torch.uint8).numpy()

    def scorer(self, targets: Arrays, answers: Arrays) -> Scorer:
        """The mean over classes of intersection / union, each summed over all drawn images; classes that occur neither
        in masks nor in answers are left out."""
        shared, either = overlaps(one(targets), one(answers), len(self.classes))

        def score(counts: npt.NDArray[np.int64]) -> Floats:
            both, union = counts @ shared, counts @ either
            known = union > 0
            ratio = np.where(known, both / np.maximum(union, 1), 0.0)
            return np.asarray(100.0 * ratio.sum(1) / np.maximum(known.sum(1), 1))

        return score

    def figures(self, targets: Arrays, answers: Arrays) -> tuple[Figure, ...]:
        """The IoU of each class, and the part of pixels that are right."""
        shared, either = (v.sum(0) for v in overlaps(one(targets), one(answers), len(self.classes)))
        labelled = one(targets) != UNLABELLED
        right = 100.0 * float((one(targets) == one(answers))[labelled].mean()) if labelled.any() else 0.0
        each = [
            Figure(f"IoU, {name}", 100.0 * float(shared[k] / either[k]), "%")
            for k, name in enumerate(self.classes)
            if either[k]
        ]
        return *each, Figure("Pixel accuracy", right, "%")


def overlaps(
    masks: npt.NDArray[Any], answers: npt.NDArray[Any], classes: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pixels [N, classes] in both, and in either, of mask and answer."""
    size = len(masks)
    wanted, given = masks.reshape(size, -1), answers.reshape(size, -1)
    labelled = wanted != UNLABELLED
    shared, either = np.empty((size, classes), np.int64), np.empty((size, classes), np.int64)
    for k in range(classes):
        a, b = wanted == k, (given == k) & labelled
        shared[:, k], either[:, k] = (a & b).sum(1), (a | b).sum(1)
    return shared, either
