"""A split as a network sees it, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from thumbnet.data import Preprocessing, Split

Tensors = tuple[torch.Tensor, ...]
Outputs = torch.Tensor | Tensors  # what a network gives: a tuple where it has several


def as_tuple(outputs: Outputs) -> Tensors:
    return (outputs,) if isinstance(outputs, torch.Tensor) else tuple(outputs)


@dataclass(frozen=True, eq=False)
class Seen:
    """What a network was shown of some samples: its inputs, what it should answer, and how images were moved.

    `moved` does the same to maps of the images (see `Augmentation.move`).
    """

    inputs: Tensors
    targets: Tensors
    moved: Callable[[torch.Tensor], torch.Tensor] = lambda maps: maps


@dataclass(frozen=True)
class Images:
    """A split at one resolution, decoded and ready to be cut into batches. `further` is what there is besides the first
    input and the first target."""

    pixels: torch.Tensor  # uint8 [N, C, H, W] for images, float32 for other arrays
    labels: torch.Tensor  # int64 [N]; whatever the task has
    preprocessing: Preprocessing
    further_pixels: Tensors = ()
    further_labels: Tensors = ()

    @staticmethod
    def of(split: Split, preprocessing: Preprocessing) -> Images:
        arrays = preprocessing.taken(split.images(preprocessing.size)), *split.further_inputs
        pixels, *further = (torch.from_numpy(np.ascontiguousarray(a.transpose(0, 3, 1, 2))) for a in arrays)
        labels = tuple(torch.from_numpy(np.asarray(y)) for y in split.further_targets)
        return Images(pixels, torch.from_numpy(np.asarray(split.labels)), preprocessing, tuple(further), labels)

    def __len__(self) -> int:
        return len(self.labels)

    def normalized(self, indices: torch.Tensor | slice) -> torch.Tensor:
        """The first input, float32 [B, C, H, W] (or [B, length]) in the network's own range."""
        return _normalized(self.pixels, self.preprocessing, indices)

    def inputs(self, indices: torch.Tensor | slice) -> Tensors:
        """All inputs, each as `normalized`."""
        more = zip(self.further_pixels, self.preprocessing.further, strict=True)
        return self.normalized(indices), *(_normalized(x, p, indices) for x, p in more)

    def targets(self, indices: torch.Tensor | slice) -> Tensors:
        return self.labels[indices], *(y[indices] for y in self.further_labels)

    def seen(self, indices: torch.Tensor | slice) -> Seen:
        """These samples as they are."""
        return Seen(self.inputs(indices), self.targets(indices))

    def batches(self, size: int = 64) -> Iterator[Seen]:
        for start in range(0, len(self), size):
            yield self.seen(slice(start, start + size))


def _normalized(pixels: torch.Tensor, p: Preprocessing, indices: torch.Tensor | slice) -> torch.Tensor:
    x = pixels[indices].float()
    if pixels.dtype != torch.uint8:
        return x.flatten(1) if p.vector else x
    mean = torch.tensor(p.mean, dtype=torch.float32)[:, None, None] * 255
    std = torch.tensor(p.std, dtype=torch.float32)[:, None, None] * 255
    x = (x - mean) / std
    return x.flatten(1) if p.vector else x.contiguous(memory_format=torch.channels_last)
