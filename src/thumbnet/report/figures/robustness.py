"""Both networks under damage: one panel for each corruption, the metric against its severity."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from thumbnet.report.details import CorruptedJson
from thumbnet.report.figures.svg import Plot, hover, line, padded, polyline, tag
from thumbnet.report.units import measured
from thumbnet.results import Metric

SIDES = (("reference", "past", -1), ("result", "line0", 1))  # key, style, which way its marks move aside


def corruption_panels(points: Sequence[CorruptedJson], metric: Metric) -> list[tuple[str, Markup]]:
    """(name, figure); bars are 95 % intervals. All panels share the vertical axis and start with the clean samples."""
    clean = [p for p in points if p["corruption"] == "none"]
    names = dict.fromkeys(p["corruption"] for p in points if p["corruption"] != "none")
    ends = [v for p in points for key, _, _ in SIDES for v in (_score(p, key), *_interval(p, key))]
    return [(n, _panel(n, clean + [p for p in points if p["corruption"] == n], ends, metric)) for n in names]


def _panel(name: str, points: Sequence[CorruptedJson], ends: Sequence[float], metric: Metric) -> Markup:
    plot = Plot(width=320, height=230, left=46, right=10, top=12)
    top = max(p["severity"] for p in points) or 1.0
    x, (low, high) = plot.x(-0.05 * top, 1.05 * top), padded(ends)
    y = plot.y(low, min(high, 100.0) if metric.unit == "%" else high)
    marks = Markup()
    for key, style, aside in SIDES:
        path = [(x(p["severity"]) + 1.5 * aside, y(_score(p, key))) for p in points]
        marks += polyline(path, f"curve {style}")
        for p, (a, b) in zip(points, path, strict=True):
            own = tag("circle", cx=a, cy=b, r=3.2, class_=f"end {style}")
            interval = _interval(p, key)
            if interval:
                own = line(a, y(interval[0]), a, y(interval[1]), f"curve {style}") + own
            marks += tag("g", hover(f"{key}, {name} {p['severity']:g}: {measured(_score(p, key), metric)}"), own)
    axes = plot.y_axis(y, y.ticks(4), metric.label, lambda v: f"{v:g}")
    axes += plot.x_axis(x, [p["severity"] for p in points], "severity", lambda v: f"{v:g}")
    return plot.svg(axes, marks, label=f"{metric.name} of both networks under {name}")


def _score(point: CorruptedJson, key: str) -> float:
    return point["reference"] if key == "reference" else point["result"]


def _interval(point: CorruptedJson, key: str) -> list[float]:
    found = point["reference_interval"] if key == "reference" else point["result_interval"]
    known = [v for v in found if v is not None]
    return known if len(known) == 2 else []
