"""How convolutions that compute several pixels at a time walk over an image: `kernels/generic/tn_windows.h`."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from thumbnet.cost.kernel import Window


class Walk(NamedTuple):
    """Tiles computed in calls for several at once, and these calls; of other tiles' windows: rows beyond the image,
    rows partly beyond it or with gaps, taps of rows with gaps; calls of memcpy, and what these copy in blocks and
    bytes."""

    fast: int
    calls: int
    outside: int
    edges: int
    gaps: int
    copies: int
    blocks: int
    rest: int

    def borders(self, w: Window) -> tuple[float, ...]:
        """Loop counts of building rows of windows."""
        built = self.outside + self.edges
        sizes = built * (w.run // 4), built * (w.run % 4)
        return (self.outside, self.edges, *sizes, self.gaps, self.copies, self.blocks, self.rest)


def flattened(w: Window) -> Window:
    """All pixels in one row where each is computed from the one in its place."""
    one = w.kernel == w.stride == (1, 1) and w.padding == (0, 0) and w.in_w == w.out_w and w.in_h >= w.out_h
    pixels = w.out_h * w.out_w
    return replace(w, in_h=1, out_h=1, in_w=pixels, out_w=pixels) if one and pixels < 1 << 16 else w


@lru_cache(maxsize=4096)
def walk(w: Window, tile: int) -> Walk:
    """The walk with `tile` pixels at a time."""
    left = np.arange(w.out_w) * w.stride[1] - w.padding[1]
    cols = left[:, None] + np.arange(w.kernel[1]) * w.dilation[1]
    taps = ((cols >= 0) & (cols < w.in_w)).sum(1)
    whole = (taps == w.kernel[1]) & (w.dilation[1] == 1)
    inner = np.flatnonzero(whole)
    end = int(inner[-1]) + 1 if len(inner) else 0
    rows = (np.arange(w.out_h) * w.stride[0] - w.padding[0])[:, None] + np.arange(w.kernel[0]) * w.dilation[0]
    real = ((rows >= 0) & (rows < w.in_h)).sum(1)
    fast = calls = outside = edges = y = x = 0
    copied = np.zeros(3, np.int64)
    while y < w.out_h:
        if whole[x] and x + tile <= end and real[y] == w.kernel[0]:
            count = (end - x) // tile
            fast, calls, x = fast + count, calls + 1, x + tile * count
            y, x = (y + 1, 0) if x == w.out_w else (y, x)
            continue
        row, column = y, x
        for _ in range(tile):
            if y < w.out_h:  # or else the last pixel is computed again
                row, column = y, x
                y, x = (y + 1, 0) if x + 1 == w.out_w else (y, x + 1)
            outside += w.kernel[0] - int(real[row])
            if not whole[column]:
                edges += int(real[row])
                copied += int(real[row]) * _copied(w, int(taps[column]))
    gaps = edges * w.kernel[1] if w.dilation[1] != 1 else 0
    return Walk(fast, calls, outside, edges, gaps, *(int(n) for n in copied))


def _copied(w: Window, taps: int) -> npt.NDArray[np.int64]:
    """Of a row with so many taps in the image."""
    count, size = (1, taps * w.in_c) if w.dilation[1] == 1 else (taps, w.in_c)
    return np.array(memory(count, size, w.in_c % 4 == 0), np.int64)


def memory(count: int, size: int, aligned: bool) -> tuple[int, int, int]:
    """Calls of memcpy or memset, blocks of 16 bytes where both ends are at multiples of 4, single bytes."""
    blocks = size // 16 if aligned else 0
    return count, count * blocks, count * (size - 16 * blocks)
