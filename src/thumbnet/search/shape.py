"""What is fixed before widths are fitted, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass

from thumbnet.results import Costs
from thumbnet.search.recipe import Move, Recipe


@dataclass(frozen=True)
class Plan:
    """Which blocks are left out, and what is computed with instead of the reference's layers."""

    skips: tuple[str, ...] = ()
    exchanges: tuple[Move, ...] = ()
    taught: tuple[str, ...] = ()  # variants whose weights are inherited


@dataclass(frozen=True)
class Shape:
    """What is fixed before widths are fitted: where the network ends, which blocks it leaves out, what it computes
    with instead of the reference's layers (`exchanges`), its input.

    Where the insides of separable blocks keep the fraction f of their channels, the streams between blocks keep
    f ** `balance`: 1 scales all alike, 0 leaves the streams as wide as RAM allows. Along the network the fraction
    changes by a factor of 2 ** -`tilt`: with a tilt of 1 the first channels are twice as many as the last, compared
    with the reference.
    """

    cut: str | None
    skips: tuple[str, ...]
    resolution: tuple[int, int] | None
    balance: float
    tilt: float = 0.0
    exchanges: tuple[Move, ...] = ()
    taught: tuple[str, ...] = ()
    grey: bool = False


@dataclass(frozen=True, eq=False)
class Fitted:
    """A network that fits (or the closest miss), with its exact predicted costs."""

    recipe: Recipe
    shape: Shape
    widths: dict[str, int]
    costs: Costs
    violations: dict[str, float]
    kept: float  # fraction of the reference's total importance that the kept channels hold

    @property
    def fits(self) -> bool:
        return not self.violations
