"""Accuracy against flash, one line for each method, as an SVG file that stands alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headline_results import BASELINES, rows
from markupsafe import Markup

from thumbnet.report.figures.svg import Plot, hover, line, padded, polyline, tag, text

LABELS = {
    "thumbnet": "Thumbnet",
    "uniform": "uniform width",
    "pruning": "magnitude pruning",
    "grid": "tuned width, resolution",
}
COLOURS = {"thumbnet": "#0b6e4f", "uniform": "#c8553d", "pruning": "#6d597a", "grid": "#3d6fb6"}
STYLE = """
svg { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; background: #fff; }
text { fill: #222; } .label, .muted { fill: #666; }
.axis { stroke: #222; } .grid { stroke: #e4e4e4; }
.reference { stroke: #666; stroke-width: 1.3; stroke-dasharray: 2 3; }
polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round; } .bar { stroke-width: 1.2; stroke-opacity: .55; }
""" + "\n".join(f".by-{m} {{ stroke: {c}; fill: {c}; }} polyline.by-{m} {{ fill: none; }}" for m, c in COLOURS.items())


def accuracy_against_flash(data: Mapping[str, Any], title: str) -> str:
    """Means over seeds with their 95 % intervals over images; the reference is dashed. "" for no points."""
    every = rows(data)
    shown = [r for r in every if r["method"] in ("thumbnet", *BASELINES) and "accuracy" in r]
    if not shown:
        return ""
    reference = next((r["accuracy"] for r in every if r["method"] == "reference"), None)
    plot = Plot(width=640, height=360, right=176)
    flash = [r["flash"] / 1024 for r in shown]
    ends = [v for r in shown for v in (r["accuracy_low"], r["accuracy_high"])] + ([reference] if reference else [])
    low, high = padded(ends)
    x, y = plot.x(min(flash) / 1.2, max(flash) * 1.2, log=True), plot.y(max(0.0, low), min(100.0, high))
    ticks = sorted({float(r["kb"]) for r in shown})
    marks = Markup()
    legend: list[tuple[str, str]] = []
    if reference is not None:
        marks += line(plot.left, y(reference), plot.width - plot.right, y(reference), "reference")
        legend.append(("reference", f"reference, {reference:.1f} %"))
    for method in (m for m in LABELS if any(r["method"] == m for r in shown)):
        own = sorted((r for r in shown if r["method"] == method), key=lambda r: r["flash"])
        marks += polyline([(x(r["flash"] / 1024), y(r["accuracy"])) for r in own], f"by-{method}")
        for r in own:
            at, said = x(r["flash"] / 1024), f"{LABELS[method]}: {r['accuracy']:.2f} % in {r['flash'] / 1024:.1f} KB"
            marks += line(at, y(r["accuracy_low"]), at, y(r["accuracy_high"]), f"bar by-{method}")
            marks += tag("circle", hover(said), cx=at, cy=y(r["accuracy"]), r=4, class_=f"by-{method}")
        legend.append((f"by-{method}", LABELS[method]))
    for position, (class_, label) in enumerate(legend):
        down = plot.top + 12 + 20 * position
        marks += line(plot.width - 164, down - 4, plot.width - 144, down - 4, class_)
        marks += text(plot.width - 138, down, label)
    axes = plot.y_axis(y, y.ticks(6), "test accuracy of the integer network, %", lambda v: f"{v:g}")
    axes += plot.x_axis(x, ticks, "flash, KB (everything linked)", lambda v: f"{v:g}")
    drawn = plot.svg(tag("style", Markup(STYLE)), axes, marks, label=f"Accuracy against flash: {title}")
    return str(drawn).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + "\n"
