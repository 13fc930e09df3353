"""How the depthwise kernels for the DSP extension go over an image (`kernels/dsp/depthwise.c`): rows, lines, tiles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from thumbnet.cost.kernel import Overlap, Window


@dataclass(frozen=True)
class Lines:
    """`rows` output rows are computed from `lines` lines, each of two input rows and `words` pairs of columns."""

    rows: int
    lines: int
    words: int
    kept: int  # lines that the next output rows need again

    @staticmethod
    def of(w: Window) -> Lines:
        one = w.stride[1] == 1
        rows = 2 if w.stride == (1, 1) else 1
        lines = (w.kernel[0] + 1) // 2
        words = -(-w.out_w // 2) * (1 if one else 2) + w.kernel[1] // 2
        return Lines(rows, lines, words, lines - 1 if rows * w.stride[0] == 2 else 0)

    @property
    def bytes(self) -> int:
        """int16 values of four channels."""
        return self.lines * self.words * 32


@lru_cache(maxsize=4096)
def line_overlap(w: Window) -> Overlap | None:
    """A depthwise convolution may write four channels over themselves, unless it would outrun itself.

    What is written must not reach an input row that is read afterwards.
    """
    if w.in_c != w.out_c or w.out_h * w.out_w > w.in_h * w.in_w:
        return None
    lines = Lines.of(w)
    for done in range(lines.rows, w.out_h, lines.rows):
        later = max(0, done * w.stride[0] - w.padding[0] + 2 * lines.kept)
        if later < w.in_h and done * w.out_w > later * w.in_w:
            return None
    return Overlap(0, exact=True)
