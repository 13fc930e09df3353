"""From what blocks can become to networks that fit: the candidates that training will choose from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from thumbnet.graph.blocks import regions, truncate
from thumbnet.progress import Progress
from thumbnet.results import Constraints
from thumbnet.search.efforts import Effort
from thumbnet.search.executors import OnStep, run_tasks
from thumbnet.search.fit import Fitter
from thumbnet.search.recipe import Context
from thumbnet.search.select import plans, uniform_plans
from thumbnet.search.shape import Fitted, Plan, Shape
from thumbnet.search.space import Space
from thumbnet.search.variants import Variant
from thumbnet.targets.target import Target

MAX_CUTS = 4
BUNDLE = 8  # shapes that are fitted in one task: neighbours share what they know of each other


@dataclass(frozen=True, eq=False)
class Bench:
    """What every fit needs; each process makes its own `Fitter` of it, once."""

    space: Space
    context: Context
    target: Target
    limits: Constraints


def propose(
    bench: Bench, variants: Sequence[Sequence[Variant]], effort: Effort, progress: Progress, workers: int = 1
) -> tuple[list[Fitted], list[Fitted]]:
    """The candidates to score, of every kind some, and the misses."""
    fitter = fitter_of(bench)
    shapes = list(dict.fromkeys(shapes_of(fitter, variants)))
    bundles = [shapes[k : k + BUNDLE] for k in range(0, len(shapes), BUNDLE)]
    fits: dict[str, Fitted] = {}
    misses: list[Fitted] = []
    with progress.stage("Fit candidates to the limits", total=len(shapes)) as stage:
        for found in run_tasks(fit_bundle, bench, bundles, workers=workers, on_step=stage.advance):
            for fitted in found:
                if fitted.fits:
                    fits.setdefault(fitted.recipe.id, fitted)
                else:
                    misses.append(fitted)
        stage.advance(0, info=f"{len(fits)} fit")
    chosen = diverse(list(fits.values()), effort.candidates)
    widened = run_tasks(widen, bench, chosen, workers=workers, on_step=lambda steps, info: None)
    return list({f.recipe.id: f for f in widened}.values()), misses


def fit_bundle(bench: Bench, shapes: list[Shape], on_step: OnStep) -> list[Fitted]:
    fitter = fitter_of(bench)
    fitter.forget()
    found = []
    for shape in shapes:
        found.append(fitter.fit(shape))
        on_step(1, "")
    return [f for f in found if f is not None]


def widen(bench: Bench, fitted: Fitted, on_step: OnStep) -> Fitted:
    return fitter_of(bench).widened(fitted)


@lru_cache(maxsize=1)
def fitter_of(bench: Bench) -> Fitter:
    return Fitter(bench.space, bench.context, bench.target, bench.limits)


def shapes_of(fitter: Fitter, variants: Sequence[Sequence[Variant]]) -> Iterator[Shape]:
    """The shapes of the reference's own operations, and those of structures chosen for these limits."""
    space = fitter.space
    resolutions = space.resolutions or (None,)
    for cut in (None, *_spread(space.cuts, MAX_CUTS)):
        chosen = [Plan(s) for s in fitter.skips(cut)] + _plans(fitter, variants, cut)
        for resolution in resolutions:
            for plan in dict.fromkeys(chosen):
                for balance, tilt in fitter.balances(plan):
                    for grey in space.greys if plan.exchanges else space.greys[:1]:
                        yield Shape(cut, plan.skips, resolution, balance, tilt, plan.exchanges, plan.taught, grey)


def _plans(fitter: Fitter, variants: Sequence[Sequence[Variant]], cut: str | None) -> list[Plan]:
    space, limits = fitter.space, fitter.limits
    whole = space.graph if cut is None else truncate(space.graph, cut)
    there = {n.name for n in whole.nodes} - {cut}
    own = [v for v in variants if v[0].block in there]
    if not own:
        return []
    blocks = [b for b in regions(space.graph) if b.name in {v[0].block for v in own}]
    asked = {"flash_bytes": limits.flash_bytes, "macs": limits.macs}
    limited = {k: float(v) for k, v in asked.items() if v is not None}
    bare = Shape(cut, fitter.skips(cut)[-1], space.resolutions[0] if space.resolutions else None, 1.0)
    uniform = [p for skips in fitter.skips(cut) for p in uniform_plans(own, skips)]
    return [*plans(whole, blocks, own, limited, fitter.code_bytes(bare)), *uniform]


def _spread(cuts: Sequence[str], count: int) -> list[str]:
    """At most so many of them, from the deepest to the earliest."""
    if len(cuts) <= count:
        return list(cuts)
    return [cuts[round(k * (len(cuts) - 1) / (count - 1))] for k in range(count)]


def diverse(fitted: list[Fitted], count: int) -> list[Fitted]:
    """As different as can be: each next one shares least with those already chosen; of equals, what keeps most of the
    reference's importance."""
    left = sorted(fitted, key=lambda f: (-f.kept, f.recipe.id))
    seen: Counter[tuple[str, object]] = Counter()
    chosen: list[Fitted] = []
    while left and len(chosen) < count:
        best = min(left, key=lambda f: sum(seen[t] for t in _traits(f)))
        left.remove(best)
        chosen.append(best)
        seen.update(_traits(best))
    return chosen


def _traits(fitted: Fitted) -> tuple[tuple[str, object], ...]:
    shape = fitted.shape
    kinds = tuple(sorted({m.kind for m in shape.exchanges}))
    ways = {"kinds": kinds, "cut": shape.cut, "skips": len(shape.skips), "resolution": shape.resolution}
    return (*ways.items(), ("widths", (shape.balance, shape.tilt)), ("grey", shape.grey))
