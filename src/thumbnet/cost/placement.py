"""Offsets for buffers of known sizes: first fit in several orders, then branch and bound.

Finding the smallest arena is NP-hard (dynamic storage allocation: Garey and Johnson 1979, problem SR2), but networks
are small and most of their buffers have room to spare. Branch and bound works as in job-shop scheduling: two buffers
alive at once have two or three ways to lie (one below the other, or over each other where a kernel's order allows it),
each way is one or two constraints `offset[b] >= offset[a] + w`, and longest paths through the constraints chosen so far
bound every offset from both sides. It branches on pairs that led to dead ends before, and starts again with what it
learnt (Boussemart et al. 2004, "Boosting systematic search by weighting constraints"). Work is counted in nodes, not in
seconds, so the result is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from thumbnet.cost.kernel import Overlap

IMPROVEMENT_ROUNDS = 24
MAX_NODES = 2000  # of branch and bound
FIRST_NODES = 64  # before the first new start; then twice as many
MAX_VISITS = 1_000_000  # of pairs: a node visits all of them, so a large problem gets fewer nodes

Way = tuple[tuple[int, int, int], ...]  # (a, b, w) each: offset[b] >= offset[a] + w


@dataclass(frozen=True)
class Problem:
    """Sizes in bytes, all multiples of `step`, and the pairs (i, j) that are alive at once.

    A pair's `Overlap` says how j, an input, may lie over i, the output that is computed from it; None: not at all.
    """

    sizes: tuple[int, ...]
    pairs: Mapping[tuple[int, int], Overlap | None]
    step: int = 1

    @cached_property
    def ways(self) -> tuple[tuple[Way, ...], ...]:
        """For each pair, the ways in which it may lie: the constraints of each."""
        return tuple(_ways(i, j, self.sizes, overlap) for (i, j), overlap in self.pairs.items())

    @cached_property
    def neighbours(self) -> tuple[tuple[tuple[int, Overlap | None, bool], ...], ...]:
        """For each buffer, those alive with it: (index, overlap, whether this buffer is the output)."""
        found: list[list[tuple[int, Overlap | None, bool]]] = [[] for _ in self.sizes]
        for (i, j), overlap in self.pairs.items():
            found[i].append((j, overlap, True))
            found[j].append((i, overlap, False))
        return tuple(tuple(f) for f in found)


@dataclass(frozen=True)
class Placement:
    """`bound`: no placement has a smaller peak."""

    offsets: tuple[int, ...]
    peak: int
    bound: int


def place(problem: Problem, orders: Sequence[Sequence[int]], bound: int, max_nodes: int = MAX_NODES) -> Placement:
    """The best placement found, given `orders` to try first fit in and a known lower `bound` of the peak.

    Where first fit does not meet the bound, branch and bound looks for placements of the bound's size, then between it
    and the best, with `max_nodes` nodes in all, fewer where there are many pairs. A capacity that is refuted raises the
    bound. Deterministic.
    """
    peak, best = _by_first_fit(problem, orders, bound)
    weights = [1] * len(problem.ways)
    failed = bound - problem.step  # the largest capacity for which nothing was found, proven or not
    capacity, left, nodes = bound, min(max_nodes, MAX_VISITS // max(1, len(problem.pairs))), FIRST_NODES
    while left > 0 and bound < peak:
        search = _Search(problem, capacity, min(left, nodes), weights)
        found = search.run()
        left -= 1 + search.nodes
        if found is not None:
            best, peak = found, max(o + s for o, s in zip(found, problem.sizes, strict=True))
        elif search.gave_up:
            failed = capacity
        else:
            bound = min(peak, search.next_capacity)
            failed = bound - problem.step
        if failed >= peak - problem.step:
            failed, nodes = bound - problem.step, 2 * nodes
        capacity = max(bound, (failed + peak) // 2 // problem.step * problem.step)
    return Placement(tuple(best), peak, bound)


# --- first fit


def _by_first_fit(problem: Problem, orders: Sequence[Sequence[int]], bound: int) -> tuple[int, list[int]]:
    """The best of all orders; then what ended up highest is placed first, again and again."""
    results = []
    for order in orders:
        peak, placed = first_fit(problem, order)
        results.append((peak, placed, list(order)))
        if peak <= bound:
            return peak, placed
    best_peak, best, order = min(results, key=lambda r: r[0])
    placed = best
    for _ in range(IMPROVEMENT_ROUNDS):
        top = max(range(len(placed)), key=lambda i: placed[i] + problem.sizes[i])
        order = [top, *(i for i in order if i != top)]
        peak, placed = first_fit(problem, order)
        if peak < best_peak:
            best_peak, best = peak, placed
        if best_peak <= bound:
            break
    return best_peak, best


def first_fit(problem: Problem, order: Sequence[int]) -> tuple[int, list[int]]:
    """Places buffers in this order, each at the lowest offset that agrees with all placed before: (peak, offsets)."""
    placed = [-1] * len(problem.sizes)
    peak = 0
    for i in order:
        size = problem.sizes[i]
        forbidden: list[tuple[int, int]] = []  # open intervals
        for j, overlap, is_output in problem.neighbours[i]:
            if placed[j] >= 0:
                low, high = placed[j] - size, placed[j] + problem.sizes[j]
                _forbid(forbidden, low, high, placed[j], overlap, is_output)
        forbidden.sort()
        offset = 0
        for low, high in forbidden:
            if low < offset < high:
                offset = high
        placed[i] = offset
        peak = max(peak, offset + size)
    return peak, placed


def _forbid(
    forbidden: list[tuple[int, int]], low: int, high: int, other: int, overlap: Overlap | None, is_output: bool
) -> None:
    """Adds the offsets within (low, high) that a buffer may not have because of another at `other`."""
    if overlap is None:
        forbidden.append((low, high))
        return
    # other - offset >= distance where the other is the input, offset - other >= distance where it is the output
    at = other - overlap.distance if is_output else other + overlap.distance
    if overlap.exact:
        forbidden += [(low, min(at, high)), (max(low, at), high)]
    elif is_output:
        forbidden.append((max(low, at), high))
    else:
        forbidden.append((low, min(high, at)))


# --- branch and bound


def _ways(i: int, j: int, sizes: Sequence[int], overlap: Overlap | None) -> tuple[Way, ...]:
    below, above = ((i, j, sizes[i]),), ((j, i, sizes[j]),)
    if overlap is None:
        return below, above
    d = overlap.distance
    if overlap.exact:
        return ((i, j, d), (j, i, -d)), below, above
    if d <= -sizes[j]:
        return ()  # anything goes
    return ((i, j, min(d, sizes[i])),), above  # holds wherever `below` does


class _Search:
    """Looks for offsets within one capacity."""

    def __init__(self, problem: Problem, capacity: int, max_nodes: int, weights: list[int]) -> None:
        """`weights`: how often each pair led to a dead end; goes on counting."""
        self.nodes = 0
        self.gave_up = False  # whether the nodes ran out
        self.next_capacity = sum(problem.sizes)  # the smallest that is not refuted by what refutes this one
        self._problem = problem
        self._capacity = capacity
        self._max_nodes = max_nodes
        self._weights = weights
        self._low = [0] * len(problem.sizes)  # of each offset
        self._room = list(problem.sizes)  # from each offset to the end, at least
        self._after: list[list[tuple[int, int]]] = [[] for _ in problem.sizes]
        self._before: list[list[tuple[int, int]]] = [[] for _ in problem.sizes]
        self._open = dict.fromkeys(k for k, ways in enumerate(problem.ways) if ways)  # undecided pairs, in order
        self._decided: list[tuple[int, Way]] = []
        self._trail: list[tuple[list[int], int, int]] = []  # old values

    def run(self) -> list[int] | None:
        """Offsets, or None where there are none or the nodes ran out."""
        stack: list[tuple[int, int, int, list[Way]]] = []  # how far to go back, a pair, its ways not tried yet
        pair = self._narrow()
        while True:
            if pair is None:
                return list(self._low)
            if pair >= 0:
                placed = self._completed()
                if placed is not None:
                    return placed
                ways = sorted(self._possible(pair), key=self._least, reverse=True)
                stack.append((len(self._trail), len(self._decided), pair, ways))
            while stack and not stack[-1][3]:
                stack.pop()
            if not stack:
                return None
            if self.nodes == self._max_nodes:
                self.gave_up = True
                return None
            self.nodes += 1
            trail, decided, branch, left = stack[-1]
            self._undo(trail, decided)
            pair = self._narrow() if self._decide(branch, left.pop()) else -1

    def _completed(self) -> list[int] | None:
        """First fit in the order of the lower bounds: mostly, only a few pairs are hard, and they are decided first."""
        order = sorted(range(len(self._low)), key=lambda i: (self._low[i], -self._room[i]))
        peak, placed = first_fit(self._problem, order)
        return placed if peak <= self._capacity else None

    def _narrow(self) -> int | None:
        """Decides what has only one way left. Then a pair to branch on, None at a solution, -1 at a dead end."""
        while True:
            forced, chosen, best = False, None, (0.0, 0)
            for pair in tuple(self._open):
                possible = self._possible(pair)
                if not possible:
                    self._weights[pair] += 1
                    return -1
                if len(possible) == 1:
                    if not self._decide(pair, possible[0]):
                        return -1
                    forced = True
                elif not any(self._holds(way) for way in possible):
                    i, j, _ = possible[0][0]
                    key = (self._weights[pair] / len(possible), self._problem.sizes[i] + self._problem.sizes[j])
                    if key > best:
                        chosen, best = pair, key
            if not forced:
                return chosen

    def _least(self, way: Way) -> int:
        """The least capacity that leaves room for this."""
        return max(self._low[a] + w + self._room[b] for a, b, w in way)

    def _possible(self, pair: int) -> list[Way]:
        found = []
        for way in self._problem.ways[pair]:
            least = self._least(way)
            if least <= self._capacity:
                found.append(way)
            else:
                self.next_capacity = min(self.next_capacity, least)
        return found

    def _holds(self, way: Way) -> bool:
        return all(self._low[b] >= self._low[a] + w for a, b, w in way)

    def _decide(self, pair: int, way: Way) -> bool:
        """Adds the constraints; False where something no longer fits."""
        del self._open[pair]
        self._decided.append((pair, way))
        for a, b, w in way:
            self._after[a].append((b, w))
            self._before[b].append((a, w))
        for a, b, w in way:
            low, room = self._low[a] + w, self._room[b] + w
            if not (
                self._raise(self._low, b, low, self._after, self._room)
                and self._raise(self._room, a, room, self._before, self._low)
            ):
                self._weights[pair] += 1
                return False
        return True

    def _raise(
        self, values: list[int], at: int, value: int, arcs: list[list[tuple[int, int]]], others: list[int]
    ) -> bool:
        """Raises `values[at]` to `value` and, along the arcs, all that depend on it; False where that does not fit."""
        waiting = [(at, value)]
        while waiting:
            at, value = waiting.pop()
            if values[at] >= value:
                continue
            if value + others[at] > self._capacity:
                self.next_capacity = min(self.next_capacity, value + others[at])
                return False
            self._trail.append((values, at, values[at]))
            values[at] = value
            waiting += [(j, value + w) for j, w in arcs[at]]
        return True

    def _undo(self, trail: int, decided: int) -> None:
        while len(self._trail) > trail:
            values, at, old = self._trail.pop()
            values[at] = old
        while len(self._decided) > decided:
            pair, way = self._decided.pop()
            self._open[pair] = None
            for a, b, _ in reversed(way):
                self._after[a].pop()
                self._before[b].pop()
