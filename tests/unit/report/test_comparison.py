"""Values, limits, sentences and facts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from thumbnet.report import units
from thumbnet.report.comparison import comparison, limits_of
from thumbnet.report.facts import proof_facts, proof_verdict, provenance_facts
from thumbnet.report.intervals import wilson_interval
from thumbnet.report.sections import headline
from thumbnet.results import Kind


def rows(result: Any, details: Any) -> dict[str, Any]:
    return {r.label: r for r in comparison(result, details)}


def test_every_value_says_where_it_comes_from(result: dict[str, Any], details: dict[str, Any]) -> None:
    table = rows(result, details)
    assert all(r.before.kind and r.after.kind for r in table.values())
    assert (table["Flash"].before.kind, table["Flash"].after.kind) == (Kind.ESTIMATED, Kind.EMULATED)
    assert table["Instructions"].after.kind == Kind.EMULATED
    assert table["Cycles"].after.kind == table["Latency"].after.kind == Kind.ESTIMATED  # a model, even then
    assert table["Accuracy"].after.kind == Kind.MEASURED


def test_measured_cycles_are_measured(result: dict[str, Any], details: dict[str, Any]) -> None:
    details["best_costs"]["kind"] = "measured"
    assert rows(result, details)["Cycles"].after.kind == Kind.MEASURED


def test_parts_add_up(result: dict[str, Any], details: dict[str, Any]) -> None:
    best = result["best"]
    rest = best["flash_bytes"] - best["code_bytes"] - details["best_costs"]["weight_bytes"]
    assert rows(result, details)["parameters, constants"].after.text == units.size(rest)


def test_parts_of_ram_are_those_of_the_linked_firmware(result: dict[str, Any], details: dict[str, Any]) -> None:
    table = rows(result, details)
    parts = [table[k].after for k in ("arena (activations)", "static data", "stack")]
    assert [p.kind for p in parts] == [Kind.EMULATED] * 3
    assert [p.text for p in parts] == [units.size(90_372), units.size(24), units.size(1_252)]
    assert result["best"]["ram_bytes"] == 90_372 + 24 + 1_252


def test_accuracy_comes_with_interval_and_number(result: dict[str, Any], details: dict[str, Any]) -> None:
    row = rows(result, details)["Accuracy"]
    assert row.after.note == "80.7 to 87.0, n\xa0=\xa0528"
    assert row.before.note.startswith("81.9 to 88.0")  # none was given: computed
    assert row.change == "−1.1\xa0points"
    assert row.note == "−3.1 to +0.9"


@pytest.mark.parametrize(
    ("key", "value", "label"),
    [
        ("flash_bytes", 250_879, "Flash"),
        ("ram_bytes", 1_000, "RAM"),
        ("latency_ms", 10.0, "Latency"),
        ("macs", 10_000, "MACs"),
        ("cycles", 53_725_099, "Cycles"),
        ("energy_mj", 8.31, "Energy"),
        ("max_drop", 1.05, "Accuracy"),
        ("metric_limit", 84.2, "Accuracy"),
    ],
)
def test_a_missed_limit_is_said(
    key: str, value: float, label: str, result: dict[str, Any], details: dict[str, Any]
) -> None:
    result["best"]["energy_mj"] = 8.311
    assert headline(result, details).startswith("Meets every limit on Nordic nRF52840: 84.1")
    assert all(limit.met for limit in limits_of(result, details))  # type: ignore[arg-type]
    details["limits"][key] = value
    missed = [limit.label for limit in limits_of(result, details) if not limit.met]  # type: ignore[arg-type]
    assert missed == [label]
    assert headline(result, details).startswith("Does not meet every limit")
    assert label.lower() in headline(result, details).lower()
    assert rows(result, details)[label].met is False


def test_a_limit_that_is_just_met_is_met(result: dict[str, Any], details: dict[str, Any]) -> None:
    details["limits"] = {"flash_bytes": 250_880, "ram_bytes": 91_648, "max_drop": 1.1}
    assert [limit.met for limit in limits_of(result, details)] == [True] * 3  # type: ignore[arg-type]


def test_a_limit_on_the_metric_is_a_floor_or_a_ceiling(result: dict[str, Any], details: dict[str, Any]) -> None:
    details["limits"] = {"metric_limit": 80.0}
    [limit] = limits_of(result, details)  # type: ignore[arg-type]
    assert (limit.limit, limit.met) == ("at\xa0least\xa080\xa0%", True)
    assert limit.used == pytest.approx(80 / 84.1)
    assert rows(result, details)["Accuracy"].limit == "limit at\xa0least\xa080\xa0%"
    result["metric"] = {"key": "mae", "name": "MAE", "unit": "mm", "higher_is_better": False, "digits": 2}
    result["best"]["mae"] = 84.1
    [limit] = limits_of(result, details)  # type: ignore[arg-type]
    assert (limit.limit, limit.met) == ("at\xa0most\xa080\xa0mm", False)


def test_energy_is_an_estimate_even_of_a_verified_firmware(result: dict[str, Any], details: dict[str, Any]) -> None:
    result["best"]["energy_mj"] = 8.311
    cell = rows(result, details)["Energy"].after
    assert (cell.text, cell.kind) == ("8.31\xa0mJ", Kind.ESTIMATED)


def test_a_failed_proof_leads_the_page(result: dict[str, Any], details: dict[str, Any]) -> None:
    details["proof"]["bit_exact"] = False
    verdict = proof_verdict(result, details)  # type: ignore[arg-type]
    assert verdict is not None
    assert not verdict[0]
    assert "differ" in verdict[1]
    assert "could not be verified" in headline(result, details)


def test_the_proof_claims_tflite_micro_only_where_it_ran(result: dict[str, Any], details: dict[str, Any]) -> None:
    def verdict() -> tuple[bool, str]:
        found = proof_verdict(result, details)  # type: ignore[arg-type]
        assert found is not None
        return found

    assert verdict()[0]
    assert "tflite-micro" in verdict()[1]
    assert "64 images and 8 extreme inputs" in verdict()[1]
    details["proof"]["tflm_equal"] = None
    assert verdict()[0]
    assert "tflite-micro" not in verdict()[1]
    details["proof"]["tflm_equal"] = False
    assert not verdict()[0]


def test_without_a_proof_everything_is_estimated(result: dict[str, Any], details: dict[str, Any]) -> None:
    del result["proof"], details["proof"]
    row = rows(result, details)["Flash"]
    assert (row.after.kind, row.after.text) == (Kind.ESTIMATED, units.size(250_112))
    details["best_costs"] = None
    row = rows(result, details)["Flash"]
    assert (row.after.kind, row.after.text) == (Kind.ESTIMATED, units.size(250_880))


def test_what_the_table_says_is_not_said_again(result: dict[str, Any], details: dict[str, Any]) -> None:
    names = [name for name, _ in proof_facts(result, details)]  # type: ignore[arg-type]
    assert not {"Flash bytes", "Layers", "Bytes that differ", "Bit exact"} & set(names)
    assert "Compiler" in names
    assert dict(proof_facts(result, details))["The cycle model may be off by"] == "±\xa030\xa0%"  # type: ignore[arg-type]


def test_facts_keep_unknown_keys(result: dict[str, Any], details: dict[str, Any]) -> None:
    details["proof"]["new_thing"] = {"a": 1, "b": [True, 2.5]}
    assert dict(proof_facts(result, details))["New thing"] == "a 1, b yes, 2.5"  # type: ignore[arg-type]
    told = dict(provenance_facts(result, details))  # type: ignore[arg-type]
    assert told["Data"] == "solar cells (1,830 train, 266 val, 528 test images)"
    assert told["Seed"] == "0"
    assert told["Took"] == "8\xa0min 32\xa0s"
    assert "torch 2.13.0" in told["Versions"]


@given(st.integers(1, 5000), st.data())
def test_wilson_interval_agrees_with_scipy(n: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, n))
    low, high = wilson_interval(100 * right / n, n)
    expected = binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((100 * expected.low, 100 * expected.high), abs=1e-9)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (units.size(704), "704 B"),
        (units.size(256 * 1024), "256 KB"),
        (units.size(250_881), "245.0 KB"),
        (units.size(3 * 1024 * 1024 + 1), "3.00 MB"),
        (units.size(None), "–"),
        (units.count(385_200_000), "385.2 M"),
        (units.count(4_870_000), "4.87 M"),
        (units.count(12), "12"),
        (units.points(1.3), "−1.3 points"),
        (units.points(-0.4), "+0.4 points"),
        (units.points(0.04), "±0.0 points"),
        (units.ratio(100, 50), "÷ 2.00"),
        (units.ratio(50, 100), "× 2.00"),
        (units.ratio(7, 7), "="),
        (units.ratio(0, 7), "–"),
        (units.ratio(None, 7), "–"),
        (units.milliseconds(8.345), "8.35 ms"),
        (units.milliseconds(13_295), "13.3 s"),
        (units.duration(59.94), "59.9 s"),
        (units.duration(3_725), "1 h 2 min"),
        (units.frequency(64e6), "64 MHz"),
        (units.short(500_000), "500 k"),
    ],
)
def test_numbers_as_people_read_them(said: str, expected: str) -> None:
    assert said.replace(units.NBSP, " ") == expected
