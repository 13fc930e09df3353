"""Inputs made worse: noise, blur, other light. How much a network loses to them is how brittle it is.

The idea, common kinds of damage at several fixed severities, is that of Hendrycks & Dietterich, "Benchmarking Neural
Network Robustness to Common Corruptions and Perturbations", ICLR 2019. The parameters are ours, since theirs are tied
to 224 and 32 pixels: amounts are parts of the range of pixel values, of the image's side, or of the spread of the data.
Figures are not comparable with ImageNet-C or CIFAR-10-C.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
_CHUNK = 64  # images held as floats at once


@dataclass(frozen=True)
class Corruption:
    """One kind of damage. `apply(inputs [N, H, W, C], severity, generator)` gives as many of the same type; severity 0
    leaves them as they are. `unit` says what severities are parts of."""

    name: str
    unit: str
    severities: tuple[float, ...]
    apply: Callable[[npt.NDArray[Any], float, np.random.Generator], npt.NDArray[Any]]

    def corrupted(self, inputs: npt.NDArray[Any], severity: float, seed: int) -> npt.NDArray[Any]:
        """The same for the same seed; all severities share one draw, so that only its size differs."""
        return self.apply(inputs, severity, np.random.default_rng([seed, zlib.crc32(self.name.encode())]))


def noise(pixels: Pixels, severity: float, generator: np.random.Generator) -> Pixels:
    """Gaussian noise of standard deviation 255 · severity, independent for every pixel and channel."""
    return _each(
        pixels, lambda x: x + np.float32(255 * severity) * generator.standard_normal(x.shape, dtype=np.float32)
    )


def blur(pixels: Pixels, severity: float, generator: np.random.Generator) -> Pixels:
    """A Gaussian whose standard deviation is that part of the shorter side; edges are repeated."""
    sigma = severity * min(pixels.shape[1:3])
    return _each(pixels, lambda x: gaussian_filter(x, (0, sigma, sigma, 0), mode="nearest"))


def brighter(pixels: Pixels, severity: float, generator: np.random.Generator) -> Pixels:
    """255 · severity added to every value; what exceeds 255 is cut off, as by a sensor."""
    return _each(pixels, lambda x: x + np.float32(255 * severity))


def darker(pixels: Pixels, severity: float, generator: np.random.Generator) -> Pixels:
    """255 · severity taken from every value; what falls below 0 is cut off."""
    return _each(pixels, lambda x: x - np.float32(255 * severity))


def spread_noise(spread: float) -> Callable[[Floats, float, np.random.Generator], Floats]:
    """For inputs that are no images: Gaussian noise of standard deviation severity · `spread`. Nothing is cut off."""

    def apply(inputs: Floats, severity: float, generator: np.random.Generator) -> Floats:
        drawn = generator.standard_normal(inputs.shape, dtype=np.float32)
        return inputs + np.float32(severity * spread) * drawn

    return apply


IMAGE_CORRUPTIONS = (
    Corruption("noise", "of the range of pixel values, standard deviation", (0.06, 0.12), noise),
    Corruption("blur", "of the shorter side, standard deviation", (0.015, 0.03), blur),
    Corruption("brighter", "of the range of pixel values", (0.15, 0.3), brighter),
    Corruption("darker", "of the range of pixel values", (0.15, 0.3), darker),
)


def array_corruptions(training: npt.NDArray[Any]) -> tuple[Corruption, ...]:
    """For float inputs: noise, measured by the standard deviation of all values of the training inputs."""
    unit = "of the standard deviation of the training inputs"
    return (Corruption("noise", unit, (0.1, 0.2, 0.4), spread_noise(float(np.std(training, dtype=np.float64)))),)


def _each(pixels: Pixels, change: Callable[[Floats], Floats]) -> Pixels:
    """The change in float, some images at a time; rounded, and cut off at 0 and 255."""
    out = np.empty_like(pixels)
    for start in range(0, len(pixels), _CHUNK):
        rows = slice(start, start + _CHUNK)
        out[rows] = np.clip(np.rint(change(pixels[rows].astype(np.float32))), 0, 255).astype(np.uint8)
    return out
