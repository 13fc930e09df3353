"""Can anything in the design space keep the limits? Told before anything is trained: costs depend on shapes alone.

The search refuses limits that no shape can be fitted to (`Fitter.fit`). The same question is asked here of the smallest
shapes first, so that an answer takes seconds: one that fits is a yes; where the smallest all miss by far, so does
everything larger; where one misses by little, the larger ones that end where it ends are asked as well, since kernels
are chosen by shape and a larger network can come out a few bytes smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from thumbnet.errors import InfeasibleError
from thumbnet.results import COST_LIMITS, Constraints, CostLimit, factor
from thumbnet.search.fit import Fitter
from thumbnet.search.recipe import Context
from thumbnet.search.shape import Fitted, Shape
from thumbnet.search.space import Space
from thumbnet.targets.target import Target

NEAR = 1.25  # a miss up to this factor may become a fit in a shape that is larger on paper
NAMED = 3  # misses that a message names

Ask = Callable[[Shape, Constraints], Fitted | None]  # the nearest network of this shape to those limits


def check_feasible(space: Space, target: Target, limits: Constraints, name: str) -> None:
    """Raises `InfeasibleError` where no network of the space keeps the limits on costs; `name` is the reference's.

    Its message has the least that is possible of each limited cost, and the nearest misses; its hint limits that would
    do. Needs no data and no weights.
    """
    context = Context({g.id: np.ones(g.size) for g in space.groups})
    misses = nearest_misses(Fitter(space, context, target, limits))
    if misses is not None:

        def ask(shape: Shape, relaxed: Constraints) -> Fitted | None:
            return Fitter(space, context, target, relaxed).fit(shape)

        raise InfeasibleError(*refusal(space, target, limits, name, misses, ask))


def nearest_misses(fitter: Fitter) -> list[Fitted] | None:
    """What comes nearest, of each way to end the network; None as soon as something fits."""
    shapes = list(fitter.shapes())
    small = smallest(shapes)
    misses = _misses(fitter, small)
    if misses is None:
        return None
    near = {m.shape.cut for m in misses if _excess(m) <= NEAR}
    asked = set(small)
    larger = [s for s in shapes if s not in asked and (s.cut in near or not misses)]
    more = _misses(fitter, sorted(larger, key=_size))
    return None if more is None else misses + more


def smallest(shapes: Sequence[Shape]) -> list[Shape]:
    """Of each place where the network may end, the shape with the smallest input and most blocks left out; widths
    scaled all alike, which ends narrowest. The earliest ends come first: they are last in the space."""
    found: dict[str | None, Shape] = {}
    for shape in shapes:
        if shape.cut not in found or _size(shape) < _size(found[shape.cut]):
            found[shape.cut] = shape
    return list(found.values())[::-1]


def _size(shape: Shape) -> tuple[int, int, float]:
    height, width = shape.resolution or (0, 0)
    return height * width, -len(shape.skips), -shape.balance


def _misses(fitter: Fitter, shapes: Iterable[Shape]) -> list[Fitted] | None:
    """Those of the shapes that miss; None as soon as one fits."""
    misses = []
    for shape in shapes:
        fitted = fitter.fit(shape)
        if fitted is not None and fitted.fits:
            return None
        if fitted is not None:
            misses.append(fitted)
    return misses


def refusal(
    space: Space, target: Target, limits: Constraints, name: str, misses: Iterable[Fitted], ask: Ask | None = None
) -> tuple[str, str]:
    """Message and hint of an `InfeasibleError`. With `ask`, only limits that were tried and found to do are advised."""
    ranked = sorted(misses, key=lambda m: (_excess(m), m.recipe.id))
    if not ranked:
        return "No network of this design space could be made smaller at all.", "Try another reference."
    missed = [c for c in COST_LIMITS if any(c.key in m.violations for m in ranked)]
    fixed = not (space.groups or space.blocks or space.cuts or len(space.resolutions) > 1)
    why = " There is nothing to make smaller: all channels are those of its inputs and outputs." if fixed else ""
    least = {c.key: min(_value(m, c) for m in ranked) for c in missed}
    below = [c.beside(least[c.key], getattr(limits, c.key)) for c in missed]
    alone = all(least[c.key] <= getattr(limits, c.key) for c in missed)
    together = " Each limit can be kept alone, but not all of them together." if alone else ""
    nearest = [_told(m, limits) for m in _different(ranked, missed)]
    others = f" Others need {'; or '.join(nearest[1:])}." if nearest[1:] else ""
    return (
        f"Nothing in the design space of '{name}' fits these limits on {target.name}.{why} The least possible is "
        f"{', '.join(below)}.{together} The nearest needs {nearest[0]}.{others}",
        _advice(ranked, missed, limits, target, ask),
    )


def _different(ranked: list[Fitted], missed: list[CostLimit]) -> list[Fitted]:
    """The nearest miss, and those that need least of each missed cost, where they are others."""
    chosen = [ranked[0], *(min(ranked, key=lambda m, c=c: _value(m, c)) for c in missed)]  # type: ignore[misc]
    found: dict[tuple[float, ...], Fitted] = {}
    for miss in chosen:
        found.setdefault(tuple(_value(miss, c) for c in missed), miss)
    return list(found.values())[:NAMED]


def _told(miss: Fitted, limits: Constraints) -> str:
    """Its limited costs: "33.0 KB of flash (1.03 times the limit), 12.1 KB of RAM"."""
    told = []
    for cost in COST_LIMITS:
        if getattr(limits, cost.key) is not None:
            over = miss.violations.get(cost.key)
            told.append(cost.text(_value(miss, cost)) + (f" ({factor(over)} the limit)" if over else ""))
    return ", ".join(told)


def _advice(ranked: list[Fitted], missed: list[CostLimit], limits: Constraints, target: Target, ask: Ask | None) -> str:
    """Limits that would do: each missed one alone where that is enough, else those of the nearest miss together."""
    ways = []
    for cost in missed:
        only = [m for m in ranked if set(m.violations) == {cost.key}]
        ways += [min(only, key=lambda m: _value(m, cost))] if only else []
    told = []
    for miss in ways or ranked[:NAMED]:
        over = [c for c in missed if c.key in miss.violations]
        relaxed = Constraints.of_json({**vars(limits), **{c.key: c.roomy(_value(miss, c)) for c in over}})
        fitted = ask(miss.shape, relaxed) if ask else miss
        if fitted is not None and (ask is None or fitted.fits):
            told.append(" and ".join(_asked(c, _value(miss, c), target) for c in over))
            if not ways:
                break  # the others ask for more
    would = f"{', or '.join(dict.fromkeys(told[:NAMED]))} would do; or choose" if told else "Choose"
    return f"{would[0].upper()}{would[1:]} a smaller reference."


def _asked(cost: CostLimit, value: float, target: Target) -> str:
    """The option, or the board where its memory is the limit."""
    own = {"flash_bytes": target.flash_bytes, "ram_bytes": target.ram_bytes}.get(cost.key)
    if own is not None and value > own:
        return f"a board with {cost.text(cost.roomy(value))}"
    return cost.asked(value)


def _value(miss: Fitted, cost: CostLimit) -> float:
    return float(getattr(miss.costs, cost.key))


def _excess(miss: Fitted) -> float:
    return max(miss.violations.values())
