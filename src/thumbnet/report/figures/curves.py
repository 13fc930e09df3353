"""Training curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from thumbnet.report.figures.svg import Plot, hover, padded, polyline, tag

COLOURS = 6  # style classes line0…line5, then again


@dataclass(frozen=True)
class Curve:
    """(step, value) in order; `style` is a class of the style sheet, empty for the next colour."""

    name: str
    points: tuple[tuple[float, float], ...]
    style: str = ""


def curve_of(name: str, points: Sequence[dict[str, float]], key: str, *, style: str = "") -> Curve:
    """The points that have a finite `key`."""
    pairs = [(p["step"], p[key]) for p in points if p.get(key) is not None and "step" in p]
    return Curve(name, tuple((s, v) for s, v in pairs if math.isfinite(v)), style)


def curves(items: Sequence[Curve], *, label: str, x_label: str = "step") -> Markup:
    """Values against steps, one line each; a single point is drawn as a dot. The legend is the page's."""
    drawn = [c for c in items if c.points]
    if not drawn:
        return Markup()
    plot = Plot(height=280)
    steps = [s for c in drawn for s, _ in c.points]
    values = [v for c in drawn for _, v in c.points]
    x = plot.x(min(0.0, *steps), max(*steps, 1.0))
    y = plot.y(*padded(values, floor=0.0 if min(values) >= 0 else None))
    marks = Markup()
    for index, curve in enumerate(items):
        style = curve.style or f"line{index % COLOURS}"
        path = [(x(s), y(v)) for s, v in curve.points]
        said = hover(f"{curve.name}: {curve.points[-1][1]:.4g} at step {curve.points[-1][0]:.0f}") if path else ""
        marks += polyline(path, f"curve {style}") if len(path) > 1 else Markup()
        dots = path if len(path) <= 6 else path[-1:]
        marks += Markup("").join(tag("circle", said, cx=a, cy=b, r=3, class_=f"end {style}") for a, b in dots)
    axes = plot.y_axis(y, y.ticks(5), label, lambda v: f"{v:g}") + plot.x_axis(
        x, x.ticks(6), x_label, lambda v: f"{v:g}"
    )
    return plot.svg(axes, marks, label=f"{label} during training")
