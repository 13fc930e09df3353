"""Augmentation of batches, cheap on a CPU and reproducible: everything random comes from one generator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training image. Probabilities of flips are one half; the rest are half-ranges."""

    flip: bool = True  # left-right
    upside_down: bool = False
    transpose: bool = False  # square images only; with both flips: all eight symmetries
    shift: float = 0.06  # fraction of the side
    rotate: float = 0.0  # radians
    scale: float = 0.0
    contrast: float = 0.2
    brightness: float = 0.1  # in normalized units

    @staticmethod
    def none() -> Augmentation:
        """Leaves inputs alone: for data whose axes are not those of an image."""
        return Augmentation(flip=False, shift=0.0, contrast=0.0, brightness=0.0)

    @staticmethod
    def surface() -> Augmentation:
        """For pictures of surfaces and parts seen from above, which have no up or left."""
        return Augmentation(
            upside_down=True,
            transpose=True,
            shift=0.08,
            rotate=0.1,
            scale=0.1,
            contrast=0.25,
            brightness=0.15,
        )

    def apply(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Float [B, C, H, W] to the same shape, each image changed on its own."""
        count = len(x)
        if self.flip:
            x = torch.where(_coin(count, generator), x.flip(3), x)
        if self.upside_down:
            x = torch.where(_coin(count, generator), x.flip(2), x)
        if self.transpose and x.shape[2] == x.shape[3]:
            x = torch.where(_coin(count, generator), x.transpose(2, 3), x)
        if self.shift or self.rotate or self.scale:
            x = self._move(x, generator)
        if self.contrast or self.brightness:
            gain = 1 + self.contrast * _spread((count, 1, 1, 1), generator)
            x = x * gain + self.brightness * _spread((count, 1, 1, 1), generator)
        return x.contiguous(memory_format=torch.channels_last)

    def _move(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        angle = self.rotate * _spread((len(x),), generator)
        scale = 1 + self.scale * _spread((len(x),), generator)
        shift = 2 * self.shift * _spread((len(x), 2), generator)  # grid coordinates span two units
        cos, sin = scale * angle.cos(), scale * angle.sin()
        matrix = torch.stack(
            [torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1
        )
        grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def _coin(count: int, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(count, 1, 1, 1, generator=generator) < 0.5


def _spread(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    return 2 * torch.rand(shape, generator=generator) - 1
