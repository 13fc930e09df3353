"""Which candidates of several sizes go on."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from training_cases import residual_network, some_inputs

from thumbnet.progress import Progress
from thumbnet.results import Constraints
from thumbnet.search.efforts import EFFORTS, FRONT_POINTS
from thumbnet.search.front import Budgets, budgets_between, budgets_for, by_dominance, propose_front
from thumbnet.search.propose import Bench
from thumbnet.search.recipe import Context
from thumbnet.search.space import explore_space
from thumbnet.targets import load_target
from thumbnet.training.normalize import insert_batch_norm


def candidate(flash: int, loss: float, name: str = "") -> Any:
    fitted = SimpleNamespace(costs=SimpleNamespace(flash_bytes=flash))
    return SimpleNamespace(fitted=fitted, loss=loss, rank=(loss, 0.0, name))


CANDIDATES = st.lists(st.tuples(st.integers(1, 100), st.integers(0, 9)), min_size=1, max_size=20).map(
    lambda pairs: [candidate(flash, loss, f"{k:02}") for k, (flash, loss) in enumerate(pairs)]
)


@given(CANDIDATES)
def test_nobody_comes_before_one_that_beats_it(candidates: list[Any]) -> None:
    ranked = by_dominance(candidates)
    assert sorted(map(id, ranked)) == sorted(map(id, candidates))
    for k, later in enumerate(ranked):
        for earlier in ranked[:k]:
            better = later.fitted.costs.flash_bytes <= earlier.fitted.costs.flash_bytes and later.loss <= earlier.loss
            same = later.fitted.costs.flash_bytes == earlier.fitted.costs.flash_bytes and later.loss == earlier.loss
            assert same or not better


@given(CANDIDATES, st.integers(3, 12))
def test_the_best_of_every_budget_goes_on(candidates: list[Any], survivors: int) -> None:
    budgets = Budgets((20, 60, 100))
    on, out = budgets(candidates, survivors)
    assert len(on) == min(survivors, len(candidates))
    assert sorted(map(id, on + out)) == sorted(map(id, candidates))
    for k in range(3):
        own = [c for c in candidates if budgets.of(c) == k]
        if own:
            assert min(own, key=lambda c: c.rank) in on


def test_a_small_network_goes_on_although_larger_ones_lose_less() -> None:
    small, *large = candidate(10, 5.0), candidate(90, 1.0, "a"), candidate(91, 1.1, "b"), candidate(92, 1.2, "c")
    on, out = Budgets((20, 100))([small, *large], 2)
    assert on == [large[0], small]
    assert out == large[1:]


@given(st.integers(1000, 100_000), st.integers(1000, 100_000), st.integers(2, 6))
def test_budgets_lie_a_constant_factor_apart(least: int, most: int, points: int) -> None:
    found = budgets_between(least, most, points).flash_bytes
    assert found[-1] == most
    assert found[0] == min(least, most)
    assert list(found) == sorted(set(found))
    steps = [b / a for a, b in pairwise(found)]
    assert all(abs(s / steps[0] - 1) < 0.01 for s in steps)


def test_there_are_candidates_for_every_budget_and_all_keep_the_limits() -> None:
    space = explore_space(insert_batch_norm(residual_network(size=64), some_inputs(8, 64)))
    rng = np.random.default_rng(0)
    context = Context({g.id: rng.random(g.size) for g in space.groups})
    limits = Constraints(flash_bytes=64 << 10, ram_bytes=16 << 10)
    bench = Bench(space, context, load_target("nrf52840"), limits)
    budgets = budgets_for(bench, 20 << 10)
    assert budgets.flash_bytes[-1] == 20 << 10  # the reference, which is less than the limit
    effort = EFFORTS["quick"].of_front()
    fits, _ = propose_front(bench, budgets, [], effort, Progress.quiet())
    assert all(f.costs.flash_bytes <= 20 << 10 and f.costs.ram_bytes <= 16 << 10 for f in fits)
    filled = {budgets.of(candidate(f.costs.flash_bytes, 0.0)) for f in fits}
    assert len(filled) >= 3
    assert [f.recipe.id for f in fits] == [
        f.recipe.id for f in propose_front(bench, budgets, [], effort, Progress.quiet())[0]
    ]


def test_an_effort_for_a_front_keeps_its_length_and_a_network_for_every_budget() -> None:
    for effort in EFFORTS.values():
        several = effort.of_front()
        assert several.steps(5000) == effort.steps(5000)
        assert several.finalists == FRONT_POINTS
        assert [p for _, p in several.rungs] == [p for _, p in effort.rungs]
