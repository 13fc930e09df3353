"""Limits that nothing can keep: told from shapes alone, with the verdict of the search."""

from __future__ import annotations

import re
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_cases import chain_network, residual_network, some_inputs

from thumbnet.errors import InfeasibleError
from thumbnet.results import COST_LIMITS, Constraints, CostLimit
from thumbnet.search.feasible import NAMED, check_feasible, nearest_misses, refusal, smallest
from thumbnet.search.fit import Fitter
from thumbnet.search.recipe import Context
from thumbnet.search.shape import Fitted
from thumbnet.search.space import Space, explore_space
from thumbnet.targets import load_target, parse_size
from thumbnet.training.normalize import insert_batch_norm

BOARD = load_target("nrf52840")
SPACES = {
    "residual": explore_space(insert_batch_norm(residual_network(size=64), some_inputs(8, 64))),
    "chain": explore_space(insert_batch_norm(chain_network(), some_inputs(8, 64))),
}
NETWORKS = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
KEYS = tuple(c.key for c in COST_LIMITS)


def fitter(space: Space, limits: Constraints) -> Fitter:
    return Fitter(space, Context({g.id: np.ones(g.size) for g in space.groups}), BOARD, limits)


def refused(space: Space, limits: Constraints) -> InfeasibleError:
    with pytest.raises(InfeasibleError) as caught:
        check_feasible(space, BOARD, limits, "net")
    return caught.value


@NETWORKS
@pytest.mark.parametrize("cost", COST_LIMITS, ids=lambda c: c.key)
def test_the_least_that_is_named_is_feasible_and_less_is_not(space: Space, cost: CostLimit) -> None:
    misses = nearest_misses(fitter(space, Constraints(**{cost.key: 1e-6})))
    assert misses
    least = min(getattr(m.costs, cost.key) for m in misses)
    error = refused(space, Constraints(**{cost.key: least * 0.999}))
    assert cost.beside(least, least * 0.999) in error.message
    check_feasible(space, BOARD, Constraints(**{cost.key: least}), "net")


@NETWORKS
def test_what_is_advised_does(space: Space) -> None:
    limits = Constraints(flash_bytes=2 << 10, ram_bytes=2 << 10, latency_ms=1e-3, energy_mj=1e-5)
    error = refused(space, limits)
    advised = dict(re.findall(r"(--\w+) ([\d.]+K?B?)(?: |$)", error.hint))
    assert {"--flash", "--latency", "--energy"} <= set(advised) <= {"--flash", "--ram", "--latency", "--energy"}
    wide = Constraints(
        flash_bytes=parse_size(advised["--flash"]),
        ram_bytes=parse_size(advised.get("--ram", "2KB")),
        latency_ms=float(advised["--latency"]),
        energy_mj=float(advised["--energy"]),
    )
    check_feasible(space, BOARD, wide, "net")


def test_one_limit_that_is_too_tight_is_advised_alone() -> None:
    error = refused(SPACES["residual"], Constraints(flash_bytes=2 << 10, ram_bytes=64 << 10))
    assert re.match(r"--flash \d+KB would do; or choose a smaller reference\.$", error.hint)
    assert "RAM (" not in error.message
    assert re.search(r"nearest needs [\d.]+ KB of flash \([\d.]+ times the limit\), [\d.]+ KB of RAM\.", error.message)


def test_limits_that_exclude_each_other_are_told_apart_from_impossible_ones() -> None:
    space = SPACES["residual"]
    limits = Constraints(flash_bytes=8 << 10, macs=1000)
    missed = fitter(space, Constraints(flash_bytes=1)).fit(next(fitter(space, limits).shapes()))
    assert missed is not None

    def miss(flash: int, macs: int) -> Fitted:
        costs = replace(missed.costs, flash_bytes=flash, macs=macs)
        return replace(missed, costs=costs, violations=limits.violations(costs))

    message, hint = refusal(space, BOARD, limits, "net", [miss(7 << 10, 3000), miss(9 << 10, 900)])
    assert "least possible is 7.0 KB of flash (limit 8.0 KB), 900 MACs (limit 1,000)." in message
    assert "Each limit can be kept alone, but not all of them together." in message
    assert "nearest needs 9.0 KB of flash (1.12 times the limit), 900 MACs." in message
    assert "Others need 7.0 KB of flash, 3,000 MACs (3.00 times the limit)." in message
    assert hint == "--flash 9KB, or --macs 3000 would do; or choose a smaller reference."


def test_a_board_too_small_is_not_answered_with_an_option_that_it_cannot_give() -> None:
    tiny = replace(BOARD, flash_bytes=2 << 10)
    with pytest.raises(InfeasibleError, match=r"[Aa] board with \d+\.0 KB of flash would do"):
        check_feasible(SPACES["residual"], tiny, Constraints(flash_bytes=2 << 10), "net")


@settings(max_examples=15, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(SPACES)))
def test_the_verdict_is_that_of_the_search(data: st.DataObject, name: str) -> None:
    space = SPACES[name]
    base = asdict(LEAST[name])
    chosen = data.draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=3, unique=True))
    limits = Constraints(**{k: base[k] * data.draw(st.floats(0.9, 1.6)) for k in chosen})
    fit = fitter(space, limits)
    found = any((f := fit.fit(s)) is not None and f.fits for s in fit.shapes())
    assert (nearest_misses(fitter(space, limits)) is None) == found


def _least(space: Space) -> Constraints:
    """The least of each cost over the smallest shapes."""
    fit = fitter(space, Constraints(flash_bytes=1))
    costs = [f.costs for s in smallest(list(fit.shapes())) if (f := fit.fit(s)) is not None]
    return Constraints(**{k: min(getattr(c, k) for c in costs) for k in KEYS})


LEAST = {name: _least(space) for name, space in SPACES.items()}


def test_at_most_three_misses_are_named() -> None:
    error = refused(SPACES["chain"], Constraints(**{k: v * 0.1 for k, v in asdict(LEAST["chain"]).items() if v}))
    assert error.message.count("of flash (") <= 1 + NAMED
