"""The Pareto front of flash and quality: candidates for several budgets, of which the best of each goes on.

Candidates are fitted to budgets that lie a constant factor apart, and trained together. What goes on is chosen by
dominance: first the best of every budget, then those that none beats in both flash and validation loss, then those that
only these beat, and so on (non-dominated sorting, Deb et al., "A fast and elitist multiobjective genetic algorithm:
NSGA-II", 2002). Within one such layer a smaller loss comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from thumbnet.progress import Progress
from thumbnet.results import Constraints
from thumbnet.search.efforts import FRONT_POINTS, Effort
from thumbnet.search.feasible import smallest
from thumbnet.search.halving import Candidate
from thumbnet.search.propose import Bench, fitter_of, propose
from thumbnet.search.shape import Fitted
from thumbnet.search.variants import Variant

SENSIBLE = 1.5  # times the least flash: narrower everywhere, a network hardly keeps anything


@dataclass(frozen=True)
class Budgets:
    """Limits of flash in bytes, ascending. Called as the rule that halves the field of candidates."""

    flash_bytes: tuple[int, ...]

    def of(self, candidate: Candidate) -> int:
        """Position of the smallest budget that holds the candidate; of the largest where none does."""
        needed = candidate.fitted.costs.flash_bytes
        holding = [k for k, b in enumerate(self.flash_bytes) if needed <= b]
        return holding[0] if holding else len(self.flash_bytes) - 1

    def __call__(self, candidates: list[Candidate], survivors: int) -> tuple[list[Candidate], list[Candidate]]:
        """(those that go on, those that do not), each best first."""
        ranked = by_dominance(candidates)
        firsts: dict[int, Candidate] = {}
        for candidate in sorted(candidates, key=lambda c: c.rank):
            firsts.setdefault(self.of(candidate), candidate)
        chosen = list(firsts.values())[:survivors]
        chosen += [c for c in ranked if c not in chosen][: survivors - len(chosen)]
        return [c for c in ranked if c in chosen], [c for c in ranked if c not in chosen]


def by_dominance(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Layer by layer of candidates that no other one of the rest beats in flash and loss; within a layer by loss."""
    rest, ranked = list(candidates), []
    while rest:
        layer = [c for c in rest if not any(_beats(o, c) for o in rest)]
        ranked += sorted(layer, key=lambda c: c.rank)
        rest = [c for c in rest if c not in layer]
    return ranked


def _beats(a: Candidate, b: Candidate) -> bool:
    mine, other = (a.fitted.costs.flash_bytes, a.loss), (b.fitted.costs.flash_bytes, b.loss)
    return mine != other and mine[0] <= other[0] and mine[1] <= other[1]


def budgets_between(least: int, most: int, points: int = FRONT_POINTS) -> Budgets:
    """So many budgets from `least` to `most` bytes, a constant factor apart; fewer where they would be alike."""
    low = min(least, most)
    factor = (most / low) ** (1 / max(1, points - 1))
    return Budgets(tuple(sorted({most, *(round(low * factor**k) for k in range(points - 1))})))


def budgets_for(bench: Bench, reference_bytes: int) -> Budgets:
    """From the smallest sensible network of the space to the reference as plain int8, within the limit on flash."""
    fitter = fitter_of(replace(bench, limits=Constraints(flash_bytes=1)))
    found = [f for s in smallest(list(fitter.shapes())) if (f := fitter.fit(s)) is not None]
    most = min(reference_bytes, bench.limits.flash_bytes or reference_bytes)
    least = min((f.costs.flash_bytes for f in found), default=most)
    return budgets_between(round(SENSIBLE * least), most)


def propose_front(
    bench: Bench,
    budgets: Budgets,
    variants: Sequence[Sequence[Variant]],
    effort: Effort,
    progress: Progress,
    workers: int = 1,
) -> tuple[list[Fitted], list[Fitted]]:
    """Candidates for every budget, and the misses. The limits of `bench` hold besides."""
    fits: dict[str, Fitted] = {}
    misses: list[Fitted] = []
    for flash in budgets.flash_bytes:
        limits = replace(bench.limits, flash_bytes=flash).tightened()
        own, missed = propose(replace(bench, limits=limits), variants, effort, progress, workers)
        fits.update({f.recipe.id: f for f in own})
        misses += missed
    return list(fits.values()), misses
