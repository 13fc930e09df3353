"""From the run's files to what the page shows. A section without data is None or empty, and is left out."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from thumbnet.report import units
from thumbnet.report.comparison import costs_after, drop_of, limits_of
from thumbnet.report.details import ArenaJson, CostsJson, DetailsJson, ResultJson, SampleJson, TrialJson
from thumbnet.report.facts import proof_verdict
from thumbnet.report.figures import (
    Curve,
    LayerPair,
    Point,
    arena_timeline,
    confusion_matrix,
    curve_of,
    curves,
    layer_bars,
    layer_dumbbells,
    layer_pairs,
    pareto,
)
from thumbnet.report.intervals import wilson_interval
from thumbnet.results import Metric

SAMPLE_BYTES = 1_200_000  # of base64 in one report
PNG = b"\x89PNG\r\n\x1a\n"
TRIAL_ROWS = 200
LOWERED = ("Flash", "Latency", "Cycles", "Energy", "Accuracy")  # limits within a sentence; the others are names


@dataclass(frozen=True)
class Answer:
    label: str
    confidence: str
    right: bool


@dataclass(frozen=True)
class Sample:
    """A test image as a data URI, its class, and what each network says."""

    uri: str
    label: str
    before: Answer | None
    after: Answer | None

    @property
    def mistaken(self) -> bool:
        return not all(a.right for a in (self.before, self.after) if a is not None)


@dataclass(frozen=True)
class LayerRow:
    pair: LayerPair
    shape_before: str
    shape_after: str
    macs: tuple[str, str]
    stored: tuple[str, str]
    instructions: str
    cycles: str
    share: str


@dataclass(frozen=True)
class Stage:
    name: str
    time: str
    note: str
    share: float  # of the longest stage


def headline(result: ResultJson, details: DetailsJson) -> str:
    """One sentence: what came out, against what was asked for."""
    verdict = proof_verdict(result, details)
    if verdict and not verdict[0]:
        return "The firmware could not be verified: its answers differ from the reference arithmetic."
    limits = limits_of(result, details)
    board = details.get("target", {}).get("title") or details.get("target", {}).get("name")
    where = f" on {board}" if board else ""
    missed = [limit.label.lower() if limit.label in LOWERED else limit.label for limit in limits if not limit.met]
    if missed:
        return f"Does not meet every limit{where}: {' and '.join(dict.fromkeys(missed))} missed."
    metric, drop = Metric.of(result), drop_of(result)
    best: Mapping[str, Any] = result.get("best", {})
    parts = []
    if best.get(metric.key) is not None:
        change = "" if drop is None else f" ({units.changed(drop, metric)} against the reference)"
        said = units.measured(best[metric.key], metric)
        parts.append(f"{said} accuracy{change}" if metric.key == "accuracy" else f"{metric.name} {said}{change}")
    costs = costs_after(result, details)
    for name, key in (("flash", "flash_bytes"), ("RAM", "ram_bytes")):
        if key in costs:
            parts.append(f"{units.size(costs[key].value)} {name}")
    fits = "Meets every limit" if limits else "Result"
    return f"{fits}{where}: {', '.join(parts)}." if parts else f"{fits}{where}."


def pareto_figures(result: ResultJson, details: DetailsJson) -> list[tuple[str, Markup]]:
    """(cost, figure) for flash and RAM."""
    trials = [t for t in details.get("trials", []) if t.get("costs")]
    if not trials:
        return []
    validation, limits = details.get("validation", {}), details.get("limits", {})
    reference, label = validation.get("reference"), "reference"
    metric = Metric.of(result)
    if reference is None:
        before: Mapping[str, Any] = result.get("reference", {})
        reference, label = before.get(metric.key), "reference (test images)"
    figures = []
    for cost, key, limit in (
        ("flash", "flash_bytes", limits.get("flash_bytes")),
        ("RAM", "ram_bytes", limits.get("ram_bytes")),
    ):
        points = [_point(t, key, validation.get("best_trial"), metric) for t in trials]
        figure = pareto(points, cost=cost, limit=limit, reference=reference, reference_label=label, metric=metric)
        figures.append((cost, figure))
    return figures


def _score(trial: Mapping[str, Any], metric: Metric) -> float | None:
    value = trial.get(metric.key)
    return None if value is None else float(value)


def _point(trial: TrialJson, key: str, chosen: str | None, metric: Metric) -> Point:
    costs: Mapping[str, Any] = trial.get("costs") or {}
    accuracy = _score(trial, metric)
    said = f"{trial.get('id', '')}: {'never scored' if accuracy is None else units.measured(accuracy, metric)}, "
    said += f"flash {units.size(costs.get('flash_bytes'))}, RAM {units.size(costs.get('ram_bytes'))}"
    if trial.get("reason"):
        said += f" ({trial['reason']})"
    feasible = trial.get("state") == "feasible"
    return Point(costs.get(key, 0), accuracy, feasible, said, bool(chosen) and trial.get("id") == chosen)


def _interval(value: float | None, metric: Metric, samples: int | None) -> str:
    """Of an accuracy on validation; "" for other metrics, whose interval the score alone does not tell."""
    if value is None or metric.key != "accuracy" or not samples:
        return ""
    return units.span(wilson_interval(value, samples), metric)


def trial_rows(details: DetailsJson, metric: Metric) -> list[dict[str, str]]:
    """The trials as a table, best first."""
    sign = -1.0 if metric.higher_is_better else 1.0

    def rank(trial: TrialJson) -> tuple[int, float, str]:
        score = _score(trial, metric)
        return -trial.get("rung", 0), math.inf if score is None else sign * score, trial.get("id", "")

    rows = []
    for trial in sorted(details.get("trials", []), key=rank)[:TRIAL_ROWS]:
        costs: CostsJson = trial.get("costs") or {}
        rows.append(
            {
                "id": trial.get("id", ""),
                "state": trial.get("state", ""),
                "reason": trial.get("reason", ""),
                "rung": str(trial.get("rung", 0)),
                "score": units.measured(_score(trial, metric), metric),
                "interval": _interval(_score(trial, metric), metric, details.get("data", {}).get("val")),
                "flash": units.size(costs.get("flash_bytes")),
                "ram": units.size(costs.get("ram_bytes")),
                "macs": units.count(costs.get("macs")),
            }
        )
    return rows


def finalist_rows(details: DetailsJson, metric: Metric) -> list[dict[str, str]]:
    """The networks trained to the end, the chosen one first."""
    chosen = details.get("validation", {}).get("best_trial")
    found = sorted(details.get("finalists", []), key=lambda f: f["id"] != chosen)
    return [
        {
            "id": f["id"],
            "score": units.measured(f["score"], metric),
            "interval": units.span(f["interval"], metric),
            "flash": units.size(f["flash_bytes"]),
            "ram": units.size(f["ram_bytes"]),
            "chosen": "chosen" if f["id"] == chosen else "",
        }
        for f in found
    ]


@dataclass(frozen=True)
class Layers:
    macs: Markup
    stored: Markup
    cycles: Markup
    cycles_label: str
    rows: list[LayerRow]


def layers_of(details: DetailsJson) -> Layers | None:
    costs = details.get("best_costs")
    after = details.get("best_layers") or (costs.get("layers", []) if costs else [])
    before = details.get("reference_layers", [])
    if not after:
        return None
    pairs = layer_pairs(before, after)
    key = "cycles" if any(layer.get("cycles") for layer in after) else "instructions"
    total = sum(_number(layer, key) for layer in after)
    return Layers(
        macs=layer_dumbbells(pairs, lambda p: p.macs, label="MACs", form=units.count) if before else Markup(),
        stored=layer_dumbbells(pairs, lambda p: p.stored_bytes, label="stored, KB", form=units.size, per=1024)
        if before
        else Markup(),
        cycles=layer_bars(pairs, lambda layer: _number(layer, key), label=key, form=units.count),
        cycles_label=key,
        rows=[_layer_row(p, key, total) for p in pairs],
    )


def _number(layer: Mapping[str, Any] | None, key: str) -> int:
    return int((layer or {}).get(key) or 0)


def _layer_row(pair: LayerPair, key: str, total: int) -> LayerRow:
    before, after = pair.before, pair.after
    cost = _number(after, key)
    return LayerRow(
        pair,
        _shape(before.get("output_shape") if before else None, channels_first=True),
        _shape(after.get("output_shape") if after else None, channels_first=False),
        (units.count(pair.macs[0]) if before else "", units.count(pair.macs[1]) if after else ""),
        (
            units.size(pair.stored_bytes[0]) if before else "",
            units.size(pair.stored_bytes[1]) if after else "",
        ),
        units.count(after.get("instructions")) if after else "",
        units.count(after.get("cycles")) if after else "",
        f"{100 * cost / total:.1f}{units.NBSP}%" if after and total else "",
    )


def _shape(shape: Sequence[int] | None, *, channels_first: bool) -> str:
    """Height × width × channels for both networks, so that they can be compared."""
    if not shape:
        return ""
    if channels_first and len(shape) == 3:
        shape = (*shape[1:], shape[0])
    return "×".join(str(d) for d in shape)


def arena_of(arena: ArenaJson | None, details: DetailsJson) -> Markup:
    if not arena or not arena.get("buffers") or not arena.get("steps"):
        return Markup()
    limit, costs = details.get("limits", {}).get("ram_bytes"), details.get("best_costs")
    room = None
    if limit is not None and costs:
        room = limit - costs.get("static_bytes", 0) - costs.get("stack_bytes", 0)
    total = arena.get("arena_bytes") or max(b["offset"] + b["bytes"] for b in arena["buffers"])
    return arena_timeline(arena["buffers"], arena["steps"], arena_bytes=total, limit=room)


@dataclass(frozen=True)
class Training:
    loss: Markup
    score: Markup
    names: list[str]
    halving: Markup


def training_of(details: DetailsJson, metric: Metric) -> Training | None:
    items = details.get("curves", [])
    losses = [curve_of(c["name"], c["points"], "loss") for c in items]
    scores = [curve_of(c["name"], c["points"], metric.key) for c in items]
    training = Training(
        curves(losses, label="loss"),
        curves(scores, label=metric.label),
        [c["name"] for c in items],
        _halving(details, metric),
    )
    return training if training.loss or training.score or training.halving else None


def _halving(details: DetailsJson, metric: Metric) -> Markup:
    """The metric on validation of the trials over the rungs; the chosen one stands out."""
    chosen = details.get("validation", {}).get("best_trial")
    trials = [t for t in details.get("trials", []) if len(t.get("curve", [])) > 1]
    if len(trials) < 2:
        return Markup()
    ordered = sorted(trials, key=lambda t: t.get("id") == chosen)  # the chosen one last, on top
    lines: list[Curve] = []
    for trial in ordered:
        style = "line0" if trial.get("id") == chosen else "faint"
        lines.append(curve_of(str(trial.get("id", "")), trial["curve"], metric.key, style=style))
    return curves(lines, label=f"validation {metric.label}", x_label="training step")


def confusion_of(details: DetailsJson) -> list[tuple[str, Markup]]:
    confusion, classes = details.get("confusion", {}), details.get("classes", [])
    named = (("Reference", confusion.get("reference")), ("Result (int8)", confusion.get("best")))
    drawn = [(name, confusion_matrix(counts, classes)) for name, counts in named if counts]
    return [(name, figure) for name, figure in drawn if figure]


def samples_of(details: DetailsJson) -> list[Sample]:
    """Samples in the given order, as many as fit into the report."""
    classes = details.get("classes", [])
    room = SAMPLE_BYTES
    found: list[Sample] = []
    for sample in details.get("samples", []):
        encoded = sample.get("png", "")
        if not _is_png(encoded) or len(encoded) > room:
            continue
        room -= len(encoded)
        label = sample.get("label", -1)
        before, after = (_answer(sample, which, label, classes) for which in ("reference", "best"))
        found.append(Sample(f"data:image/png;base64,{encoded}", _class(label, classes), before, after))
    return found


def _is_png(encoded: str) -> bool:
    try:
        return base64.b64decode(encoded, validate=True).startswith(PNG)
    except (binascii.Error, ValueError):
        return False


def _answer(sample: SampleJson, which: str, label: int, classes: Sequence[str]) -> Answer | None:
    answer = sample.get("reference") if which == "reference" else sample.get("best")
    if not answer or "label" not in answer:
        return None
    confidence = answer.get("confidence")
    said = "" if confidence is None else f"{confidence:.0f}{units.NBSP}%"
    return Answer(_class(answer["label"], classes), said, answer["label"] == label)


def _class(label: int, classes: Sequence[str]) -> str:
    return classes[label] if 0 <= label < len(classes) else f"class {label}"


def story_of(details: DetailsJson) -> list[Stage]:
    stages = details.get("story", [])
    longest = max((s.get("seconds", 0.0) for s in stages), default=0.0) or 1.0
    return [
        Stage(
            s.get("stage", ""),
            units.duration(s.get("seconds")),
            s.get("note", ""),
            s.get("seconds", 0.0) / longest,
        )
        for s in stages
    ]
