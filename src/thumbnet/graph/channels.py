"""Which channels live and die together, over arbitrary topologies, and graphs with fewer of them.

Every channel of every value has an identity. Operations make new identities (a convolution's outputs), hand
them on (an activation) or tie them (both inputs of an addition). Tied identities form a class: the unit that
can be removed. Classes that the same nodes produce form a group: the unit whose width can be chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from thumbnet.errors import ModelError
from thumbnet.graph.graph import Graph, Node
from thumbnet.graph.ops import op_of
from thumbnet.graph.ops.base import ChannelIds, Linker

Positions = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Channels of one choice: how many of `size` classes to keep, and which.

    `values[v]` has one entry per channel of value `v`: its class, 0 ≤ class < size, or -1 where the channel
    is not of this group. Classes are numbered by the channels of the first producer, in their order.
    """

    id: str  # name of the first producer (or graph input), with "#2" and so on where that is taken
    size: int
    producers: tuple[str, ...]  # nodes that compute these channels; an input's name for its channels
    values: Mapping[str, npt.NDArray[np.int64]]
    pinned: bool  # graph inputs and outputs, and what an operation cannot lose


class _UnionFind(Linker):
    """The linker: disjoint sets of identities, each with its producers."""

    def __init__(self) -> None:
        self.parent: list[int] = []
        self.pinned: set[int] = set()
        self.producer: list[int] = []  # of each identity, index into `producers`
        self.producers: list[str] = []

    def new(self, count: int, node: Node) -> ChannelIds:
        return self.add(count, node.name)

    def add(self, count: int, producer: str) -> ChannelIds:
        first = len(self.parent)
        self.parent.extend(range(first, first + count))
        self.producer.extend([len(self.producers)] * count)
        self.producers.append(producer)
        return np.arange(first, first + count, dtype=np.int64)

    def tie(self, a: ChannelIds, b: ChannelIds) -> None:
        if len(a) != len(b):
            raise ValueError(f"cannot tie {len(a)} channels to {len(b)}")
        for x, y in set(zip(a.tolist(), b.tolist(), strict=True)):
            x, y = self.find(x), self.find(y)
            self.parent[max(x, y)] = min(x, y)  # the oldest identity stands for the class

    def pin(self, ids: ChannelIds) -> None:
        self.pinned.update(ids.tolist())

    def find(self, x: int) -> int:
        while self.parent[x] != x:
            self.parent[x] = self.parent[self.parent[x]]
            x = self.parent[x]
        return x


@dataclass(frozen=True, eq=False)
class _Links:
    """Outcome of linking: a class (the oldest identity in it) per channel of each value, and the groups."""

    classes: Mapping[str, npt.NDArray[np.int64]]
    groups: tuple[ChannelGroup, ...]
    members: Mapping[str, npt.NDArray[np.int64]]  # group id -> its classes, ascending


def channel_groups(graph: Graph) -> tuple[ChannelGroup, ...]:
    """All channel groups, in the order of their first producers."""
    return _links(graph).groups


def keep_channels(graph: Graph, kept: Mapping[str, Sequence[int]]) -> Graph:
    """The graph with only the classes `kept[group]` of each named group; groups not named stay whole.

    Every node is sliced consistently; kept channels stay in their order. Raises `ModelError` for an unknown
    or pinned group, a class that does not exist, or a choice that leaves a value without channels.
    """
    links = _links(graph)
    gone: set[int] = set()
    groups = {g.id: g for g in links.groups}
    for group, choice in kept.items():
        gone.update(_removed(groups, links.members, group, choice))
    if not gone:
        return graph
    lost = np.fromiter(sorted(gone), np.int64)
    positions: dict[str, Positions] = {
        value: np.flatnonzero(~np.isin(classes, lost)) for value, classes in links.classes.items()
    }
    for value, rest in positions.items():
        if not len(rest):
            raise ModelError(f"No channel of '{value}' would be left.", "Keep at least one.")
    nodes = []
    for node in graph.nodes:
        touched = any(len(positions[v]) < len(links.classes[v]) for v in (*node.inputs, node.name))
        inputs = [positions[v] for v in node.inputs]
        nodes.append(op_of(node).slice(node, inputs, positions[node.name]) if touched else node)
    return graph.with_nodes(nodes)


def _removed(
    groups: Mapping[str, ChannelGroup],
    members: Mapping[str, npt.NDArray[np.int64]],
    name: str,
    choice: Sequence[int],
) -> set[int]:
    group = groups.get(name)
    if group is None:
        raise ModelError(f"There is no channel group '{name}'.", "See channel_groups(graph) for those there are.")
    keep = set(choice)
    if keep and (min(keep) < 0 or max(keep) >= group.size):
        raise ModelError(f"Of group '{name}' with {group.size} channels, {sorted(keep)} cannot be kept.")
    if group.pinned and len(keep) < group.size:
        raise ModelError(f"The channels of group '{name}' belong to the graph's interface; all must stay.")
    return {int(c) for k, c in enumerate(members[name]) if k not in keep}


@lru_cache(maxsize=8)  # the search slices one graph many times; graphs are immutable and compared by identity
def _links(graph: Graph) -> _Links:
    finder = _UnionFind()
    ids: dict[str, ChannelIds] = {}
    for value in graph.inputs:
        ids[value.name] = finder.add(value.shape[0], value.name)
        finder.pin(ids[value.name])
    for node in graph.nodes:
        ids[node.name] = op_of(node).link(node, [ids[v] for v in node.inputs], graph.shapes[node.name], finder)
    for output in graph.outputs:
        finder.pin(ids[output])
    root = np.array([finder.find(k) for k in range(len(finder.parent))], np.int64)
    classes = {value: root[own] for value, own in ids.items()}
    return _grouped(finder, root, classes)


def _grouped(finder: _UnionFind, root: npt.NDArray[np.int64], classes: Mapping[str, npt.NDArray[np.int64]]) -> _Links:
    makers: dict[int, set[int]] = {}
    for identity, cls in enumerate(root.tolist()):
        makers.setdefault(cls, set()).add(finder.producer[identity])
    pinned = {int(root[k]) for k in finder.pinned}
    by_key: dict[tuple[tuple[int, ...], bool], list[int]] = {}
    for cls in sorted(makers):
        by_key.setdefault((tuple(sorted(makers[cls])), cls in pinned), []).append(cls)
    groups: list[ChannelGroup] = []
    members: dict[str, npt.NDArray[np.int64]] = {}
    for (producers, is_pinned), own in sorted(by_key.items(), key=lambda item: item[1][0]):
        array = np.array(own, np.int64)
        name = _free_name(finder.producers[producers[0]], members)
        members[name] = array
        names = tuple(finder.producers[p] for p in producers)
        groups.append(ChannelGroup(name, len(own), names, _positions(array, classes), is_pinned))
    return _Links(classes, tuple(groups), members)


def _positions(
    own: npt.NDArray[np.int64], classes: Mapping[str, npt.NDArray[np.int64]]
) -> dict[str, npt.NDArray[np.int64]]:
    """Per value that holds channels of the group: the index into `own` per channel, -1 elsewhere."""
    out = {}
    for value, cls in classes.items():
        index = np.minimum(np.searchsorted(own, cls), len(own) - 1)
        member = own[index] == cls
        if member.any():
            out[value] = np.where(member, index, -1).astype(np.int64)
    return out


def _free_name(name: str, taken: Mapping[str, object]) -> str:
    if name not in taken:
        return name
    k = 2
    while f"{name}#{k}" in taken:
        k += 1
    return f"{name}#{k}"
