"""How much work each effort buys. Everything is told in parts of the final training, which follows from the data."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from thumbnet.errors import UsageError

FRONT_POINTS = 5  # budgets of flash for which a front has networks
FRONT_CANDIDATES = 4  # scored for each of them, at least
LITTLE_DATA = 4000  # images; below it batches are smaller, so that an epoch still has enough steps


@dataclass(frozen=True)
class Effort:
    """The budget of one run."""

    candidates: int  # networks scored without training, for each budget where there are several
    rungs: tuple[tuple[int, float], ...]  # (survivors, what each has had at the end, as a part of the final steps)
    finalists: int
    final_epochs: float  # of the finalists' end-to-end distillation
    least_steps: int  # of it: little data is seen more often
    quantized: float  # steps of quantization-aware training, as a part of the final ones
    scoring_images: int  # training images used to score a candidate without training
    taught: int  # steps in which a variant of a block learns what the reference's block does; 0: none is taught

    def __post_init__(self) -> None:
        survivors, parts = [s for s, _ in self.rungs], [p for _, p in self.rungs]
        if survivors != sorted(survivors, reverse=True) or (survivors and survivors[-1] < self.finalists):
            raise ValueError("each rung must keep fewer networks than the one before, and enough finalists")
        if parts != sorted(set(parts)):
            raise ValueError("each rung must train for longer than the one before")

    def steps(self, images: int) -> int:
        """Of the final training on so many images."""
        return max(self.least_steps, math.ceil(self.final_epochs * images / batch_of(images)))

    def of_front(self) -> Effort:
        """With a finalist for each budget, and no more candidates in all than one budget would have, where possible."""
        rungs = tuple((max(s, FRONT_POINTS), part) for s, part in self.rungs)
        candidates = max(FRONT_CANDIDATES, self.candidates // FRONT_POINTS)
        return replace(self, candidates=candidates, rungs=rungs, finalists=FRONT_POINTS)

    def quantized_steps(self, images: int) -> int:
        return math.ceil(self.quantized * self.steps(images))

    def rung_steps(self, images: int) -> tuple[tuple[int, int], ...]:
        """(survivors, steps that each has had at the end of the rung)."""
        return tuple((s, math.ceil(p * self.steps(images))) for s, p in self.rungs)


def batch_of(images: int) -> int:
    """Images in a batch."""
    return 32 if images < LITTLE_DATA else 64


EFFORTS = {
    "quick": Effort(16, ((6, 0.06), (3, 0.14)), 1, 10, 0, 0.3, 320, 40),
    "standard": Effort(48, ((20, 0.012), (10, 0.03), (5, 0.07), (2, 0.16)), 1, 30, 3000, 0.25, 768, 80),
    "thorough": Effort(64, ((24, 0.02), (12, 0.05), (6, 0.1), (3, 0.2)), 2, 80, 8000, 0.2, 1024, 300),
}


def effort_named(name: str) -> Effort:
    """Raises `UsageError` for an unknown name."""
    if name not in EFFORTS:
        raise UsageError(f"There is no effort '{name}'.", f"Choose one of {', '.join(EFFORTS)}.")
    return EFFORTS[name]
