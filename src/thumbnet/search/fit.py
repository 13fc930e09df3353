"""From a budget to networks that fit it: widths chosen under exact costs, channels by importance.

For each cut point, resolution and balance (see `Shape`) one network is made that just fits. RAM comes first: while the
planned arena is too large, the widest group alive at its peak shrinks. Then flash and the other limits: all groups
narrow together, and bisection finds the widest that fits. Within a group the most important channels stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from thumbnet.cost import estimate
from thumbnet.cost.memory import plan_arena
from thumbnet.cost.plan import ArenaPlan
from thumbnet.errors import ModelError
from thumbnet.graph.blocks import truncate
from thumbnet.graph.channels import ChannelGroup, keep_channels
from thumbnet.graph.graph import Graph
from thumbnet.graph.passes import clean
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.lower import lower
from thumbnet.results import Constraints, Costs
from thumbnet.search.moves import SetResolution, SetWidths, Truncate
from thumbnet.search.recipe import Context, Move, Recipe
from thumbnet.search.space import Space
from thumbnet.targets.target import Target
from thumbnet.training.normalize import LINEAR, restore_names

STEP = 4  # widths are multiples of it: kernels work on four channels at a time
MIN_FRACTION = 1 / 8
BALANCES = (1.0, 0.0)
MAX_ROUNDS = 60
BISECTIONS = 7


@dataclass(frozen=True)
class Shape:
    """What is fixed before widths are fitted.

    Where the insides of separable blocks keep the fraction f of their channels, the streams between blocks keep
    f ** `balance`: 1 scales all alike, 0 leaves the streams as wide as RAM allows.
    """

    cut: str | None
    resolution: tuple[int, int] | None
    balance: float


@dataclass(frozen=True, eq=False)
class Fitted:
    """A network that fits (or the closest miss), with its exact predicted costs."""

    recipe: Recipe
    shape: Shape
    costs: Costs
    violations: dict[str, float]
    kept: float  # fraction of the reference's total importance that the kept channels hold

    @property
    def fits(self) -> bool:
        return not self.violations


class Fitter:
    """Fits widths for one reference, target and set of limits."""

    def __init__(self, space: Space, context: Context, target: Target, limits: Constraints) -> None:
        self.space = space
        self.context = context
        self.target = target
        self.limits = limits
        self.groups = {g.id: g for g in space.groups}
        # Slicing millions of weights hundreds of times would take minutes: costs depend on shapes alone.
        self.bare = _weightless(restore_names(clean(space.graph)))
        self.inner = _inner(space)
        self._caps: dict[tuple[int, int] | None, dict[str, int]] = {}
        self.total = sum(float(v.sum()) for v in context.importance.values())

    def shapes(self) -> Iterator[Shape]:
        for resolution in self.space.resolutions or (None,):
            for cut in (None, *self.space.cuts):
                for balance in BALANCES:
                    yield Shape(cut, resolution, balance)

    def fit(self, shape: Shape) -> Fitted | None:
        """The widest network of this shape within the limits; the closest miss if there is none; None if impossible."""
        try:
            caps = self._ram_caps(shape)
            widths = self._flash_widths(shape, caps)
            return self._fitted(shape, widths)
        except ModelError:
            return None

    # --- candidates

    def recipe(self, shape: Shape, widths: dict[str, int]) -> Recipe:
        narrowed = {g: w for g, w in widths.items() if w < self.groups[g].size}
        moves: list[Move] = [SetWidths(narrowed)] if narrowed else []
        if shape.cut is not None:
            moves.append(Truncate(shape.cut))
        if shape.resolution is not None and shape.resolution != self.space.resolutions[0]:
            moves.append(SetResolution(*shape.resolution))
        return Recipe(tuple(moves))

    def skeleton(self, shape: Shape, widths: dict[str, int]) -> IntegerGraph:
        """The candidate's integer graph with its true shapes, and weights that do not matter."""
        graph = keep_channels(
            self.bare,
            {g.removesuffix(LINEAR): range(w) for g, w in widths.items() if w < self.groups[g].size},
        )
        if shape.cut is not None:
            graph = truncate(graph, shape.cut)
        if shape.resolution is not None:
            graph = SetResolution(*shape.resolution).apply(graph, self.context)
        return lower(graph, None)

    def _fitted(self, shape: Shape, widths: dict[str, int]) -> Fitted:
        costs = estimate(self.skeleton(shape, widths), self.target)
        recipe = self.recipe(shape, widths)
        alive = self._alive(shape)
        kept = sum(float(np.sort(self.context.importance[g])[::-1][: widths[g]].sum()) for g in widths if g in alive)
        return Fitted(recipe, shape, costs, self.limits.violations(costs), kept / max(self.total, 1e-30))

    def _alive(self, shape: Shape) -> set[str]:
        """Groups with at least one producer before the cut."""
        if shape.cut is None:
            return set(self.groups)
        names = {n.name for n in Truncate(shape.cut).apply(self.space.graph, self.context).nodes}
        return {g.id for g in self.space.groups if any(p in names for p in g.producers)}

    # --- RAM

    def _ram_caps(self, shape: Shape) -> dict[str, int]:
        """Largest widths whose planned RAM fits. Cuts share them: what needs most RAM lies at the beginning."""
        if shape.resolution not in self._caps:
            self._caps[shape.resolution] = self._fit_ram(Shape(None, shape.resolution, shape.balance))
        return dict(self._caps[shape.resolution])

    def _fit_ram(self, shape: Shape) -> dict[str, int]:
        caps = {g.id: g.size for g in self.space.groups}
        limit = self.limits.ram_bytes
        if limit is None:
            return caps
        owner = _owners(self.space.groups)  # values are called alike in the normalized and in the bare graph
        for _ in range(MAX_ROUNDS):
            ig = self.skeleton(shape, caps)
            plan = plan_arena(ig, self.target.core.isa)
            costs = estimate(ig, self.target, plan)
            excess = costs.ram_bytes - limit
            if excess <= 0 or not self._shrink_at_peak(ig, plan, owner, caps, excess):
                break
        return caps

    def _shrink_at_peak(
        self, ig: IntegerGraph, plan: ArenaPlan, owner: dict[str, str], caps: dict[str, int], excess: int
    ) -> bool:
        """Narrows the group that fills most of the arena at its peak; False if nothing there can shrink."""
        for group, alive in _alive_at_peak(ig, plan, owner):
            floor = _floor(self.groups[group])
            if caps[group] <= floor:
                continue
            share = min(0.5, max(excess / alive, 0.02))  # at most halve at once: the peak may move elsewhere
            narrower = _round_down(int(caps[group] * (1 - share)))
            caps[group] = max(floor, min(narrower, caps[group] - STEP))
            return True
        return False

    # --- flash

    def _flash_widths(self, shape: Shape, caps: dict[str, int]) -> dict[str, int]:
        limits = self.limits

        def over(widths: dict[str, int]) -> bool:
            costs = estimate(self.skeleton(shape, widths), self.target)
            return any(k != "ram_bytes" for k in limits.violations(costs))

        if not over(caps):
            return caps
        return _bisect(lambda keep: self._widths_at(keep, shape.balance, caps), over)

    def _widths_at(self, keep: float, balance: float, caps: dict[str, int]) -> dict[str, int]:
        """Widths when insides keep the fraction `keep` of their channels and streams `keep ** balance`."""
        widths = {}
        for name, cap in caps.items():
            group = self.groups[name]
            fraction = keep if name in self.inner else keep**balance
            widths[name] = min(cap, max(_floor(group), _round_down(int(group.size * fraction))))
        return widths


def _weightless(graph: Graph) -> Graph:
    """The graph with weights of the same shapes that take no memory."""
    return graph.with_nodes(
        n.with_weights(**{k: np.broadcast_to(np.float32(0.5), w.shape) for k, w in n.weights.items()})
        for n in graph.nodes
    )


def _bisect(widths_at: Callable[[float], dict[str, int]], over: Callable[[dict[str, int]], bool]) -> dict[str, int]:
    """Widths at the largest fraction (to 1/128) that is not over the limits; those at 0 where none is."""
    low, high = 0.0, 1.0
    best = widths_at(0.0)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        widths = widths_at(middle)
        if over(widths):
            high = middle
        else:
            low, best = middle, widths
    return best


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


def _floor(group: ChannelGroup) -> int:
    return min(group.size, max(STEP, _round_down(int(group.size * MIN_FRACTION))))


def _round_down(width: int) -> int:
    """To a multiple of 8 from 32 upwards, of 4 below."""
    step = 2 * STEP if width >= 32 else STEP
    return max(STEP, width // step * step)


__all__ = ["Fitted", "Fitter", "Shape"]
