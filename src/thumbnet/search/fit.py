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
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.lower import lower
from thumbnet.integer.passes.join_inputs import join_ports
from thumbnet.integer.quantization import Floats
from thumbnet.results import Constraints, Costs
from thumbnet.search.moves import SetResolution, SetWidths, SkipBlock, Truncate
from thumbnet.search.recipe import Context, Move, Recipe
from thumbnet.search.space import Space
from thumbnet.targets.target import Target
from thumbnet.training.normalize import LINEAR, restore_names

STEP = 4  # widths are multiples of it: kernels work on four channels at a time
MIN_FRACTION = 1 / 8
BALANCES = (1.0, 0.0)
MAX_ROUNDS = 60
FRACTIONS = 128  # widths are fitted to this part of the reference's


@dataclass(frozen=True)
class Shape:
    """What is fixed before widths are fitted: where the network ends, which blocks it leaves out, its input.

    Where the insides of separable blocks keep the fraction f of their channels, the streams between blocks keep
    f ** `balance`: 1 scales all alike, 0 leaves the streams as wide as RAM allows.
    """

    cut: str | None
    skips: tuple[str, ...]
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


@dataclass(frozen=True, eq=False)
class _Stem:
    """A shape at full width: its graph, the channel groups left in it with their names there, and costs by widths."""

    graph: Graph
    groups: dict[str, str]
    costs: dict[tuple[int, ...], Costs] = field(default_factory=dict)


class Fitter:
    """Fits widths for one reference, target and set of limits."""

    def __init__(self, space: Space, context: Context, target: Target, limits: Constraints) -> None:
        self.space = space
        self.context = context
        self.target = target
        self.limits = limits
        self.groups = {g.id: g for g in space.groups}
        # Slicing millions of weights hundreds of times would take minutes: costs depend on shapes alone.
        self.bare = weightless(restore_names(clean(space.graph)))
        self.inner = _inner(space)
        self._caps: dict[tuple[int, int] | None, dict[str, int]] = {}
        self._kept: dict[tuple[object, ...], int] = {}  # the fraction that fitted last, of FRACTIONS
        self._last_stem: tuple[tuple[object, ...], _Stem] | None = None
        self.total = sum(float(v.sum()) for v in context.importance.values())

    def shapes(self) -> Iterator[Shape]:
        for resolution in self.space.resolutions or (None,):
            for cut in (None, *self.space.cuts):
                for skips in self._skips(cut):
                    for balance in BALANCES:
                        yield Shape(cut, skips, resolution, balance)

    def _skips(self, cut: str | None) -> list[tuple[str, ...]]:
        """No block left out of those before the cut; the less important half of them; all of them."""
        whole = self.bare if cut is None else truncate(self.bare, cut)
        there = {n.name for n in whole.nodes} - {cut}
        known = (b.name for b in self.space.blocks if b.exit in there)
        blocks = sorted(known, key=lambda b: (self.context.blocks.get(b, 0.0), b))
        return list(dict.fromkeys(tuple(blocks[:k]) for k in (0, math.ceil(len(blocks) / 2), len(blocks))))

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
        alive = self._stem(shape).groups
        narrowed = {g: w for g, w in widths.items() if g in alive and w < self.groups[g].size}
        moves: list[Move] = [*(SkipBlock(b) for b in shape.skips)]  # while both ends of every block are alike
        if narrowed:
            moves.append(SetWidths(narrowed))
        if shape.cut is not None:
            moves.append(Truncate(shape.cut))
        if shape.resolution is not None and shape.resolution != self.space.resolutions[0]:
            moves.append(SetResolution(*shape.resolution))
        return Recipe(tuple(moves))

    def skeleton(self, shape: Shape, widths: dict[str, int]) -> IntegerGraph:
        """The candidate's integer graph with its true shapes, and weights that do not matter."""
        stem = self._stem(shape)
        kept = {stem.groups[g]: range(w) for g, w in widths.items() if g in stem.groups and w < self.groups[g].size}
        return join_ports(lower(keep_channels(stem.graph, kept), None))

    def _stem(self, shape: Shape) -> _Stem:
        """Depth and resolution of the shape; widths are fitted to it many times in a row."""
        key = (shape.cut, shape.skips, shape.resolution)
        if self._last_stem is None or self._last_stem[0] != key:
            graph = self.bare
            for block in shape.skips:
                graph = SkipBlock(block).apply(graph, self.context)
            if shape.cut is not None:
                graph = weightless(truncate(graph, shape.cut))  # the new head's zeros would suit cheaper kernels
            if shape.resolution is not None:
                graph = SetResolution(*shape.resolution).apply(graph, self.context)
            there = {g.id for g in channel_groups(graph)}
            groups = {g: g.removesuffix(LINEAR) for g in self.groups if g.removesuffix(LINEAR) in there}
            self._last_stem = (key, _Stem(graph, groups))
        return self._last_stem[1]

    def _costs(self, shape: Shape, widths: dict[str, int]) -> Costs:
        known = self._stem(shape).costs
        key = tuple(widths.values())
        if key not in known:
            known[key] = estimate(self.skeleton(shape, widths), self.target)
        return known[key]

    def _fitted(self, shape: Shape, widths: dict[str, int]) -> Fitted:
        costs = self._costs(shape, widths)
        recipe = self.recipe(shape, widths)
        kept = sum(
            float(np.sort(self.context.importance[g])[::-1][: widths[g]].sum()) for g in self._stem(shape).groups
        )
        return Fitted(recipe, shape, costs, self.limits.violations(costs), kept / max(self.total, 1e-30))

    # --- RAM

    def _ram_caps(self, shape: Shape) -> dict[str, int]:
        """Largest widths whose planned RAM fits. Cuts share them: what needs most RAM lies at the beginning."""
        if shape.resolution not in self._caps:
            self._caps[shape.resolution] = self._fit_ram(Shape(None, (), shape.resolution, shape.balance))
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
        """The widest that keeps the limits besides RAM; the narrowest where none does."""

        def over(widths: dict[str, int]) -> bool:
            return any(k != "ram_bytes" for k in self.limits.violations(self._costs(shape, widths)))

        if not over(caps):
            return caps
        # What fits at one resolution is near what fits at the others: flash hardly depends on it.
        key = (shape.cut, shape.skips, shape.balance)
        kept = _largest(lambda k: not over(self._widths_at(k / FRACTIONS, shape.balance, caps)), self._kept.get(key))
        self._kept[key] = kept
        return self._widths_at(kept / FRACTIONS, shape.balance, caps)

    def _widths_at(self, keep: float, balance: float, caps: dict[str, int]) -> dict[str, int]:
        """Widths when insides keep the fraction `keep` of their channels and streams `keep ** balance`."""
        widths = {}
        for name, cap in caps.items():
            group = self.groups[name]
            fraction = keep if name in self.inner else keep**balance
            widths[name] = min(cap, max(_floor(group), _round_down(int(group.size * fraction))))
        return widths


def weightless(graph: Graph) -> Graph:
    """The graph with weights of the same shapes that take no memory.

    They are spread as trained ones (He et al. 2015, equation 10): kernels are chosen by how large sums can get, too.
    """
    return graph.with_nodes(
        n.with_weights(**{k: _stand_in(k, w.shape) for k, w in n.weights.items()}) for n in graph.nodes
    )


def _stand_in(key: str, shape: tuple[int, ...]) -> Floats:
    """The same weights for every output channel, 0 for a bias, 1/2 for everything else."""
    if key == "weight" and len(shape) > 1:
        deviation = math.sqrt(2 / max(1, math.prod(shape[1:])))
        one = np.random.default_rng(0).normal(0, deviation, shape[1:]).astype(np.float32)
        return np.broadcast_to(one, shape)
    return np.broadcast_to(np.float32(0 if key == "bias" else 0.5), shape)


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


def _floor(group: ChannelGroup) -> int:
    return min(group.size, max(STEP, _round_down(int(group.size * MIN_FRACTION))))


def _round_down(width: int) -> int:
    """To a multiple of 8 from 32 upwards, of 4 below."""
    step = 2 * STEP if width >= 32 else STEP
    return max(STEP, width // step * step)


__all__ = ["Fitted", "Fitter", "Shape", "weightless"]
