"""Just enough SVG: escaped elements, scales, ticks, axes. Colours and fonts are the page's style sheet's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Attribute = str | float | int | None
Format = Callable[[float], str]


def number(value: float) -> str:
    """Shortest decimal with at most two places, so that equal figures give equal bytes."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def tag(name: str, *children: str | Markup, **attributes: Attribute) -> Markup:
    """`tag("rect", x=1, stroke_width=2, class_="bar")`; plain text and attribute values are escaped."""
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is not None:
            text = value if isinstance(value, str) else number(value)
            parts.append(f' {key.rstrip("_").replace("_", "-")}="{escape(text)}"')
    if not children:
        return Markup("".join(parts) + "/>")
    return Markup("".join(parts) + ">" + "".join(str(escape(c)) for c in children) + f"</{name}>")


def text(x: float, y: float, content: str, *, anchor: str = "start", class_: str = "", rotate: float = 0) -> Markup:
    turn = f"rotate({number(rotate)} {number(x)} {number(y)})" if rotate else None
    return tag("text", content, x=x, y=y, text_anchor=anchor, class_=class_ or None, transform=turn)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def hover(content: str) -> Markup:
    """The tooltip of the element that it is a child of."""
    return tag("title", content)


def polyline(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    return tag("polyline", points=" ".join(f"{number(x)},{number(y)}" for x, y in points), class_=class_)


@dataclass(frozen=True)
class Scale:
    """Maps `low..high` to `start..end` (pixels), linearly or by logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, low / 10))
        share = 0.5 if high == low else (value - low) / (high - low)
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        return log_ticks(self.low, self.high, count) if self.log else linear_ticks(self.low, self.high, count)


def linear_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round values (1, 2, 5 × 10^k) within the range."""
    raw = (high - low) / max(count, 1)
    if not raw > 1e-300:  # no range, or one whose steps a float cannot tell
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float, count: int) -> list[float]:
    """Powers of ten, with 2 and 5 between them while there are few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [f * 10.0**d for d in decades for f in factors if low <= f * 10.0**d <= high]
        if len(ticks) <= count + 2:
            break
    if len(ticks) < 2:  # less than a decade between two marks
        return linear_ticks(low, high, count)
    every = math.ceil(len(ticks) / (count + 2))
    return ticks[::every]


def padded(values: Sequence[float], share: float = 0.06, *, floor: float | None = None) -> tuple[float, float]:
    """A range around the values with some air; never below `floor`."""
    low, high = min(values), max(values)
    air = (high - low) * share or abs(high) * share or 1.0
    return (low - air if floor is None else max(floor, low - air)), high + air


@dataclass(frozen=True)
class Plot:
    """A plot area inside a figure of `width` × `height`; `top` etc. are the margins."""

    width: float = 480
    height: float = 320
    left: float = 52
    right: float = 16
    top: float = 16
    bottom: float = 44

    def x(self, low: float, high: float, *, log: bool = False) -> Scale:
        return Scale(low, high, self.left, self.width - self.right, log)

    def y(self, low: float, high: float, *, log: bool = False) -> Scale:
        return Scale(low, high, self.height - self.bottom, self.top, log)

    def x_axis(self, scale: Scale, ticks: Sequence[float], label: str, form: Format) -> Markup:
        base = self.height - self.bottom
        marks = [
            line(scale(t), base, scale(t), base + 4, "axis") + text(scale(t), base + 17, form(t), anchor="middle")
            for t in ticks
        ]
        middle = (scale.start + scale.end) / 2
        axis = line(self.left, base, self.width - self.right, base, "axis")
        return axis + Markup("").join(marks) + text(middle, self.height - 6, label, anchor="middle", class_="label")

    def y_axis(self, scale: Scale, ticks: Sequence[float], label: str, form: Format) -> Markup:
        marks = [
            line(self.left, scale(t), self.width - self.right, scale(t), "grid")
            + text(self.left - 6, scale(t) + 4, form(t), anchor="end")
            for t in ticks
        ]
        middle = (self.top + self.height - self.bottom) / 2
        return Markup("").join(marks) + text(13, middle, label, anchor="middle", class_="label", rotate=-90)

    def svg(self, *children: Markup, label: str, class_: str = "") -> Markup:
        """The whole figure; `label` is what a screen reader says."""
        return tag(
            "svg",
            *children,
            viewBox=f"0 0 {number(self.width)} {number(self.height)}",
            role="img",
            aria_label=label,
            class_=class_ or None,
        )
