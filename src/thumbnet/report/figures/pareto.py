"""Accuracy, or another metric, against a cost: every candidate, the front, the limit, the reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from thumbnet.report.figures.svg import Plot, Scale, hover, line, number, padded, polyline, tag, text
from thumbnet.report.units import measured, size
from thumbnet.results import Metric

ACCURACY = Metric("accuracy", "Accuracy")
LOG_FROM = 12  # ratio of costs from which the axis turns logarithmic


@dataclass(frozen=True)
class Point:
    """A candidate: `bytes` of flash or RAM, its metric (None: never scored), and its tooltip."""

    bytes: int
    accuracy: float | None
    feasible: bool
    title: str
    chosen: bool = False


def front(points: Sequence[Point], higher_is_better: bool = True) -> list[Point]:
    """The feasible points that no other feasible point beats in both respects, cheapest first."""
    kept: list[Point] = []
    best = math.inf
    sign = -1 if higher_is_better else 1
    scored = [(p.bytes, sign * p.accuracy, p) for p in points if p.feasible and p.accuracy is not None]
    for _, score, point in sorted(scored, key=lambda s: s[:2]):
        if score < best:
            kept.append(point)
            best = score
    return kept


def pareto(
    points: Sequence[Point],
    *,
    cost: str,
    limit: int | None,
    reference: float | None,
    reference_label: str = "reference",
    metric: Metric = ACCURACY,
) -> Markup:
    """Scatter of the metric (up) against `cost` ("flash" or "RAM", in KB, right)."""
    plot = Plot()
    x, y = _scales(plot, points, limit, reference, metric)
    ordered = sorted(points, key=lambda p: (p.feasible, p.chosen))
    return plot.svg(
        plot.y_axis(y, y.ticks(5), _axis(metric), lambda v: f"{v:g}"),
        plot.x_axis(x, x.ticks(6), f"{cost}, KB", lambda v: f"{v:g}"),
        _limit(plot, x, limit),
        _reference(plot, y, reference, reference_label, metric),
        polyline(_stairs(front(points, metric.higher_is_better), x, y), "front"),
        *[_mark(p, x, y, plot) for p in ordered],
        label=f"{metric.name} against {cost} of {len(points)} candidates",
    )


def _axis(metric: Metric) -> str:
    if metric.key == "accuracy":
        return "accuracy on validation images, %"
    return f"{metric.name} on validation samples" + (f", {metric.unit}" if metric.unit else "")


def _scales(
    plot: Plot, points: Sequence[Point], limit: int | None, reference: float | None, metric: Metric
) -> tuple[Scale, Scale]:
    costs = [p.bytes / 1024 for p in points if p.bytes > 0] + ([limit / 1024] if limit else [])
    costs = costs or [1.0]
    log = max(costs) / min(costs) > LOG_FROM
    low, high = (min(costs) / 1.15, max(costs) * 1.15) if log else padded(costs, floor=0.0)
    accuracies = [p.accuracy for p in points if p.accuracy is not None]
    accuracies += [] if reference is None else [reference]
    floor = 0.0 if all(v >= 0 for v in accuracies) else None
    bottom, top = padded(accuracies or [0.0, 100.0], 0.1, floor=floor)
    ends = metric.in_points and top > bottom and max(accuracies, default=0.0) <= 100.0
    return plot.x(low, high, log=log), plot.y(bottom, min(top, 100.0) if ends else top)


def _limit(plot: Plot, x: Scale, limit: int | None) -> Markup:
    if limit is None:
        return Markup()
    at = x(limit / 1024)
    base = plot.height - plot.bottom
    shade = tag(
        "rect",
        x=at,
        y=plot.top,
        width=max(0, plot.width - plot.right - at),
        height=base - plot.top,
        class_="beyond",
    )
    label = f"limit {size(limit)}"
    return (
        shade + line(at, plot.top, at, base, "limit") + text(at - 5, plot.top + 12, label, anchor="end", class_="warn")
    )


def _reference(plot: Plot, y: Scale, accuracy: float | None, label: str, metric: Metric) -> Markup:
    if accuracy is None:
        return Markup()
    words = f"{label} {measured(accuracy, metric)}"
    return line(plot.left, y(accuracy), plot.width - plot.right, y(accuracy), "reference") + text(
        plot.left + 6, y(accuracy) - 6, words, class_="muted"
    )


def _stairs(points: Sequence[Point], x: Scale, y: Scale) -> list[tuple[float, float]]:
    """The front as steps: between two points the cheaper one's accuracy is what can be had."""
    path: list[tuple[float, float]] = []
    for point in points:
        here = (x(point.bytes / 1024), y(point.accuracy or 0.0))
        if path:
            path.append((here[0], path[-1][1]))
        path.append(here)
    return path


def _mark(point: Point, x: Scale, y: Scale, plot: Plot) -> Markup:
    at = x(max(point.bytes, 1) / 1024)
    if point.accuracy is None:  # never scored: a tick on the axis
        base = plot.height - plot.bottom
        return tag("path", hover(point.title), d=f"M{number(at)} {number(base)}v-7", class_="rug")
    up = y(point.accuracy)
    if point.chosen:
        ring = tag("circle", cx=at, cy=up, r=9, class_="halo")
        return ring + tag("circle", hover(point.title), cx=at, cy=up, r=5, class_="dot chosen")
    return tag(
        "circle",
        hover(point.title),
        cx=at,
        cy=up,
        r=4,
        class_="dot feasible" if point.feasible else "dot out",
    )
