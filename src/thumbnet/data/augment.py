"""Augmentation of batches, cheap on a CPU and reproducible: everything random comes from one generator."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F

from thumbnet.errors import UsageError


@dataclass(frozen=True, eq=False)
class View:
    """The random choices for some images, one row each."""

    flips: torch.Tensor  # bool [N, 3]: left-right, upside-down, transposed
    angle: torch.Tensor  # [N], radians
    scale: torch.Tensor  # [N]
    shift: torch.Tensor  # [N, 2], in units of half the side
    gain: torch.Tensor  # [N, 1, 1, 1]
    offset: torch.Tensor  # [N, 1, 1, 1]

    def at(self, indices: torch.Tensor | slice) -> View:
        """The choices of these images."""
        return View(*(getattr(self, f.name)[indices] for f in fields(self)))


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
    def named(name: str) -> Augmentation:
        """One of `AUGMENTATIONS`. Raises `UsageError` for another name."""
        if name not in AUGMENTATIONS:
            raise UsageError(f"There is no augmentation '{name}'.", f"Choose one of {', '.join(AUGMENTATIONS)}.")
        return AUGMENTATIONS[name]

    def draw(self, count: int, generator: torch.Generator) -> View:
        """What happens to each of `count` images. The same draw can be applied at any resolution."""
        return View(
            flips=torch.rand(count, 3, generator=generator) < 0.5,
            angle=self.rotate * _spread((count,), generator),
            scale=1 + self.scale * _spread((count,), generator),
            shift=2 * self.shift * _spread((count, 2), generator),  # grid coordinates span two units
            gain=1 + self.contrast * _spread((count, 1, 1, 1), generator),
            offset=self.brightness * _spread((count, 1, 1, 1), generator),
        )

    def apply(self, x: torch.Tensor, view: View) -> torch.Tensor:
        """Float [B, C, H, W] to the same shape, image by image as `view` says."""
        x = self._placed(x, view, "bilinear")
        if self.contrast or self.brightness:
            x = x * view.gain + view.offset
        return x.contiguous(memory_format=torch.channels_last)

    def move(self, maps: torch.Tensor, view: View) -> torch.Tensor:
        """Maps of the images, at any resolution, moved as `apply` moves the images: class numbers [B, H, W] of any
        integer type by the nearest pixel, floats [B, C, H, W] as the images. Beyond the edge, the edge is repeated."""
        if maps.is_floating_point():
            return self._placed(maps, view, "bilinear")
        return self._placed(maps[:, None].float(), view, "nearest")[:, 0].to(maps.dtype)

    def _placed(self, x: torch.Tensor, view: View, filter_: str) -> torch.Tensor:
        """Mirrored, turned and shifted."""
        coin = view.flips[:, :, None, None, None]
        if self.flip:
            x = torch.where(coin[:, 0], x.flip(3), x)
        if self.upside_down:
            x = torch.where(coin[:, 1], x.flip(2), x)
        if self.transpose and x.shape[2] == x.shape[3]:
            x = torch.where(coin[:, 2], x.transpose(2, 3), x)
        if self.shift or self.rotate or self.scale:
            x = _moved(x, view, filter_)
        return x


def _moved(x: torch.Tensor, view: View, filter_: str) -> torch.Tensor:
    cos, sin = view.scale * view.angle.cos(), view.scale * view.angle.sin()
    rows = [torch.stack([cos, -sin, view.shift[:, 0]], 1), torch.stack([sin, cos, view.shift[:, 1]], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode=filter_, padding_mode="border", align_corners=False)


def _spread(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    return 2 * torch.rand(shape, generator=generator) - 1


AUGMENTATIONS = {
    # inputs stay as they are: for data whose axes are not those of an image
    "none": Augmentation(flip=False, shift=0.0, contrast=0.0, brightness=0.0),
    # for images whose answer depends on where things are: positions, angles, boxes
    "light": Augmentation(flip=False, shift=0.0),
    # for text, digits and whatever means something else in a mirror
    "upright": Augmentation(flip=False),
    # for scenes and objects that may also be seen from the other side
    "photo": Augmentation(),
    # for surfaces and parts seen from above, which have no up or left
    "surface": Augmentation(
        upside_down=True, transpose=True, shift=0.08, rotate=0.1, scale=0.1, contrast=0.25, brightness=0.15
    ),
}
