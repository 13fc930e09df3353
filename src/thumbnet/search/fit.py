"""From a budget to networks that fit it: widths chosen under exact costs, channels by importance.

For each depth, resolution and balance (see `Shape`) one network is made that just fits. RAM comes first: while the
planned arena is too large, the widest group alive at its peak shrinks. Then flash and the other limits: all groups
narrow together, and bisection finds the widest that fits. Within a group the most important channels stay; of the
blocks that can be left out, the least important go first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from thumbnet.cost import estimate
from thumbnet.cost.memory import plan_arena
from thumbnet.cost.plan import ArenaPlan
from thumbnet.errors import ModelError
from thumbnet.graph.blocks import truncate
from thumbnet.graph.channels import ChannelGroup, channel_groups, keep_channels
from thumbnet.graph.graph import Graph
from thumbnet.graph.passes import clean
from thumbnet.graph.passes.remove_identity import remove_identity
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.lower import lower
from thumbnet.integer.passes.join_inputs import join_ports
from thumbnet.results import Constraints, Costs
from thumbnet.search.moves import GreyInput, InheritTaught, SetResolution, SetWidths, SkipBlock, Truncate
from thumbnet.search.recipe import Context, Move, Recipe
from thumbnet.search.shape import Fitted, Plan, Shape
from thumbnet.search.space import Space
from thumbnet.search.weightless import weightless
from thumbnet.targets.target import Target
from thumbnet.training.normalize import LINEAR, restore_names

STEP = 4  # widths are multiples of it: kernels work on four channels at a time
MIN_FRACTION = 1 / 8
BALANCES = (1.0, 0.0)
TILTS = (0.0, 1.0, -1.0)
MAX_ROUNDS = 60
PLANNED_BETTER = 1.2  # by more, a good plan of the arena hardly ever beats a quick one
MAX_STEMS = 4  # shapes whose costs are remembered
FRACTIONS = 128  # widths are fitted to this part of the reference's


@dataclass(frozen=True)
class _Group:
    """A channel group of a shape at full width: its name there, and how many channels it has."""

    bare: str
    size: int
    position: float  # of its first producer, from 0 (the input) to 1


@dataclass(frozen=True, eq=False)
class _Stem:
    """A shape at full width: its graph, its channel groups by the names that recipes use, and costs by widths."""

    graph: Graph
    groups: dict[str, _Group]
    costs: dict[tuple[int, ...], Costs] = field(default_factory=dict)


class Fitter:
    """Fits widths for one reference, target and set of limits."""

    def __init__(self, space: Space, context: Context, target: Target, limits: Constraints) -> None:
        self.space = space
        self.context = context
        self.target = target
        self.limits = limits
        # Slicing millions of weights hundreds of times would take minutes: costs depend on shapes alone.
        self.bare = weightless(restore_names(clean(space.graph)))
        self.inner = _inner(space)
        self._known = frozenset(g.id for g in space.groups)
        self._names = {g.id.removesuffix(LINEAR): g.id for g in space.groups}
        self._owners = _owners(space.groups)  # values are called alike in the normalized and in the bare graph
        self._caps: dict[tuple[object, ...], dict[str, int]] = {}
        self._kept: dict[tuple[object, ...], int] = {}  # the fraction that fitted last, of FRACTIONS
        self._stems: dict[tuple[object, ...], _Stem] = {}
        self.total = sum(float(v.sum()) for v in context.importance.values())

    def shapes(self) -> Iterator[Shape]:
        """Every combination of the reference's own operations: input, end, blocks left out, and balance."""
        for resolution in self.space.resolutions or (None,):
            for cut in (None, *self.space.cuts):
                for skips in self.skips(cut):
                    for balance in BALANCES:
                        yield Shape(cut, skips, resolution, balance, grey=self.space.greys[0])

    def balances(self, plan: Plan) -> list[tuple[float, float]]:
        """(balance, tilt): balances where separable blocks have insides, tilts where there is nothing else to vary."""
        if len(self.inner) == len(self._known):
            return [(1.0, t) for t in TILTS]
        return [(b, 0.0) for b in (BALANCES if not plan.exchanges else BALANCES[:1])]

    def code_bytes(self, shape: Shape) -> int:
        """What the kernels of a shape need at full width."""
        widths = {g: group.size for g, group in self._stem(shape).groups.items()}
        return self._costs(shape, widths).code_bytes

    def skips(self, cut: str | None) -> list[tuple[str, ...]]:
        """No block left out of those before the cut; the less important half of them, three quarters; all of them."""
        whole = self.bare if cut is None else truncate(self.bare, cut)
        there = {n.name for n in whole.nodes} - {cut}
        known = (b.name for b in self.space.blocks if b.exit in there)
        blocks = sorted(known, key=lambda b: (self.context.blocks.get(b, 0.0), b))
        return list(
            dict.fromkeys(
                tuple(blocks[:k]) for k in (0, math.ceil(len(blocks) / 2), math.ceil(len(blocks) * 3 / 4), len(blocks))
            )
        )

    def fit(self, shape: Shape) -> Fitted | None:
        """The widest network of this shape within the limits; the closest miss if there is none; None if impossible."""
        try:
            caps = self._ram_caps(shape)
            widths = self._flash_widths(shape, caps)
            return self._fitted(shape, widths)
        except ModelError:
            return None

    def forget(self) -> None:
        """Starts anew, so that what is found next does not depend on what was asked before."""
        self._kept.clear()

    def widened(self, fitted: Fitted) -> Fitted:
        """The same network with every group as much wider as the limits still allow, the groups one after another.

        Scaling all groups alike leaves a part of the budget unused, since widths are multiples of `STEP`.
        """
        shape, widths = fitted.shape, dict(fitted.widths)
        stem = self._stem(shape)
        for name in sorted(widths, key=lambda g: widths[g] / stem.groups[g].size):
            wider = {**widths, name: min(stem.groups[name].size, _next(widths[name]))}
            if wider != widths and self._keeps(shape, wider):
                widths = wider
        return self._fitted(shape, widths)

    def _keeps(self, shape: Shape, widths: dict[str, int]) -> bool:
        over = self.limits.violations(self._costs(shape, widths))
        if set(over) == {"ram_bytes"} and over["ram_bytes"] < PLANNED_BETTER:
            over = self.limits.violations(self._costs(shape, widths, exact=True))
        return not over

    # --- candidates

    def recipe(self, shape: Shape, widths: dict[str, int]) -> Recipe:
        groups = self._stem(shape).groups
        narrowed = {g: w for g, w in widths.items() if g in groups and w < groups[g].size}
        moves: list[Move] = [*(SkipBlock(b) for b in shape.skips)]  # while both ends of every block are alike
        moves += shape.exchanges
        if shape.taught:
            moves.append(InheritTaught(shape.taught))
        if narrowed:
            moves.append(SetWidths(narrowed))
        if shape.cut is not None:
            moves.append(Truncate(shape.cut))
        if shape.grey:
            moves.append(GreyInput())
        if shape.resolution is not None and shape.resolution != self.space.resolutions[0]:
            moves.append(SetResolution(*shape.resolution))
        return Recipe(tuple(moves))

    def skeleton(self, shape: Shape, widths: dict[str, int]) -> IntegerGraph:
        """The candidate's integer graph with its true shapes, and weights that do not matter."""
        stem = self._stem(shape)
        kept = {stem.groups[g].bare: range(w) for g, w in widths.items() if w < stem.groups[g].size}
        return join_ports(lower(keep_channels(stem.graph, kept), None))

    def _stem(self, shape: Shape) -> _Stem:
        """The shape at full width; widths are fitted to it many times in a row."""
        key = (shape.cut, shape.skips, shape.resolution, shape.exchanges, shape.grey)
        if key not in self._stems:
            while len(self._stems) >= MAX_STEMS:
                self._stems.pop(next(iter(self._stems)))
            self._stems[key] = self._grown(shape)
        return self._stems[key]

    def _grown(self, shape: Shape) -> _Stem:
        graph = self.bare
        for block in shape.skips:
            graph = SkipBlock(block).apply(graph, self.context)
        graph = remove_identity(graph)  # a relu behind a block that is left out, say, where another relu stands before
        for move in shape.exchanges:
            graph = move.apply(graph, self.context)
        if shape.cut is not None:
            graph = truncate(graph, shape.cut)
        if shape.grey:
            graph = GreyInput().apply(graph, self.context)
        graph = weightless(graph)  # what moves made, too: a new head's zeros, say, would suit cheaper kernels
        if shape.resolution is not None:
            graph = SetResolution(*shape.resolution).apply(graph, self.context)
        order = {n.name: k / max(1, len(graph.nodes) - 1) for k, n in enumerate(graph.nodes)}
        groups = {
            self._names.get(g.id, g.id): _Group(g.id, g.size, order.get(g.producers[0], 0.0))
            for g in channel_groups(graph)
            if not g.pinned
        }
        return _Stem(graph, groups)

    def _costs(self, shape: Shape, widths: dict[str, int], *, exact: bool = False) -> Costs:
        """What the candidate costs; RAM is an upper bound unless `exact`, which takes far longer in deep networks."""
        known = self._stem(shape).costs
        key = (exact, *widths.values())
        if key not in known:
            ig = self.skeleton(shape, widths)
            known[key] = estimate(ig, self.target, None if exact else self._quick_plan(ig))
        return known[key]

    def _quick_plan(self, ig: IntegerGraph) -> ArenaPlan:
        return plan_arena(ig, self.target.core.isa, max_nodes=0)

    def _fitted(self, shape: Shape, widths: dict[str, int]) -> Fitted:
        costs = self._costs(shape, widths, exact=True)
        importance = self.context.importance
        kept = sum(float(np.sort(importance[g])[::-1][:w].sum()) for g, w in widths.items() if g in importance)
        violations = self.limits.violations(costs)
        return Fitted(self.recipe(shape, widths), shape, widths, costs, violations, kept / max(self.total, 1e-30))

    # --- RAM

    def _ram_caps(self, shape: Shape) -> dict[str, int]:
        """Largest widths whose planned RAM fits, starting from those of the reference without its skippable blocks:
        how deep a network is hardly matters to its peak."""
        groups = self._stem(shape).groups
        if self.limits.ram_bytes is None:
            return {g: group.size for g, group in groups.items()}
        key = (shape.resolution, shape.grey)
        if key not in self._caps:
            left_out = tuple(b.name for b in self.space.blocks)
            plain = Shape(None, left_out, shape.resolution, 1.0, grey=shape.grey)
            full = {g: group.size for g, group in self._stem(plain).groups.items()}
            self._caps[key] = self._fit_ram(plain, full, self.limits.ram_bytes)
        caps = self._caps[key]
        start = {g: min(group.size, caps.get(g, group.size)) for g, group in groups.items()}
        return self._fit_ram(shape, start, self.limits.ram_bytes)

    def _fit_ram(self, shape: Shape, caps: dict[str, int], limit: int) -> dict[str, int]:
        for _ in range(MAX_ROUNDS):
            ig = self.skeleton(shape, caps)
            plan = self._quick_plan(ig)
            excess = estimate(ig, self.target, plan).ram_bytes - limit
            if 0 < excess < (PLANNED_BETTER - 1) * limit:
                plan = plan_arena(ig, self.target.core.isa)
                excess = estimate(ig, self.target, plan).ram_bytes - limit
            if excess <= 0 or not self._shrink_at_peak(shape, ig, plan, caps, excess):
                break
        return caps

    def _shrink_at_peak(
        self, shape: Shape, ig: IntegerGraph, plan: ArenaPlan, caps: dict[str, int], excess: int
    ) -> bool:
        """Narrows the group that fills most of the arena at its peak; False if nothing there can shrink."""
        groups = self._stem(shape).groups
        for group, alive in _alive_at_peak(ig, plan, self._owners):
            if group not in groups or caps[group] <= _floor(groups[group].size):
                continue
            share = min(0.5, max(excess / alive, 0.02))  # at most halve at once: the peak may move elsewhere
            narrower = _round_down(int(caps[group] * (1 - share)))
            caps[group] = max(_floor(groups[group].size), min(narrower, caps[group] - STEP))
            return True
        return False

    # --- flash

    def _flash_widths(self, shape: Shape, caps: dict[str, int]) -> dict[str, int]:
        """The widest that keeps the limits besides RAM; the narrowest where none does."""

        def over(widths: dict[str, int]) -> bool:
            return any(k != "ram_bytes" for k in self.limits.violations(self._costs(shape, widths)))

        if not over(caps):
            return caps
        narrowest = self._widths_at(0, shape, caps)
        if over(narrowest):
            return narrowest
        # What fits at one resolution is near what fits at the others: flash hardly depends on it.
        key = (shape.cut, shape.skips, shape.exchanges, shape.balance, shape.tilt)
        kept = _largest(lambda k: not over(self._widths_at(k / FRACTIONS, shape, caps)), self._kept.get(key))
        self._kept[key] = kept
        return self._widths_at(kept / FRACTIONS, shape, caps)

    def _widths_at(self, keep: float, shape: Shape, caps: dict[str, int]) -> dict[str, int]:
        """Widths when insides keep the fraction `keep` of their channels and streams `keep ** balance`, tilted."""
        widths = {}
        for name, group in self._stem(shape).groups.items():
            inside = name in self.inner or name not in self._known
            fraction = keep if inside else keep**shape.balance
            fraction = min(1.0, fraction * 2 ** (shape.tilt * (0.5 - group.position)))
            widths[name] = min(caps[name], max(_floor(group.size), _round_down(int(group.size * fraction))))
        return widths


def _largest(fits: Callable[[int], bool], guess: int | None) -> int:
    """The largest 0 < k < FRACTIONS that fits, 0 where none does. Bisection, starting with steps around the guess."""
    low, high = 0, FRACTIONS
    k, step = (FRACTIONS // 2, FRACTIONS) if guess is None else (guess, 1)
    while high - low > 1:
        if not low < k < high:
            k = (low + high) // 2
        if fits(k):
            low, k = k, k + step
        else:
            high, k = k, k - step
        step *= 2
    return low


def _alive_at_peak(ig: IntegerGraph, plan: ArenaPlan, owner: dict[str, str]) -> list[tuple[str, int]]:
    """(group, bytes) of what is alive at the step that needs most, largest first."""
    steps = range(len(ig.nodes))
    use = [sum(b.bytes for b in plan.buffers if b.first <= s <= b.last) for s in steps]
    peak = int(np.argmax(use))
    size: dict[str, int] = {}
    for buffer in plan.buffers:
        if buffer.first <= peak <= buffer.last:
            name = buffer.name
            group = owner.get(name)
            if group is not None:
                size[group] = size.get(group, 0) + buffer.bytes
    return sorted(size.items(), key=lambda item: (-item[1], item[0]))


def _owners(groups: tuple[ChannelGroup, ...]) -> dict[str, str]:
    """Value name -> group; values of several groups (concats) belong to the first."""
    owner: dict[str, str] = {}
    for group in groups:
        for value in group.values:
            owner.setdefault(value, group.id)
    return owner


def _inner(space: Space) -> frozenset[str]:
    """Groups that only live inside a separable block: what a depthwise convolution works on. All of them where the
    network has no separable blocks, so that there is something to scale."""
    spatial = {v for n in space.graph.nodes if n.op == "depthwise_conv2d" for v in n.inputs}
    inner = frozenset(g.id for g in space.groups if spatial & set(g.values) and len(g.producers) == 1)
    return inner or frozenset(g.id for g in space.groups)


def _floor(size: int) -> int:
    return min(size, max(STEP, _round_down(int(size * MIN_FRACTION))))


def _next(width: int) -> int:
    """The next wider one that `_round_down` leaves as it is."""
    return width + (2 * STEP if width >= 32 else STEP)


def _round_down(width: int) -> int:
    """To a multiple of 8 from 32 upwards, of 4 below."""
    step = 2 * STEP if width >= 32 else STEP
    return max(STEP, width // step * step)


__all__ = ["Fitter"]
