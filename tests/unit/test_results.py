"""Limits: what exceeds them, by how much, in which words."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thumbnet.results import COST_LIMITS, Constraints, CostLimit, Costs, Kind, Metric, factor

ACCURACY = Metric("accuracy", "Accuracy")
ERROR = Metric("mae", "Mean absolute error", "mm", higher_is_better=False, digits=4)
COSTS = Costs(Kind.ESTIMATED, 33 << 10, 9000, 20000, 12 << 10, 11000, 0, 1288, 400_000, 900_000, 1_200_000, 18.75)
COSTS = replace(COSTS, energy_mj=0.186)
AMOUNTS = st.floats(1e-3, 1e9)
BY_KEY = {c.key: c for c in COST_LIMITS}


def test_every_limit_on_a_cost_is_a_field_of_costs_and_of_constraints() -> None:
    keys = {c.key for c in COST_LIMITS}
    assert keys <= {f.name for f in fields(Costs)}
    assert keys | {"max_drop", "metric_limit"} == {f.name for f in fields(Constraints)}


@pytest.mark.parametrize("cost", COST_LIMITS, ids=lambda c: c.key)
def test_a_limit_is_kept_by_what_just_meets_it_and_by_nothing_more(cost: CostLimit) -> None:
    value = getattr(COSTS, cost.key)
    assert Constraints(**{cost.key: value}).violations(COSTS) == {}
    assert Constraints(**{cost.key: value / 2}).violations(COSTS) == {cost.key: 2.0}
    [told] = Constraints(**{cost.key: value / 2}).exceeded(COSTS)
    assert cost.name in told
    assert "2.00 times" in told


@given(key=st.sampled_from(sorted(BY_KEY)), value=AMOUNTS, more=AMOUNTS, limit=AMOUNTS, room=AMOUNTS)
def test_more_cost_and_less_room_never_violate_less(
    key: str, value: float, more: float, limit: float, room: float
) -> None:
    def over(cost: float, allowed: float) -> float:
        return Constraints(**{key: allowed}).violations({key: cost}).get(key, 1.0)

    assert over(value, limit) >= 1.0
    assert over(value + more, limit) >= over(value, limit)
    assert over(value, limit + room) <= over(value, limit)
    assert (over(value, limit) > 1) == (value / limit > 1)


@given(cost=st.sampled_from(COST_LIMITS), value=AMOUNTS)
def test_what_is_advised_is_enough_and_says_what_it_sets(cost: CostLimit, value: float) -> None:
    roomy = cost.roomy(value)
    assert roomy >= value
    assert Constraints(**{cost.key: roomy}).violations({cost.key: value}) == {}
    option, text = cost.asked(value).split()
    assert option == cost.option
    said = int(text.removesuffix("KB")) * 1024 if cost.unit == "KB" else float(text)
    assert said == roomy


def test_units_are_told() -> None:
    texts = {c.key: c.text(getattr(COSTS, c.key)) for c in COST_LIMITS}
    assert texts == {
        "flash_bytes": "33.0 KB of flash",
        "ram_bytes": "12.0 KB of RAM",
        "latency_ms": "18.8 ms of latency",
        "cycles": "1,200,000 cycles",
        "macs": "400,000 MACs",
        "energy_mj": "0.186 mJ of energy",
    }
    assert BY_KEY["flash_bytes"].beside(1025, 1024) == "1,025 B of flash (limit 1,024 B)"


def test_a_miss_never_reads_as_one_time_the_limit() -> None:
    texts = [factor(f) for f in (1.5, 1.001, 1.000002, 1 + 1e-9, 5220.3)]
    assert texts == ["1.50 times", "1.001 times", "1.000002 times", "1.000000001 times", "5,220 times"]


def test_costs_that_do_not_tell_what_is_limited_are_no_pass() -> None:
    with pytest.raises(ValueError, match="energy"):
        Constraints(energy_mj=1.0).violations(replace(COSTS, energy_mj=None))


@pytest.mark.parametrize(
    ("metric", "limits", "drop", "score", "short"),
    [
        (ACCURACY, Constraints(max_drop=2.0), 2.0, 88.0, {}),
        (ACCURACY, Constraints(max_drop=2.0), 2.5, 88.0, {"max_drop": 0.5}),
        (ACCURACY, Constraints(max_drop=0.0), -1.0, 88.0, {}),
        (ACCURACY, Constraints(metric_limit=90.0), 0.0, 90.0, {}),
        (ACCURACY, Constraints(metric_limit=90.0), 0.0, 89.5, {"metric_limit": 0.5}),
        (ERROR, Constraints(metric_limit=0.25), 0.0, 0.25, {}),
        (ERROR, Constraints(metric_limit=0.25), 0.0, 0.75, {"metric_limit": 0.5}),
        (ERROR, Constraints(max_drop=0.5, metric_limit=1.0), 1.5, 2.0, {"max_drop": 1.0, "metric_limit": 1.0}),
    ],
)
def test_limits_on_quality_are_floors_or_ceilings(
    metric: Metric, limits: Constraints, drop: float, score: float, short: dict[str, float]
) -> None:
    assert limits.shortfalls(metric, drop, score) == short
    assert len(limits.worse(metric, drop, score, "test")) == len(short)


def test_a_metric_that_is_not_known_keeps_no_limit() -> None:
    limits = Constraints(max_drop=1.0, metric_limit=90.0)
    assert set(limits.shortfalls(ACCURACY, float("nan"), float("nan"))) == {"max_drop", "metric_limit"}


@given(score=st.floats(0, 100), better=st.floats(0, 100), limit=st.floats(0, 100), drop=st.floats(0, 50))
def test_a_better_network_is_never_shorter_of_a_limit(score: float, better: float, limit: float, drop: float) -> None:
    limits = Constraints(max_drop=drop, metric_limit=limit)
    low, high = sorted((score, better))
    worse, less = (limits.shortfalls(ACCURACY, 90 - s, s) for s in (low, high))
    assert all(less[k] <= worse[k] for k in less)
    assert limits.shortfalls(ERROR, low - 90, low).get("metric_limit", 0) <= limits.shortfalls(
        ERROR, high - 90, high
    ).get("metric_limit", 0)


def test_quality_that_is_missed_is_told_with_its_unit_and_by_how_much() -> None:
    limits = Constraints(max_drop=3.0, metric_limit=91.0)
    assert limits.worse(ACCURACY, 5.0, 88.0, "test") == [
        "5.00 points lost on the test split, 3 allowed (missed by 2.00 points)",
        "Accuracy 88.0 % on the test split, at least 91 % asked for (missed by 3.00 points)",
    ]
    [told] = Constraints(metric_limit=0.5).worse(ERROR, 0.0, 0.75, "validation")
    assert told == (
        "Mean absolute error 0.7500 mm on the validation split, at most 0.5 mm asked for (missed by 0.2500 mm)"
    )


def test_limits_come_back_from_json_and_unknown_ones_are_passed_over() -> None:
    limits = Constraints(flash_bytes=1024, energy_mj=0.5)
    assert Constraints.of_json({**vars(limits), "later": 3}) == limits
