"""The values of the before/after table and of the limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from thumbnet.report import units
from thumbnet.report.details import CostsJson, DetailsJson, ResultJson
from thumbnet.report.intervals import wilson_interval
from thumbnet.results import Constraints, Kind, Metric

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
    note: str = ""  # beneath the change
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


NETWORK_ROWS: tuple[tuple[str, str, Callable[[float | None], str]], ...] = (
    ("Model file", "size_bytes", units.size),
    ("Parameters", "parameters", units.count),
    ("MACs", "macs", units.count),
)
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
    _CostRow("Energy", "energy_mj", units.millijoules),
)
# From the cycle model, and the data sheet's current, even where instructions were counted.
MODELLED = ("cycles", "latency_ms", "energy_mj")
LIMIT_ROWS = (
    ("Flash", "flash_bytes", units.size),
    ("RAM", "ram_bytes", units.size),
    ("Latency", "latency_ms", units.milliseconds),
    ("Cycles", "cycles", units.count),
    ("MACs", "macs", units.count),
    ("Energy", "energy_mj", units.millijoules),
)


@dataclass(frozen=True)
class Value:
    """A cost and where it comes from."""

    value: float
    kind: Kind | None


def costs_after(result: ResultJson, details: DetailsJson) -> dict[str, Value]:
    """What the result costs: figures of the verified firmware where there are any, else the estimate."""
    values = _values(details.get("best_costs"))
    proof = {**result.get("proof", {}), **details.get("proof", {})}
    verified = "bit_exact" in proof
    best = {**_linked(proof), **result.get("best", EMPTY)}
    for key in (spec.key for spec in COST_ROWS):
        if best.get(key) is not None and (verified or key not in values):
            kind = Kind.EMULATED if verified and key not in MODELLED else Kind.ESTIMATED
            known = values.get(key)
            if known is None or known.kind != Kind.MEASURED:
                values[key] = Value(best[key], kind)
    return _with_rest(values)


def _linked(proof: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of RAM in the linked firmware."""
    parts = {k: proof[k] for k in ("arena_bytes", "stack_bytes") if k in proof}
    if {"data_bytes", "bss_bytes", "arena_bytes"} <= proof.keys():
        parts["static_bytes"] = proof["data_bytes"] + proof["bss_bytes"] - proof["arena_bytes"]
    return parts


def comparison(result: ResultJson, details: DetailsJson) -> list[Row]:
    """The table, top to bottom; rows without any value are left out."""
    reference: Mapping[str, Any] = result.get("reference", EMPTY)
    best: Mapping[str, Any] = result.get("best", EMPTY)
    limits: Mapping[str, Any] = details.get("limits", EMPTY)
    before, after = _with_rest(_values(details.get("reference_costs"))), costs_after(result, details)
    rows: list[Row | None] = [_metric_row(result, Constraints.of_json(limits)), *_more_rows(reference, best)]
    for label, key, form in NETWORK_ROWS:
        sides = [Value(of[key], Kind.MEASURED) if of.get(key) is not None else None for of in (reference, best)]
        rows.append(_row(label, form, sides[0], sides[1], limits.get(key)))
    for spec in COST_ROWS:
        row = _row(spec.label, spec.form, before.get(spec.key), after.get(spec.key), limits.get(spec.key), spec.part)
        rows.append(row)
    return [r for r in rows if r is not None]


def limits_of(result: ResultJson, details: DetailsJson) -> list[Limit]:
    """Every limit that was set, with pass or fail."""
    limits: Mapping[str, Any] = details.get("limits", EMPTY)
    macs = (details.get("best_costs") or EMPTY).get("macs", result.get("best", EMPTY).get("macs"))
    values = {k: v.value for k, v in costs_after(result, details).items()} | {"macs": macs}
    found: list[Limit] = []
    for label, key, form in LIMIT_ROWS:
        limit, value = limits.get(key), values.get(key)
        if limit is not None and value is not None:
            found.append(Limit(label, form(limit), form(value), value / limit if limit else 1.0, value <= limit))
    limit, drop = limits.get("max_drop"), drop_of(result)
    if limit is not None and drop is not None:
        metric = Metric.of(result)
        unit = "points" if metric.in_points else metric.unit
        allowed = f"at most {limit:g}{units.NBSP}{unit} {'lost' if metric.in_points else 'worse'}".replace("  ", " ")
        used = max(0.0, drop) / limit if limit else float(drop > 0)
        found.append(Limit(metric.name, allowed, units.changed(drop, metric), used, drop <= limit))
    return [*found, *_metric_limit(result, Constraints.of_json(limits))]


def _metric_limit(result: ResultJson, limits: Constraints) -> list[Limit]:
    """The limit on the metric itself; what is used of a floor is how near to it the metric has come."""
    metric, bound = Metric.of(result), limits.metric_limit
    best: Mapping[str, Any] = result.get("best", EMPTY)
    value = best.get(metric.key)
    if bound is None or value is None:
        return []
    part, whole = (bound, value) if metric.higher_is_better else (value, bound)
    used = part / whole if whole > 0 else 1.0
    met = metric.drop(bound, value) <= 0
    return [Limit(metric.name, limits.bound(metric).replace(" ", units.NBSP), units.measured(value, metric), used, met)]


def _row(
    label: str,
    form: Callable[[float | None], str],
    before: Value | None,
    after: Value | None,
    limit: float | None = None,
    part: bool = False,
) -> Row | None:
    if before is None and after is None:
        return None
    return Row(
        label,
        Cell(form(before.value), before.kind) if before else Cell(units.NOTHING),
        Cell(form(after.value), after.kind) if after else Cell(units.NOTHING),
        units.ratio(before.value if before else None, after.value if after else None),
        part=part,
        limit=f"limit {form(limit)}" if limit is not None else "",
        met=None if limit is None or after is None else after.value <= limit,
    )


def drop_of(result: ResultJson) -> float | None:
    """How much worse the result is, in points or the metric's unit."""
    return result.get("drop_points", result.get("drop"))


def _metric_row(result: ResultJson, limits: Constraints) -> Row | None:
    metric, max_drop = Metric.of(result), limits.max_drop
    reference: Mapping[str, Any] = result.get("reference", EMPTY)
    best: Mapping[str, Any] = result.get("best", EMPTY)
    n, drop = result.get("test_images"), drop_of(result)
    if reference.get(metric.key) is None and best.get(metric.key) is None:
        return None
    allowed = [
        *([] if max_drop is None else [_allowed(max_drop, metric)]),
        limits.bound(metric).replace(" ", units.NBSP),
    ]
    value = best.get(metric.key)
    met = None if drop is None or value is None else not limits.shortfalls(metric, drop, value)
    return Row(
        metric.name,
        _metric_cell(reference, metric, n),
        _metric_cell(best, metric, n),
        units.changed(drop, metric),
        note=_drop_interval(result, metric),
        limit=f"limit {', '.join(filter(None, allowed))}" if any(allowed) else "",
        met=met if any(allowed) else None,
    )


def _allowed(max_drop: float, metric: Metric) -> str:
    sign = units.MINUS if metric.higher_is_better else "+"
    return f"{sign}{max_drop:g}{units.NBSP}{'points' if metric.in_points else metric.unit}".strip(units.NBSP)


def _more_rows(reference: Mapping[str, Any], best: Mapping[str, Any]) -> list[Row]:
    """The further figures of quality, beneath the metric."""
    after = {f["name"]: f for f in best.get("also", [])}
    rows = []
    for name in dict.fromkeys([*(f["name"] for f in reference.get("also", [])), *after]):
        before = next((f for f in reference.get("also", []) if f["name"] == name), None)
        rows.append(Row(name, _figure_cell(before), _figure_cell(after.get(name)), "", part=True))
    return rows


def _figure_cell(figure: Mapping[str, Any] | None) -> Cell:
    if figure is None:
        return Cell(units.NOTHING)
    digits = 1 if figure["unit"] == "%" else 4
    return Cell(f"{figure['value']:.{digits}f}{units.NBSP}{figure['unit']}".strip(units.NBSP), Kind.MEASURED)


def _drop_interval(result: ResultJson, metric: Metric) -> str:
    interval = [v for v in result.get("drop_interval") or [] if v is not None]
    if len(interval) != 2:
        return ""
    ends = max(interval), min(interval)
    worst, best = (units.changed(v, metric) for v in (ends if metric.higher_is_better else ends[::-1]))
    unit = units.NBSP + ("points" if metric.in_points else metric.unit)
    return f"{worst.removesuffix(unit)} to {best.removesuffix(unit)}"


def _metric_cell(of: Mapping[str, Any], metric: Metric, n: int | None) -> Cell:
    value = of.get(metric.key)
    if value is None:
        return Cell(units.NOTHING)
    interval = of.get(f"{metric.key}_interval")
    if interval is None and metric.key == "accuracy" and n:
        interval = wilson_interval(value, n)
    samples = f"n{units.NBSP}={units.NBSP}{n:,}" if n else ""
    note = ", ".join(filter(None, (units.span(interval, metric), samples)))
    return Cell(units.measured(value, metric), Kind.MEASURED, note)


def _values(costs: CostsJson | None) -> dict[str, Value]:
    """The costs that have a row of the table."""
    given: Mapping[str, Any] = costs or EMPTY
    kind = given.get("kind")
    values: dict[str, Value] = {}
    for key in (spec.key for spec in COST_ROWS):
        if given.get(key) is not None:
            known = Kind(kind) if kind in set(Kind) else None
            modelled = key in MODELLED and known == Kind.EMULATED
            values[key] = Value(given[key], Kind.ESTIMATED if modelled else known)
    return values


def _with_rest(values: dict[str, Value]) -> dict[str, Value]:
    """Adds what flash holds beside code and weights."""
    parts = [values.get(k) for k in ("flash_bytes", "code_bytes", "weight_bytes")]
    flash, code, weights = parts
    if flash is None or code is None or weights is None:
        return values
    return {**values, "rest_bytes": Value(flash.value - code.value - weights.value, flash.kind)}
