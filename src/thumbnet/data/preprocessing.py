"""How a pixel becomes a network input: part of the exported model's contract, in float and in int8."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.errors import UsageError

MAX_STD = 10.0  # larger values are meant for pixels in 0..255


@dataclass(frozen=True)
class Preprocessing:
    """Resize to `size` (height, width), then `(pixel / 255 - mean) / std` per channel.

    Float arrays go in as they are: then `value_range` holds their (low, high), `mean` is 0 and `std` is 1. Where the
    network takes a vector, `size` is (1, length). `further` is that of the inputs after the first. With `grey` the
    network takes one channel where the data may have three: they become their luma first.
    Raises `UsageError` for values that cannot be meant, such as a mean for pixels in 0..255.
    """

    size: tuple[int, int]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    value_range: tuple[float, float] | None = None
    vector: bool = False
    further: tuple[Preprocessing, ...] = ()
    grey: bool = False

    def __post_init__(self) -> None:
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise UsageError(
                f"There are {self.channels} channels, {len(self.mean)} means and {len(self.std)} standard deviations.",
                "Give one value, or one per channel.",
            )
        if not all(0 <= m <= 1 for m in self.mean):
            raise UsageError(
                f"The mean {_text(self.mean)} is not within 0..1.",
                "It is meant for pixels in 0..1: divide one for 0..255 by 255.",
            )
        if not all(0 < s <= MAX_STD for s in self.std):
            raise UsageError(
                f"The standard deviation {_text(self.std)} is not within 0..{MAX_STD:g} (0 excluded).",
                "It is meant for pixels in 0..1: divide one for 0..255 by 255.",
            )
        if self.value_range is not None and not -math.inf < self.value_range[0] <= self.value_range[1] < math.inf:
            raise UsageError(f"The range {self.value_range} of the inputs is not finite, low before high.")

    @staticmethod
    def of_array(size: tuple[int, int], channels: int, value_range: tuple[float, float]) -> Preprocessing:
        """For float inputs, whose values lie in `value_range`."""
        return Preprocessing(size, channels, (0.0,) * channels, (1.0,) * channels, value_range)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the network's input, without the batch."""
        return (self.size[1],) if self.vector else (self.channels, *self.size)

    @property
    def each(self) -> tuple[Preprocessing, ...]:
        """One for every input of the network."""
        return (self, *self.further)

    def at(self, shape: tuple[int, ...]) -> Preprocessing:
        """The same for a network whose first input has this shape: (length,), (height, width) or (channels, height,
        width). One channel where there were three takes grey images.
        """
        size = (1, shape[0]) if len(shape) == 1 else (shape[-2], shape[-1])
        resized = replace(self, size=size)
        return resized.greyed() if len(shape) == 3 and shape[0] == 1 and self.channels == 3 else resized

    def greyed(self) -> Preprocessing:
        """For the luma of the same images, with the mean of the colours' means and stds."""
        mean, std = (sum(values) / len(values) for values in (self.mean, self.std))
        return replace(self, channels=1, mean=(mean,), std=(std,), grey=True).on_grid()

    @property
    def colours(self) -> tuple[tuple[float, float], ...]:
        """(gain, offset) by which each normalized channel of a grey image follows from what `greyed` makes of it."""
        ((mean,), (std,)) = (self.greyed().mean, self.greyed().std)
        return tuple((std / s, (mean - m) / s) for m, s in zip(self.mean, self.std, strict=True))

    def taken(self, inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What of the data's [N, H, W, C] goes into the network: with `grey`, the luma of three channels."""
        return luma(inputs) if self.grey and inputs.shape[-1] == 3 else inputs

    @property
    def uniform(self) -> bool:
        """Whether all channels share mean and std, so that one scale and zero point fit all pixels exactly."""
        return self.value_range is None and len(set(self.mean)) == 1 and len(set(self.std)) == 1

    def normalize(self, inputs: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """uint8 [N, H, W, C] (float32 where there is a `value_range`) to float32 [N, C, H, W]."""
        x = self.taken(inputs).transpose(0, 3, 1, 2).astype(np.float32)
        if self.value_range is not None:
            return np.ascontiguousarray(x)
        mean = np.array(self.mean, np.float32)[:, None, None] * np.float32(255)
        std = np.array(self.std, np.float32)[:, None, None] * np.float32(255)
        return np.ascontiguousarray((x - mean) / std)

    def input_qparams(self) -> tuple[float, int]:
        """(scale, zero point) of the int8 input that covers all values; the scale is a float32.

        Where all channels share mean and std, a step is one pixel value and the stored input is exactly pixel - 128,
        whatever the mean: real value 0 lies at pixel 255 · mean, and the zero point is the whole number next to it
        (the lower one in the middle, as for mean 0.5). Stored and normalized values then differ by the same part of a
        step, at most half, for every pixel; `on_grid` makes them equal.
        """
        if self.uniform:
            return float(np.float32(1 / (255 * self.std[0]))), math.ceil(255 * self.mean[0] - 0.5) - 128
        low, high = self._reach()
        scale = float(np.float32((high - low) / 255))
        if scale < np.finfo(np.float32).tiny:  # nothing but zeros, or too close to tell apart
            scale = 1.0
        return scale, int(np.clip(round(-128 - low / scale), -128, 127))

    def on_grid(self) -> Preprocessing:
        """With the mean moved by less than half a pixel value to where the zero point is whole.

        What is trained with it sees exactly the values that the firmware will see. No effect where channels differ.
        """
        if not self.uniform:
            return self
        _, zero_point = self.input_qparams()
        return replace(self, mean=((zero_point + 128) / 255,) * self.channels)

    def table(self, scale: float, zero_point: int) -> list[list[int]] | None:
        """Per channel, the stored int8 value of each of the 256 pixel values; None where inputs are no pixels."""
        if self.value_range is not None:
            return None
        if self.uniform and (scale, zero_point) == self.input_qparams():
            return [list(range(-128, 128))] * self.channels
        pixel = np.arange(256) / 255
        rows = [_stored((pixel - m) / s, scale, zero_point) for m, s in zip(self.mean, self.std, strict=True)]
        return [row.tolist() for row in rows]

    def quantize(self, inputs: npt.NDArray[Any], scale: float, zero_point: int) -> npt.NDArray[np.int8]:
        """uint8 [N, H, W, C] by `table`, float32 by rounding half to even, to int8 [N, H, W, C]."""
        inputs = self.taken(inputs)
        rows = self.table(scale, zero_point)
        if rows is None:
            return _stored(inputs, scale, zero_point)
        table = np.array(rows, dtype=np.int8)
        out = np.empty(inputs.shape, np.int8)
        for c in range(self.channels):
            out[..., c] = table[c][inputs[..., c]]
        return out

    def json(self) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "size": list(self.size),
            "channels": self.channels,
            "mean": list(self.mean),
            "std": list(self.std),
        }
        if self.value_range is not None:
            facts["value_range"] = list(self.value_range)
        if self.further:
            facts["further"] = [p.json() for p in self.further]
        if self.grey:
            facts["grey"] = True
        return facts

    def _reach(self) -> tuple[float, float]:
        """Lowest and highest real input, zero included: padding must be exact."""
        if self.value_range is not None:
            low, high = self.value_range
        else:
            low = min((0 - m) / s for m, s in zip(self.mean, self.std, strict=True))
            high = max((1 - m) / s for m, s in zip(self.mean, self.std, strict=True))
        return min(low, 0.0), max(high, 0.0)


def luma(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """[..., 3] to [..., 1]: ITU-R BT.601 luma as Pillow computes its mode L, of uint8 to the bit.

    The weights add up to 1, so that equal colours are their own luma.
    """
    weights = (19595, 38470, 7471)
    if pixels.dtype != np.uint8:
        return (pixels @ (np.array(weights) / 65536)).astype(pixels.dtype)[..., None]
    total = sum(w * pixels[..., c].astype(np.uint32) for c, w in enumerate(weights))
    return ((np.asarray(total) + 0x8000) >> 16).astype(np.uint8)[..., None]


def _stored(real: npt.NDArray[Any], scale: float, zero_point: int) -> npt.NDArray[np.int8]:
    stored: npt.NDArray[np.int8] = np.clip(np.rint(real / scale) + zero_point, -128, 127).astype(np.int8)
    return stored


def _text(values: tuple[float, ...]) -> str:
    return ", ".join(f"{v:g}" for v in values)
