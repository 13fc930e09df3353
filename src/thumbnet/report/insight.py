"""Two sections of the page: why this network, and how both networks bear noise, blur and other light."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from thumbnet.report import units
from thumbnet.report.details import CorruptedJson, DetailsJson, ResultJson
from thumbnet.report.figures import corruption_panels, group_chart
from thumbnet.report.intervals import wilson_interval
from thumbnet.results import Metric

MOVE_TEXT = 90  # characters of a move's text in the table; the whole is its tooltip
NAMES = {"flash_bytes": "flash", "ram_bytes": "RAM", "latency_ms": "latency", "macs": "MACs"}


@dataclass(frozen=True)
class MoveRow:
    """What a change did alone, and what the network would be without it."""

    text: str
    whole: str  # "" where `text` is all of it
    flash: str
    ram: str
    macs: str
    instructions: str
    score: str
    interval: str
    without: str
    verdict: str
    fits: bool | None


@dataclass(frozen=True)
class Why:
    chart: Markup
    groups: list[dict[str, str]]
    blocks: list[dict[str, str]]
    start: str  # the metric of the reference, treated as the moves are
    moves: list[MoveRow]
    kinds: list[dict[str, str]]


@dataclass(frozen=True)
class Robustness:
    sentence: str
    more: str
    panels: list[tuple[str, Markup]]
    rows: list[dict[str, str]]
    samples: str


def why_of(details: DetailsJson, metric: Metric) -> Why | None:
    """None where the run keeps no insight."""
    insight = details.get("insight")
    if not insight:
        return None
    groups = insight.get("groups", [])
    n = details.get("data", {}).get("val")
    start: Mapping[str, Any] = insight.get("reference", {})
    return Why(
        chart=group_chart(groups),
        groups=[
            {
                "number": str(k),
                "name": g["group"],
                "per_channel": f"{g['per_channel']:.2g}",
                "share": f"{g['share']:.1f}{units.NBSP}%",
                "width": f"{g['before']} → {g['after'] or 'gone'}",
                "kept": f"{g['kept']:.0f}{units.NBSP}%",
            }
            for k, g in enumerate(groups, 1)
        ],
        blocks=[
            {"name": b["block"], "change": f"±{b['loss_change']:.3g}", "stays": "stays" if b["stays"] else "left out"}
            for b in insight.get("blocks", [])
        ],
        start=_with_interval(start.get("score"), metric, insight.get("samples")),
        moves=[_move_row(m, start, details.get("limits", {}), metric) for m in insight.get("moves", [])],
        kinds=[
            {
                "kind": k["kind"],
                "rung": str(k["rung"]),
                "with": f"{_with_interval(k['with'], metric, n)} of {k['with_count']}",
                "without": f"{_with_interval(k['without'], metric, n)} of {k['without_count']}",
            }
            for k in insight.get("kinds", [])
        ],
    )


def _move_row(move: Mapping[str, Any], start: Mapping[str, Any], limits: Mapping[str, Any], metric: Metric) -> MoveRow:
    alone, without = move.get("alone"), move.get("without")
    text = str(move["move"])
    short = text if len(text) <= MOVE_TEXT else re.sub(r"[,;][^,;]*$", "", text[:MOVE_TEXT]) + ", …"
    cost = {
        k: units.ratio(start.get(k), (alone or {}).get(k)) for k in ("flash_bytes", "ram_bytes", "macs", "instructions")
    }
    needs, verdict, fits = units.NOTHING, "", None
    if without:
        needs = f"{units.size(without['flash_bytes'])} flash, {units.size(without['ram_bytes'])} RAM"
        if limits.get("latency_ms") is not None:
            needs += f", {units.milliseconds(without['latency_ms'])}"
        over = [NAMES.get(k, k) for k in without["violations"]]
        fits, verdict = not over, f"too much {' and '.join(over)}" if over else "would fit"
    ends = [v for v in (alone or {}).get("drop_interval", []) if v is not None]
    told: list[str] = []
    if len(ends) == 2:
        worst, best = (units.changed(v, metric) for v in (max(ends), min(ends)))
        told = [worst.removesuffix(f"{units.NBSP}points"), best.removesuffix(f"{units.NBSP}points")]
    return MoveRow(
        text=short,
        whole=text if short != text else "",
        flash=cost["flash_bytes"],
        ram=cost["ram_bytes"],
        macs=cost["macs"],
        instructions=cost["instructions"],
        score=units.changed(alone["drop"], metric) if alone else units.NOTHING,
        interval=" to ".join(told),
        without=needs,
        verdict=verdict,
        fits=fits,
    )


def _with_interval(value: float | None, metric: Metric, n: int | None) -> str:
    said = units.measured(value, metric)
    if value is None or metric.key != "accuracy" or not n:
        return said
    return f"{said} ({units.span(wilson_interval(value, n), metric)})"


def robustness_of(result: ResultJson, metric: Metric) -> Robustness | None:
    """None where the run has not measured it."""
    found = result.get("robustness")
    if not found or len(found.get("points", [])) < 2:
        return None
    points, mean = found["points"], found["mean"]
    count = f"{found['samples']:,}" + (f" of {found['of']:,}" if found["of"] != found["samples"] else "")
    return Robustness(
        sentence=robustness_sentence(found, metric),
        more=_more(mean, metric),
        panels=corruption_panels(points, metric),
        rows=[_corrupted_row(p, metric) for p in points],
        samples=f"{count} test {metric.samples}",
    )


def robustness_sentence(found: Mapping[str, Any], metric: Metric) -> str:
    """The mean over all corruptions, for the page and the terminal."""
    clean, mean = found["points"][0], found["mean"]
    names = dict.fromkeys(p["corruption"] for p in found["points"][1:])
    light = {"brighter", "darker"}
    kinds = [n for n in names if n not in light] + (["other light"] if light & set(names) else [])
    under = " and ".join(filter(None, (", ".join(kinds[:-1]), kinds[-1])))
    change = {k: f"{clean[k]:.{metric.digits}f} → {units.measured(mean[k], metric)}" for k in ("reference", "result")}
    return f"Under {under}, on average: reference {change['reference']}, result {change['result']}."


def _more(mean: Mapping[str, Any], metric: Metric) -> str:
    lost, interval = mean["more_lost"], mean["more_lost_interval"]
    less = "more" if lost >= 0 else "less"
    said = f"The result loses {metric.amount(abs(lost), metric.digits)} {less} than the reference to them"
    if None in interval:
        return said + "."
    low, high = interval
    sure = "" if low > 0 or high < 0 else ": no difference that these samples could tell"
    return f"{said} (95 % interval of how much more: {_number(low, metric)} to {_number(high, metric)}){sure}."


def _number(value: float, metric: Metric) -> str:
    return f"{value:.{metric.digits}f}".replace("-", units.MINUS)


def _corrupted_row(point: CorruptedJson, metric: Metric) -> dict[str, str]:
    low, high = point["drop_interval"]
    ends = "" if low is None or high is None else f"{_number(low, metric)} to {_number(high, metric)}"
    clean = point["corruption"] == "none"
    return {
        "name": "clean" if clean else point["corruption"],
        "severity": "" if clean else f"{point['severity']:g} {point['unit']}",
        "reference": units.measured(point["reference"], metric),
        "reference_interval": units.span(point["reference_interval"], metric),
        "result": units.measured(point["result"], metric),
        "result_interval": units.span(point["result_interval"], metric),
        "change": units.changed(point["drop"], metric),
        "drop_interval": f"worse by {ends}" if ends else "",
    }
