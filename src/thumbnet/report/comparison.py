"""The values of the before/after table and of the limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from thumbnet.report import units
from thumbnet.report.details import CostsJson, DetailsJson, ResultJson
from thumbnet.report.intervals import wilson_interval
from thumbnet.results import Kind

EMPTY: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Cell:
    """A value as text, where it comes from, and what is written small beneath it."""

    text: str
    kind: Kind | None = None
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One line of the table. `part` rows itemise the row above them."""

    label: str
    before: Cell
    after: Cell
    change: str
    part: bool = False
    limit: str = ""
    met: bool | None = None


@dataclass(frozen=True)
class Limit:
    """A limit, what became of it, and how much of it is used (1 = all)."""

    label: str
    limit: str
    value: str
    used: float
    met: bool


@dataclass(frozen=True)
class _CostRow:
    label: str
    key: str
    form: Callable[[float | None], str]
    part: bool = False


# With its parts beneath it. "parameters" are what flash holds beside code and weights.
COST_ROWS = (
    _CostRow("Flash", "flash_bytes", units.size),
    _CostRow("code", "code_bytes", units.size, part=True),
    _CostRow("weights", "weight_bytes", units.size, part=True),
    _CostRow("parameters, constants", "rest_bytes", units.size, part=True),
    _CostRow("RAM", "ram_bytes", units.size),
    _CostRow("arena (activations)", "arena_bytes", units.size, part=True),
    _CostRow("static data", "static_bytes", units.size, part=True),
    _CostRow("stack", "stack_bytes", units.size, part=True),
    _CostRow("Instructions", "instructions", units.count),
    _CostRow("Cycles", "cycles", units.count),
    _CostRow("Latency", "latency_ms", units.milliseconds),
)
MODELLED = ("cycles", "latency_ms")  # from the cycle model even where instructions were counted


def comparison(result: ResultJson, details: DetailsJson) -> list[Row]:
    """The table, top to bottom; rows without any value are left out."""
    reference: Mapping[str, Any] = result.get("reference", EMPTY)
    best: Mapping[str, Any] = result.get("best", EMPTY)
    limits: Mapping[str, Any] = details.get("limits", EMPTY)
    before = _with_rest(details.get("reference_costs"))
    after = _with_rest(details.get("best_costs")) or {**best, "kind": str(Kind.EMULATED)}
    rows = [
        _accuracy_row(result, limits.get("max_drop")),
        _row(
            "Model file",
            units.size,
            reference.get("size_bytes"),
            best.get("size_bytes"),
            Kind.MEASURED,
            Kind.MEASURED,
        ),
        _row(
            "Parameters",
            units.count,
            reference.get("parameters"),
            best.get("parameters"),
            Kind.MEASURED,
            Kind.MEASURED,
        ),
        _row(
            "MACs",
            units.count,
            reference.get("macs"),
            best.get("macs"),
            Kind.MEASURED,
            Kind.MEASURED,
            limits.get("macs"),
        ),
    ]
    for spec in COST_ROWS:
        rows.append(
            _row(
                spec.label,
                spec.form,
                before.get(spec.key),
                after.get(spec.key),
                _kind(before, spec.key),
                _kind(after, spec.key),
                limits.get(spec.key),
                part=spec.part,
            )
        )
    return [r for r in rows if r is not None]


def limits_of(result: ResultJson, details: DetailsJson) -> list[Limit]:
    """Every limit that was set, with pass or fail."""
    limits, best = details.get("limits", EMPTY), result.get("best", EMPTY)
    costs = details.get("best_costs") or EMPTY
    found: list[Limit] = []
    for label, key, form in (
        ("Flash", "flash_bytes", units.size),
        ("RAM", "ram_bytes", units.size),
        ("Latency", "latency_ms", units.milliseconds),
        ("MACs", "macs", units.count),
    ):
        limit: Any = limits.get(key)
        value: Any = costs.get(key, best.get(key))
        if limit is not None and value is not None:
            found.append(Limit(label, form(limit), form(value), value / limit if limit else 1.0, value <= limit))
    limit, drop = limits.get("max_drop"), result.get("drop_points")
    if limit is not None and drop is not None:
        allowed = f"at most {limit:g}{units.NBSP}points lost"
        used = max(0.0, drop) / limit if limit else float(drop > 0)
        found.append(Limit("Accuracy", allowed, units.points(drop), used, drop <= limit))
    return found


def _row(
    label: str,
    form: Callable[[float | None], str],
    before: float | None,
    after: float | None,
    before_kind: Kind | None,
    after_kind: Kind | None,
    limit: float | None = None,
    *,
    part: bool = False,
) -> Row | None:
    if before is None and after is None:
        return None
    met = None if limit is None or after is None else after <= limit
    return Row(
        label,
        Cell(form(before), before_kind if before is not None else None),
        Cell(form(after), after_kind if after is not None else None),
        units.ratio(before, after),
        part,
        f"limit {form(limit)}" if limit is not None else "",
        met,
    )


def _accuracy_row(result: ResultJson, max_drop: float | None) -> Row | None:
    reference, best = result.get("reference", EMPTY), result.get("best", EMPTY)
    n, drop = result.get("test_images"), result.get("drop_points")
    if reference.get("accuracy") is None and best.get("accuracy") is None:
        return None
    return Row(
        "Accuracy",
        _accuracy_cell(reference, n),
        _accuracy_cell(best, n),
        units.points(drop),
        limit="" if max_drop is None else f"limit {units.MINUS}{max_drop:g}{units.NBSP}points",
        met=None if max_drop is None or drop is None else drop <= max_drop,
    )


def _accuracy_cell(of: Mapping[str, Any], n: int | None) -> Cell:
    accuracy = of.get("accuracy")
    if accuracy is None:
        return Cell(units.NOTHING)
    interval = of.get("accuracy_interval") or (wilson_interval(accuracy, n) if n else None)
    note = f"{interval[0]:.1f} to {interval[1]:.1f}" if interval else ""
    images = f"n = {n:,}" if n else ""
    return Cell(units.percent(accuracy), Kind.MEASURED, ", ".join(filter(None, (note, images))))


def _with_rest(costs: CostsJson | None) -> dict[str, Any]:
    if not costs:
        return {}
    parts = ("flash_bytes", "code_bytes", "weight_bytes")
    rest = {}
    if all(p in costs for p in parts):
        rest["rest_bytes"] = costs["flash_bytes"] - costs["code_bytes"] - costs["weight_bytes"]
    return {**costs, **rest}


def _kind(costs: Mapping[str, Any], key: str) -> Kind | None:
    kind = costs.get("kind")
    if kind not in set(Kind):
        return None
    return Kind.ESTIMATED if key in MODELLED and kind != Kind.MEASURED else Kind(kind)
