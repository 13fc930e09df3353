"""Plans the arena: lifetimes of tensors and scratch, and offsets so that no two live buffers meet.

A kernel that reads and writes in raster order may write its output over its input as long as it does not outrun itself
(`thumbnet.cost.kernel.Overlap`). That is how a 1x1 convolution's input lives in the tail of its output, and how a
depthwise convolution needs no second copy of its tensor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from thumbnet.cost.kernel import Overlap
from thumbnet.cost.lifetimes import Lifetimes, aligned, lifetimes
from thumbnet.cost.plan import ArenaPlan, Buffer
from thumbnet.cost.schedule import Unit, schedule
from thumbnet.integer.graph import IntegerGraph
from thumbnet.targets.target import Isa

IMPROVEMENT_ROUNDS = 24


@dataclass(frozen=True)
class _Item:
    """A buffer to place: its rounded size, and the steps it is in use."""

    name: str
    kind: str
    size: int
    bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class _Problem:
    """`conflicts[i]`: the items alive together with item i, and how item i may overlap each (None: not at all).

    A relation is `(overlap, i_is_output)`.
    """

    items: tuple[_Item, ...]
    conflicts: tuple[tuple[tuple[int, tuple[Overlap, bool] | None], ...], ...]
    lower_bound: int
    roots: dict[str, str]  # tensor -> the tensor whose buffer it shares through reshapes


def plan_arena(ig: IntegerGraph, isa: Isa, units: tuple[Unit, ...] | None = None) -> ArenaPlan:
    """Offsets of all activations and scratch buffers of `ig` with the kernels of `isa`.

    Tensors inside a cascade have buffers for the rows that it keeps. First fit in several orders; the best order is
    improved by placing first what ended up highest, until the lower bound is met or `IMPROVEMENT_ROUNDS` have passed.
    Deterministic. `units` overrides `schedule(ig, isa)`.
    """
    problem = _problem(ig, schedule(ig, isa) if units is None else units)
    best_peak, best = _search(problem)
    items = problem.items
    buffers = tuple(
        Buffer(item.name, item.kind, best[i], item.bytes, item.first, item.last) for i, item in enumerate(items)
    )
    return ArenaPlan(best_peak, problem.lower_bound, buffers, _aliases(ig, problem, best))


def offsets(ig: IntegerGraph, plan: ArenaPlan) -> dict[str, int]:
    """Offset of every tensor, those without a buffer of their own included."""
    found = {b.name: b.offset for b in plan.buffers if b.kind == "activation"}
    for node in ig.nodes:
        if node.name not in found:
            found[node.name] = found[plan.aliases[node.name]]
    return found


def _search(problem: _Problem) -> tuple[int, list[int]]:
    items = problem.items
    indices = range(len(items))
    orders = (
        sorted(indices, key=lambda i: (-items[i].size, items[i].first)),
        sorted(indices, key=lambda i: (-items[i].size * (items[i].last - items[i].first + 1), items[i].first)),
        sorted(indices, key=lambda i: (items[i].first, -items[i].size)),
        sorted(indices, key=lambda i: (-items[i].last, -items[i].size)),
    )
    best_peak, best, best_order = -1, [0] * len(items), list(orders[0])
    for order in orders:
        peak, placed = _first_fit(problem, order)
        if best_peak < 0 or peak < best_peak:
            best_peak, best, best_order = peak, placed, list(order)
        if best_peak == problem.lower_bound:
            return best_peak, best
    order, placed = best_order, best
    for _ in range(IMPROVEMENT_ROUNDS):
        top = max(indices, key=lambda i: placed[i] + items[i].size)
        order = [top, *(i for i in order if i != top)]
        peak, placed = _first_fit(problem, order)
        if peak < best_peak:
            best_peak, best = peak, placed
        if best_peak == problem.lower_bound:
            break
    return best_peak, best


def _first_fit(problem: _Problem, order: list[int]) -> tuple[int, list[int]]:
    """Places items in this order, each at the lowest offset that agrees with all placed before."""
    items = problem.items
    placed = [-1] * len(items)
    peak = 0
    for i in order:
        forbidden: list[tuple[int, int]] = []
        size = items[i].size
        for j, relation in problem.conflicts[i]:
            if placed[j] >= 0:
                _forbid(forbidden, size, placed[j], items[j].size, relation)
        forbidden.sort()
        offset = 0
        for low, high in forbidden:
            if low < offset < high:
                offset = high
        placed[i] = offset
        peak = max(peak, offset + size)
    return peak, placed


def _forbid(
    forbidden: list[tuple[int, int]], size: int, other: int, other_size: int, relation: tuple[Overlap, bool] | None
) -> None:
    """Adds the open intervals of offsets that a buffer of `size` may not have because of another at `other`."""
    low, high = other - size, other + other_size
    if relation is None:
        forbidden.append((low, high))
        return
    overlap, is_output = relation
    if overlap.exact:
        forbidden.append((low, other))
        forbidden.append((other, high))
    elif is_output:  # other is the input: other - offset >= distance
        forbidden.append((max(low, other - overlap.distance), high))
    else:  # other is the output: offset - other >= distance
        forbidden.append((low, min(high, other + overlap.distance)))


def _problem(ig: IntegerGraph, units: tuple[Unit, ...]) -> _Problem:
    lives = lifetimes(ig)
    items = _items(ig, lives, units)
    index = {(item.kind, item.name): i for i, item in enumerate(items)}
    relations: dict[tuple[int, int], Overlap] = {}  # (output, input)
    for unit in units:
        node = ig.nodes[unit.first]
        result = lives.roots[ig.nodes[unit.last].name]
        names = [lives.roots[v] for v in node.inputs]
        for name, overlap in zip(names, unit.overlaps, strict=True):
            dying = lives.last[name] == unit.first and name != result
            if overlap is not None and dying and names.count(name) == 1:
                placed = Overlap(aligned(overlap.distance), overlap.exact)
                relations[index["activation", result], index["activation", name]] = placed
    bound = _lower_bound(items, relations, len(ig.nodes))
    return _Problem(items, _conflicts(items, relations), bound, lives.roots)


def _items(ig: IntegerGraph, lives: Lifetimes, units: tuple[Unit, ...]) -> tuple[_Item, ...]:
    first, last = dict(lives.first), dict(lives.last)
    size = {t: math.prod(ig.tensors[t].shape) for t in first}
    scratch: list[_Item] = []
    for unit in units:
        result = lives.roots[ig.nodes[unit.last].name]
        if len(unit.kernels) > 1:  # everything a cascade touches is in use from its start to its end
            first[result] = unit.first
            for v in ig.nodes[unit.first].inputs:
                last[lives.roots[v]] = max(last[lives.roots[v]], unit.last)
        for step, held in zip(unit.nodes, unit.held_bytes, strict=False):
            name = ig.nodes[step].name
            first[name], last[name], size[name] = unit.first, unit.last, held
        if unit.scratch_bytes:
            name, n = ig.nodes[unit.last].name, unit.scratch_bytes
            scratch.append(_Item(name, "scratch", aligned(n), n, unit.first, unit.last))
    return (*(_Item(t, "activation", aligned(size[t]), size[t], first[t], last[t]) for t in first), *scratch)


def _conflicts(
    items: tuple[_Item, ...], relations: dict[tuple[int, int], Overlap]
) -> tuple[tuple[tuple[int, tuple[Overlap, bool] | None], ...], ...]:
    found: list[list[tuple[int, tuple[Overlap, bool] | None]]] = [[] for _ in items]
    order = sorted(range(len(items)), key=lambda i: items[i].first)
    live: list[int] = []
    for i in order:
        live = [j for j in live if items[j].last >= items[i].first]
        for j in live:
            as_output, as_input = relations.get((i, j)), relations.get((j, i))
            if as_output is not None:
                found[i].append((j, (as_output, True)))
                found[j].append((i, (as_output, False)))
            elif as_input is not None:
                found[i].append((j, (as_input, False)))
                found[j].append((i, (as_input, True)))
            else:
                found[i].append((j, None))
                found[j].append((i, None))
        live.append(i)
    return tuple(tuple(f) for f in found)


def _lower_bound(items: tuple[_Item, ...], relations: dict[tuple[int, int], Overlap], steps: int) -> int:
    """The largest sum of what is alive at one step, an output and the inputs it may cover counted as one."""
    live = [0] * max(1, steps)
    for item in items:
        for step in range(item.first, item.last + 1):
            live[step] += item.size
    inputs: dict[int, list[tuple[int, Overlap]]] = {}
    for (out, source), overlap in relations.items():
        inputs.setdefault(out, []).append((source, overlap))
    for out, sources in inputs.items():
        size, separate = items[out].size, sum(items[s].size for s, _ in sources)
        if len(sources) == 1:
            separate += max(0, sources[0][1].distance)
        saved = max(0, size + sum(items[s].size for s, _ in sources) - max(size, separate))
        for step in range(items[out].first, max(items[s].last for s, _ in sources) + 1):
            live[step] -= saved
    return max(live)


def _aliases(ig: IntegerGraph, problem: _Problem, placed: list[int]) -> dict[str, str]:
    """Tensors that share memory with one of their inputs: reshapes, and outputs written over a dying input."""
    where = {item.name: (placed[i], item) for i, item in enumerate(problem.items) if item.kind == "activation"}
    aliases: dict[str, str] = {}
    for node in ig.nodes:
        if problem.roots[node.name] != node.name:
            aliases[node.name] = node.inputs[0]
            continue
        offset, item = where[node.name]
        for v in dict.fromkeys(node.inputs):
            other, source = where[problem.roots[v]]
            if offset < other + source.bytes and other < offset + item.bytes:
                aliases.setdefault(node.name, v)
    return aliases
