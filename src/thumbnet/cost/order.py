"""The order of execution that needs least memory.

Where a network branches, nodes may run in many orders. A step's need depends only on which nodes ran before, so the
best order is the path from the empty set to the whole graph whose largest step is smallest: a shortest path with the
maximum in place of the sum, found by Dijkstra's algorithm. A chain has as many such sets as nodes, parallel branches
the product of their lengths.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import replace

from thumbnet.cost.footprint import Source, footprint
from thumbnet.cost.kernels import choose
from thumbnet.cost.lifetimes import aligned, lifetimes
from thumbnet.integer.graph import IntegerGraph
from thumbnet.targets.target import Isa

MAX_STATES = 20_000


def reordered(ig: IntegerGraph, isa: Isa) -> IntegerGraph:
    """The graph with its nodes in an order whose largest step is the smallest possible; as it is where none is better.

    Deterministic. Gives up, and leaves the order, after `MAX_STATES` sets of nodes.
    """
    steps = _Steps(ig, isa)
    given = steps.peak(range(len(ig.nodes)))
    order = steps.best(given)
    return ig if order is None else replace(ig, nodes=tuple(ig.nodes[i] for i in order))


class _Steps:
    """What each node needs, given the set of those that ran before it: bit i stands for node i."""

    def __init__(self, ig: IntegerGraph, isa: Isa) -> None:
        lives = lifetimes(ig)
        index = {node.name: i for i, node in enumerate(ig.nodes)}
        self._count = len(ig.nodes)
        self._kernels = [choose(node, ig, isa) for node in ig.nodes]
        self._roots = [[lives.roots[v] for v in node.inputs] for node in ig.nodes]
        self._result = [lives.roots[node.name] for node in ig.nodes]
        self._bytes = lives.bytes
        self._needs = [sum({1 << index[v] for v in node.inputs if v in index}) for node in ig.nodes]
        self._born = {lives.roots[t]: 0 if t in ig.inputs else 1 << index[t] for t in lives.first}
        self._readers = dict.fromkeys(lives.first, 0)  # nodes that must have run before the memory is free
        for i, roots in enumerate(self._roots):
            for root in roots:
                self._readers[root] |= 1 << i
        for v in ig.outputs:
            self._readers[lives.roots[v]] |= 1 << self._count  # never

    def next_nodes(self, done: int) -> Iterator[int]:
        for i in range(self._count):
            if not done >> i & 1 and self._needs[i] & ~done == 0:
                yield i

    def need(self, i: int, done: int) -> int:
        """Least bytes of arena while node i runs."""
        after = done | 1 << i
        result, roots, kernel = self._result[i], self._roots[i], self._kernels[i]
        own = {*roots, result}
        others = sum(
            size
            for t, size in self._bytes.items()
            if t not in own and self._born[t] & ~done == 0 and self._readers[t] & ~done
        )
        sources = []
        for root, overlap in zip(roots, kernel.overlaps, strict=True):
            free = self._readers[root] & ~after == 0 and roots.count(root) == 1 and root != result
            sources.append(Source(self._bytes[root], overlap if free else None))
        sources = [s for s, root, k in zip(sources, roots, range(len(roots)), strict=True) if root not in roots[:k]]
        size = 0 if result in roots else self._bytes[result]
        return footprint(others, sources, size, aligned(kernel.scratch_bytes))

    def peak(self, order: range) -> int:
        """The largest need of the nodes in this order."""
        done = largest = 0
        for i in order:
            largest = max(largest, self.need(i, done))
            done |= 1 << i
        return largest

    def best(self, given: int) -> list[int] | None:
        """An order with a smaller peak than `given`, the smallest there is; None where there is none, or no end."""
        whole = (1 << self._count) - 1
        before: dict[int, tuple[int, int]] = {}  # set -> the set it was reached from, and the node that ran
        waiting: list[tuple[int, int, int, int, int, int]] = [(0, 0, 0, 0, -1, -1)]
        pushed = 0
        while waiting and len(before) < MAX_STATES:
            peak, depth, _, done, previous, node = heapq.heappop(waiting)
            if done in before:
                continue
            before[done] = (previous, node)
            if done == whole:
                return self._path(before, done)
            for i in self.next_nodes(done):
                most = max(peak, self.need(i, done))
                if most < given:
                    pushed += 1
                    heapq.heappush(waiting, (most, depth - 1, pushed, done | 1 << i, done, i))
        return None

    def _path(self, before: dict[int, tuple[int, int]], done: int) -> list[int]:
        order = []
        while done:
            done, node = before[done]
            order.append(node)
        return order[::-1]
