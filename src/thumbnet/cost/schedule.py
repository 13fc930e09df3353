"""What is computed in one go: single nodes, or chains of convolutions in a cascade, a few rows at a time.

A cascade never holds the tensors between its stages as a whole, which is where high resolutions need most memory: an
inverted bottleneck's expanded tensor shrinks to a few rows. It costs some time (kernels start anew for each piece), so
only chains that would set the arena's peak become cascades, with as many rows in each round as fit below that peak.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from thumbnet.cost.cascade import MAX_STAGES, Replay, cascade_distance, replay, rows_of
from thumbnet.cost.kernel import Kernel, Overlap, Window, window_of
from thumbnet.cost.kernels import choose
from thumbnet.cost.lifetimes import Lifetimes, aligned, lifetimes
from thumbnet.integer.graph import IntegerGraph
from thumbnet.targets.target import Isa

ROUNDS_ROWS = (16, 8, 4, 2, 1)
# Instructions that a piece costs beyond its share of the whole: a call, and a depthwise channel's set-up.
CALL_OVERHEAD, CHANNEL_OVERHEAD = 120, 160


@dataclass(frozen=True)
class Unit:
    """Nodes [first, first + len(kernels)) of the graph, computed together. One kernel: an ordinary call."""

    first: int
    kernels: tuple[Kernel, ...]
    overlaps: tuple[Overlap | None, ...]  # per input of the first node
    scratch_bytes: int
    rows: int = 0  # of the last stage in each round of a cascade
    replay: Replay | None = None
    windows: tuple[Window, ...] = ()

    @property
    def last(self) -> int:
        return self.first + len(self.kernels) - 1

    @property
    def sources(self) -> tuple[str, ...]:
        """Files under exporters/c/kernels."""
        own = ("generic/cascade.c",) if self.rows else ()
        return (*own, *(s for k in self.kernels for s in k.sources))

    @property
    def nodes(self) -> range:
        return range(self.first, self.last + 1)

    @property
    def held_bytes(self) -> tuple[int, ...]:
        """Bytes of rows that each stage but the last keeps."""
        if self.replay is None:
            return ()
        return tuple(c * w.out_w * w.out_c for c, w in zip(self.replay.capacities, self.windows, strict=False))


def single(step: int, kernel: Kernel) -> Unit:
    return Unit(step, (kernel,), kernel.overlaps, kernel.scratch_bytes)


def cascade(first: int, kernels: tuple[Kernel, ...], windows: tuple[Window, ...], rows: int) -> Unit:
    """The nodes from `first` on as a cascade."""
    plan = replay(tuple(rows_of(w) for w in windows), rows)
    overlap = Overlap(cascade_distance(windows, plan))
    scratch = max(k.scratch_bytes for k in kernels)
    return Unit(first, kernels, (overlap,), scratch, rows, plan, windows)


@lru_cache(maxsize=8)
def schedule(ig: IntegerGraph, isa: Isa, arena_bytes: int | None = None) -> tuple[Unit, ...]:
    """Units in order, together all nodes. Deterministic.

    No cascade is made below `arena_bytes`, the arena that there is room for; None: the smallest arena.
    """
    kernels = [choose(node, ig, isa) for node in ig.nodes]
    units = {step: single(step, kernel) for step, kernel in enumerate(kernels)}
    lives = lifetimes(ig)
    plain = [_footprint(ig, lives, unit, _others(ig, lives, step)) for step, unit in units.items()]
    chains = sorted(_chains(ig), key=lambda steps: (-max(plain[s] for s in steps), steps[0]))
    in_chain = {step for steps in chains for step in steps}
    bound = max((size for step, size in enumerate(plain) if step not in in_chain), default=0)
    bound = max(bound, arena_bytes or 0)
    high: list[_Chain] = []  # chains that would stand out above all that cannot be lowered
    for steps in chains:
        if max(plain[s] for s in steps) > bound:
            high.append(_Chain(ig, lives, kernels, steps))
            bound = max(bound, high[-1].least)
    for chain in high:
        for unit in chain.cheapest(bound):
            for step in unit.nodes:
                units.pop(step)
            units[unit.first] = unit
    return tuple(units[step] for step in sorted(units))


def _chains(ig: IntegerGraph) -> Iterator[range]:
    """Maximal runs of convolutions in which each reads only the one before, and nothing else reads that."""
    users: dict[str, int] = dict.fromkeys(ig.outputs, 1)
    for node in ig.nodes:
        for v in node.inputs:
            users[v] = users.get(v, 0) + 1
    start = 0
    for step in range(len(ig.nodes) + 1):
        convolution = step < len(ig.nodes) and _streams(ig, step)
        if step > start and convolution:
            before = ig.nodes[step - 1].name
            if ig.nodes[step].inputs == (before,) and users[before] == 1:
                continue
        if step - start > 1:
            yield range(start, step)
        start = step if convolution else step + 1


def _streams(ig: IntegerGraph, step: int) -> bool:
    """Whether the node is a convolution whose every row of windows touches its input, as cascades take for granted."""
    if ig.nodes[step].op not in ("conv2d", "depthwise_conv2d"):
        return False
    w = window_of(ig.nodes[step], ig)
    return w.padding[0] < w.span and (w.out_h - 1) * w.stride[0] - w.padding[0] < w.in_h


def _others(ig: IntegerGraph, lives: Lifetimes, step: int) -> int:
    """Bytes alive at a step besides the node's own inputs and output."""
    own = {lives.roots[v] for v in (*ig.nodes[step].inputs, ig.nodes[step].name)}
    return sum(n for t, n in lives.bytes.items() if lives.first[t] <= step <= lives.last[t] and t not in own)


def _footprint(ig: IntegerGraph, lives: Lifetimes, unit: Unit, others: int) -> int:
    """Least bytes of arena while the unit runs, `others` being alive beside it."""
    node = ig.nodes[unit.first]
    inputs = list(dict.fromkeys(lives.roots[v] for v in node.inputs))
    result = lives.roots[ig.nodes[unit.last].name]
    own = 0 if result in inputs else lives.bytes[result]
    sizes = sum(lives.bytes[v] for v in inputs)
    dying = [v for v in inputs if lives.last[v] == unit.first]
    over = [o for o in unit.overlaps if o is not None]
    total = sizes + own
    if len(dying) == len(inputs) == 1 and over:
        total = max(own, sizes + max(0, aligned(over[0].distance)))
        total = min(total, sizes + own)
    elif dying and over:
        total = max(sizes, sizes + own - sum(lives.bytes[v] for v in dying))
    return others + total + aligned(unit.scratch_bytes) + sum(aligned(n) for n in unit.held_bytes)


class _Chain:
    """A run of convolutions and the ways to cut it into cascades."""

    def __init__(self, ig: IntegerGraph, lives: Lifetimes, kernels: list[Kernel], steps: range) -> None:
        self.steps = steps
        windows = [window_of(ig.nodes[s], ig) for s in steps]
        # What lives beside the chain; its first input, where it lives on, lives beside all but the first unit.
        beside = _others(ig, lives, steps[0])
        source = lives.roots[ig.nodes[steps[0]].inputs[0]]
        kept = lives.bytes[source] if lives.last[source] > steps[0] else 0
        # options[j]: (start, footprint, unit) of all units that end before steps[j]
        self._options: list[list[tuple[int, int, Unit]]] = [[] for _ in range(len(steps) + 1)]
        for i in range(len(steps)):
            others = beside + (kept if i else 0)
            for j in range(i + 1, min(len(steps), i + MAX_STAGES) + 1):
                ks, ws = tuple(kernels[steps[i] : steps[i] + j - i]), tuple(windows[i:j])
                for unit in _ways(steps[i], ks, ws):
                    self._options[j].append((i, _footprint(ig, lives, unit, others), unit))

    @property
    def least(self) -> int:
        """The smallest peak that any way of cutting gives."""
        best = [0]
        for j in range(1, len(self.steps) + 1):
            best.append(min(max(best[i], size) for i, size, _ in self._options[j]))
        return best[-1]

    def cheapest(self, bound: int) -> list[Unit]:
        """The cascades of the cutting with the least overhead whose units all stay within `bound`."""
        best: list[tuple[int, list[Unit]] | None] = [(0, [])]
        for j in range(1, len(self.steps) + 1):
            found: tuple[int, list[Unit]] | None = None
            for i, size, unit in self._options[j]:
                before = best[i]
                if before is None or size > bound:
                    continue
                total = before[0] + _overhead(unit)
                if found is None or total < found[0]:
                    found = (total, [*before[1], unit])
            best.append(found)
        chosen = best[-1]
        assert chosen is not None  # `bound` is at least `least`
        return [unit for unit in chosen[1] if unit.rows]


def _ways(first: int, kernels: tuple[Kernel, ...], windows: tuple[Window, ...]) -> Iterator[Unit]:
    """A single node as it is; several as cascades with different numbers of rows, the fastest first."""
    if len(kernels) == 1:
        yield single(first, kernels[0])
        return
    height = windows[-1].out_h
    for rows in ROUNDS_ROWS:
        if rows < height:
            yield cascade(first, kernels, windows, rows)


def _overhead(unit: Unit) -> int:
    """Instructions that the cascade costs more than its nodes one by one, roughly."""
    if unit.replay is None:
        return 0
    channels = [w.out_c if "depthwise" in k.function else 0 for k, w in zip(unit.kernels, unit.windows, strict=True)]
    return sum(CALL_OVERHEAD + CHANNEL_OVERHEAD * channels[stage] for stage, _, _ in unit.replay.runs)
