"""Numbers as people read them. KB = 1024 bytes, MB = 1024 KB; M and k count in thousands."""

from __future__ import annotations

from collections.abc import Sequence

from thumbnet.results import Metric

NBSP = "\N{NO-BREAK SPACE}"
NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def size(value: float | None) -> str:
    """Bytes: `245.2 KB`, `3.21 MB`, `704 B`; whole numbers without decimals, `256 KB`."""
    if value is None:
        return NOTHING
    if value < 1024:
        return f"{value:.0f}{NBSP}B"
    if value < 1024 * 1024:
        return f"{value / 1024:.{0 if value % 1024 == 0 else 1}f}{NBSP}KB"
    return f"{value / 1024 / 1024:.{0 if value % (1024 * 1024) == 0 else 2}f}{NBSP}MB"


def count(value: float | None) -> str:
    """Three or four digits and a magnitude: `385.2 M`, `12.3 k`, `87`."""
    if value is None:
        return NOTHING
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            scaled = value / factor
            return f"{scaled:.{1 if abs(scaled) >= 100 else 2}f}{NBSP}{letter}"
    return f"{value:.0f}"


def short(value: float) -> str:
    """A round number for an axis: `10 M`, `500 k`, `0.2`."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:g}{NBSP}{letter}"
    return f"{value:g}"


def exact(value: float | None) -> str:
    """All digits, in groups: `1,234,567`."""
    return NOTHING if value is None else f"{value:,.0f}"


def percent(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f}{NBSP}%"


def milliseconds(value: float | None) -> str:
    if value is None:
        return NOTHING
    if value >= 10_000:
        return f"{value / 1000:.1f}{NBSP}s"
    return f"{value:.{0 if value >= 1000 else 1 if value >= 10 else 2}f}{NBSP}ms"


def millijoules(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3g}{NBSP}mJ"


def points(value: float | None) -> str:
    """Accuracy lost, as a change: 1.3 points lost read `−1.3 points`."""
    if value is None:
        return NOTHING
    change = 0.0 - round(value, 1)
    sign = "+" if change > 0 else MINUS if change < 0 else "±"
    return f"{sign}{abs(change):.1f}{NBSP}points"


def measured(value: float | None, metric: Metric) -> str:
    """A metric with its unit: `84.1 %`, `0.0213 mm`."""
    return NOTHING if value is None else metric.text(value).replace(" ", NBSP)


def span(interval: Sequence[float | None] | None, metric: Metric) -> str:
    """An interval without its unit; "" where it is not known."""
    if not interval or interval[0] is None or interval[1] is None:
        return ""
    return f"{interval[0]:.{metric.digits}f} to {interval[1]:.{metric.digits}f}"


def changed(drop: float | None, metric: Metric) -> str:
    """How the metric changed where it got worse by `drop`: `−1.3 points`, `+0.0021 mm`."""
    if drop is None or (metric.in_points and metric.higher_is_better):
        return points(drop)
    digits = 1 if metric.in_points else metric.digits
    change = round(-drop if metric.higher_is_better else drop, digits) or 0.0
    sign = "+" if change > 0 else MINUS if change < 0 else "±"
    unit = "points" if metric.in_points else metric.unit
    return f"{sign}{abs(change):.{digits}f}{NBSP}{unit}".strip(NBSP)


def duration(seconds: float | None) -> str:
    if seconds is None:
        return NOTHING
    if seconds < 60:
        return f"{seconds:.1f}{NBSP}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{NBSP}min {rest}{NBSP}s"
    return f"{minutes // 60}{NBSP}h {minutes % 60}{NBSP}min"


def ratio(before: float | None, after: float | None) -> str:
    """How many times smaller: `÷ 12.3`; `× 1.1` where it grew."""
    if not before or not after:
        return NOTHING
    if before == after:
        return "="
    if after > before:
        return f"×{NBSP}{after / before:.2f}"
    factor = before / after
    return f"÷{NBSP}{factor:.{0 if factor >= 100 else 1 if factor >= 10 else 2}f}"


def frequency(hertz: float | None) -> str:
    return NOTHING if hertz is None else f"{hertz / 1e6:g}{NBSP}MHz"
