"""Placements are valid and, where the search ends, the smallest there are."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from thumbnet.cost.kernel import Overlap
from thumbnet.cost.placement import Problem, first_fit, place


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Few buffers of few sizes, most pairs alive at once, some with an overlap of either kind."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=6))
    overlaps = st.builds(Overlap, st.integers(-6, 6), st.booleans())
    pairs: dict[tuple[int, int], Overlap | None] = {}
    for i in range(len(sizes)):
        for j in range(i):
            if draw(st.integers(0, 3)):
                pair = draw(st.sampled_from([(i, j), (j, i)]))
                pairs[pair] = draw(st.none() | overlaps)
    return Problem(tuple(sizes), pairs)


def agree(problem: Problem, pair: tuple[int, int], offsets: tuple[int, ...]) -> bool:
    """Whether a pair may lie like this, straight from the definition."""
    (i, j), overlap = pair, problem.pairs[pair]
    if offsets[i] + problem.sizes[i] <= offsets[j] or offsets[j] + problem.sizes[j] <= offsets[i]:
        return True
    if overlap is None:
        return False
    gap = offsets[j] - offsets[i]
    return gap == overlap.distance if overlap.exact else gap >= overlap.distance


def smallest(problem: Problem) -> int:
    """The least peak of all placements, tried one by one."""

    def fits(placed: tuple[int, ...], capacity: int) -> bool:
        k = len(placed)
        if k == len(problem.sizes):
            return True
        for offset in range(capacity - problem.sizes[k] + 1):
            more = (*placed, offset)
            if all(agree(problem, p, more) for p in problem.pairs if max(p) == k) and fits(more, capacity):
                return True
        return False

    return next(c for c in range(max(problem.sizes), sum(problem.sizes) + 1) if fits((), c))


@settings(max_examples=300, deadline=None)
@given(problems())
def test_equal_to_trying_everything(problem: Problem) -> None:
    found = place(problem, [range(len(problem.sizes))], max(problem.sizes))
    assert all(agree(problem, pair, found.offsets) for pair in problem.pairs)
    assert min(found.offsets) >= 0
    assert found.peak == max(o + s for o, s in zip(found.offsets, problem.sizes, strict=True))
    assert found.peak == found.bound == smallest(problem)


@settings(max_examples=200, deadline=None)
@given(problems(), st.integers(0, 12))
def test_bounds_hold_however_few_nodes(problem: Problem, nodes: int) -> None:
    found = place(problem, [range(len(problem.sizes))], max(problem.sizes), nodes)
    assert found.bound <= smallest(problem) <= found.peak
    assert found.peak <= first_fit(problem, range(len(problem.sizes)))[0]
    assert all(agree(problem, pair, found.offsets) for pair in problem.pairs)


def test_better_than_first_fit_in_any_order() -> None:
    """Two buffers side by side under a third that later shares its room with a wider one."""
    sizes = (2, 3, 4, 3, 2, 5)
    pairs = dict.fromkeys([(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (0, 2), (2, 4), (1, 3), (3, 5)])
    problem = Problem(sizes, pairs)
    found = place(problem, [range(6)], 10)
    assert found.peak == found.bound == smallest(problem)
    assert found == place(problem, [range(6)], 10)
