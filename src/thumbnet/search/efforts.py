"""How much work each effort buys. Steps are optimizer steps; everything else follows from them."""

from __future__ import annotations

from dataclasses import dataclass

from thumbnet.errors import UsageError


@dataclass(frozen=True)
class Effort:
    """The budget of one run."""

    candidates: int  # networks scored without training (rung 0)
    rungs: tuple[tuple[int, int], ...]  # (survivors, total steps each has had at the end of the rung)
    final_epochs: float  # of the finalists' end-to-end distillation
    finalists: int
    quantized_epochs: float  # of quantization-aware training
    scoring_images: int  # training images used to score a candidate without training

    def __post_init__(self) -> None:
        survivors = [s for s, _ in self.rungs]
        if survivors != sorted(survivors, reverse=True) or (survivors and survivors[-1] < self.finalists):
            raise ValueError("each rung must keep fewer networks than the one before, and enough finalists")


EFFORTS = {
    "quick": Effort(12, ((4, 60), (2, 150)), 10, 1, 3, 320),
    "standard": Effort(32, ((8, 120), (4, 240), (2, 480)), 30, 2, 8, 512),
    "thorough": Effort(64, ((16, 200), (8, 400), (4, 800)), 80, 3, 16, 1024),
}


def effort_named(name: str) -> Effort:
    """Raises `UsageError` for an unknown name."""
    if name not in EFFORTS:
        raise UsageError(f"There is no effort '{name}'.", f"Choose one of {', '.join(EFFORTS)}.")
    return EFFORTS[name]
