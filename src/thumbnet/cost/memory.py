"""Plans the arena: lifetimes of tensors and scratch, and offsets so that no two live buffers meet.

A kernel that reads and writes in raster order may write its output over its input as long as it does not outrun itself
(`thumbnet.cost.kernel.Overlap`). That is how a 1x1 convolution's input lives in the tail of its output, and how a
depthwise convolution needs no second copy of its tensor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from thumbnet.cost.kernel import ALIGNMENT, Overlap
from thumbnet.cost.lifetimes import Lifetimes, aligned, lifetimes
from thumbnet.cost.placement import MAX_NODES, Problem, place
from thumbnet.cost.plan import ArenaPlan, Buffer
from thumbnet.cost.schedule import Unit, schedule
from thumbnet.integer.graph import IntegerGraph
from thumbnet.targets.target import Isa


@dataclass(frozen=True)
class _Item:
    """A buffer to place: its rounded size, and the steps it is in use."""

    name: str
    kind: str
    size: int
    bytes: int
    first: int
    last: int


def plan_arena(
    ig: IntegerGraph, isa: Isa, units: tuple[Unit, ...] | None = None, max_nodes: int = MAX_NODES
) -> ArenaPlan:
    """Offsets of all activations and scratch buffers of `ig` with the kernels of `isa`.

    Tensors inside a cascade have buffers for the rows that it keeps. The smallest arena that `placement.place` finds,
    which is mostly the smallest there is. Deterministic. `units` overrides `schedule(ig, isa)`; `max_nodes` is of
    `place`.
    """
    units = schedule(ig, isa) if units is None else units
    lives = lifetimes(ig)
    items = _items(ig, lives, units)
    relations = _relations(ig, lives, units, items)
    problem = Problem(tuple(i.size for i in items), _pairs(items, relations), ALIGNMENT)
    found = place(problem, _orders(items), _lower_bound(items, relations, len(ig.nodes)), max_nodes)
    buffers = tuple(
        Buffer(i.name, i.kind, offset, i.bytes, i.first, i.last) for i, offset in zip(items, found.offsets, strict=True)
    )
    return ArenaPlan(found.peak, found.bound, buffers, _aliases(ig, lives, buffers))


def offsets(ig: IntegerGraph, plan: ArenaPlan) -> dict[str, int]:
    """Offset of every tensor, those without a buffer of their own included."""
    found = {b.name: b.offset for b in plan.buffers if b.kind == "activation"}
    for node in ig.nodes:
        if node.name not in found:
            found[node.name] = found[plan.aliases[node.name]]
    return found


def _orders(items: tuple[_Item, ...]) -> list[list[int]]:
    """Orders for first fit: by size, by size and lifetime, from the first step on, from the last step back."""
    indices = range(len(items))
    return [
        sorted(indices, key=lambda i: (-items[i].size, items[i].first)),
        sorted(indices, key=lambda i: (-items[i].size * (items[i].last - items[i].first + 1), items[i].first)),
        sorted(indices, key=lambda i: (items[i].first, -items[i].size)),
        sorted(indices, key=lambda i: (-items[i].last, -items[i].size)),
    ]


def _relations(
    ig: IntegerGraph, lives: Lifetimes, units: tuple[Unit, ...], items: tuple[_Item, ...]
) -> dict[tuple[int, int], Overlap]:
    """By (output, input), indices of items: how an input that dies with its unit may lie over the unit's output."""
    index = {(item.kind, item.name): i for i, item in enumerate(items)}
    relations: dict[tuple[int, int], Overlap] = {}
    for unit in units:
        result = lives.roots[ig.nodes[unit.last].name]
        names = [lives.roots[v] for v in ig.nodes[unit.first].inputs]
        for name, overlap in zip(names, unit.overlaps, strict=True):
            dying = lives.last[name] == unit.first and name != result
            if overlap is not None and dying and names.count(name) == 1:
                placed = Overlap(aligned(overlap.distance), overlap.exact)
                relations[index["activation", result], index["activation", name]] = placed
    return relations


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


def _pairs(
    items: tuple[_Item, ...], relations: dict[tuple[int, int], Overlap]
) -> dict[tuple[int, int], Overlap | None]:
    """Items that are alive at the same time, each pair once, outputs before the inputs that may lie over them."""
    found: dict[tuple[int, int], Overlap | None] = {}
    order = sorted(range(len(items)), key=lambda i: items[i].first)
    live: list[int] = []
    for i in order:
        live = [j for j in live if items[j].last >= items[i].first]
        for j in live:
            pair = (j, i) if (j, i) in relations else (i, j)
            found[pair] = relations.get(pair)
        live.append(i)
    return found


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


def _aliases(ig: IntegerGraph, lives: Lifetimes, buffers: tuple[Buffer, ...]) -> dict[str, str]:
    """Tensors that share memory with one of their inputs: reshapes, and outputs written over a dying input."""
    where = {b.name: b for b in buffers if b.kind == "activation"}
    aliases: dict[str, str] = {}
    for node in ig.nodes:
        if lives.roots[node.name] != node.name:
            aliases[node.name] = node.inputs[0]
            continue
        out = where[node.name]
        for v in dict.fromkeys(node.inputs):
            source = where[lives.roots[v]]
            if out.offset < source.offset + source.bytes and source.offset < out.offset + out.bytes:
                aliases.setdefault(node.name, v)
    return aliases
