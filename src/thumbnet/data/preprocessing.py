"""How a pixel becomes a network input: part of the exported model's contract, in float and in int8."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Preprocessing:
    """Resize to `size` (height, width), then `(pixel / 255 - mean) / std` per channel."""

    size: tuple[int, int]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def normalize(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """uint8 [N, H, W, C] to float32 [N, C, H, W]."""
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        return np.ascontiguousarray(((pixels / np.float32(255) - mean) / std).transpose(0, 3, 1, 2), dtype=np.float32)

    def input_qparams(self) -> tuple[float, int]:
        """(scale, zero point) of the int8 input that covers all pixel values.

        Where mean and std are the same in all channels and the zero point comes out whole, the stored input is exactly
        pixel - 128.
        """
        low = min((0 - m) / s for m, s in zip(self.mean, self.std, strict=True))
        high = max((1 - m) / s for m, s in zip(self.mean, self.std, strict=True))
        scale = float(np.float32((high - low) / 255))
        return scale, int(np.clip(round(-128 - low / scale), -128, 127))

    def table(self, scale: float, zero_point: int) -> list[list[int]]:
        """Per channel, the stored int8 value of each of the 256 pixel values."""
        pixel = np.arange(256) / 255
        rows = [
            np.clip(np.rint((pixel - m) / s / scale) + zero_point, -128, 127).astype(int)
            for m, s in zip(self.mean, self.std, strict=True)
        ]
        return [row.tolist() for row in rows]

    def quantize(self, pixels: npt.NDArray[np.uint8], scale: float, zero_point: int) -> npt.NDArray[np.int8]:
        """uint8 [N, H, W, C] to int8 [N, H, W, C], by `table`."""
        table = np.array(self.table(scale, zero_point), dtype=np.int8)
        return np.stack([table[c][pixels[..., c]] for c in range(self.channels)], axis=-1)

    def json(self) -> dict[str, Any]:
        return asdict(self)
