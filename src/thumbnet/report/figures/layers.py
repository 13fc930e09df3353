"""Layer by layer: the reference beside the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from thumbnet.report.details import LayerCostJson, ReferenceLayerJson
from thumbnet.report.figures.svg import Plot, Scale, hover, line, number, tag
from thumbnet.report.units import short

OPS = {"conv2d": "conv", "depthwise_conv2d": "depthwise", "dense": "dense"}  # style class; others "other"


@dataclass(frozen=True)
class LayerPair:
    """A layer of the reference, of the result, or the same one in both; `number` counts from 1."""

    number: int
    name: str
    before: ReferenceLayerJson | None
    after: LayerCostJson | None

    @property
    def op(self) -> str:
        found = self.after or self.before
        return str(found.get("op", "")) if found else ""

    @property
    def kind(self) -> str:
        return OPS.get(self.op, "other")

    @property
    def macs(self) -> tuple[int, int]:
        return (self.before or {}).get("macs", 0), (self.after or {}).get("macs", 0)

    @property
    def stored_bytes(self) -> tuple[int, int]:
        """Before: float32 values. After: int8 weights and what requantization and tables need."""
        after = self.after or {}
        stored = after.get("weight_bytes", 0) + after.get("parameter_bytes", 0)
        return 4 * (self.before or {}).get("parameters", 0), stored


def layer_pairs(before: Sequence[ReferenceLayerJson], after: Sequence[LayerCostJson]) -> list[LayerPair]:
    """Both networks in one order: the reference's, with layers that only the result has where they occur."""
    survivors = {layer["name"] for layer in before} & {layer["name"] for layer in after}
    merged: list[tuple[ReferenceLayerJson | None, LayerCostJson | None]] = []
    rest = list(after)
    for layer in before:
        if layer["name"] in survivors:
            while rest and rest[0]["name"] != layer["name"] and rest[0]["name"] not in survivors:
                merged.append((None, rest.pop(0)))
            found = next(a for a in after if a["name"] == layer["name"])
            rest = [a for a in rest if a["name"] != layer["name"]]
            merged.append((layer, found))
        else:
            merged.append((layer, None))
    merged += [(None, a) for a in rest]
    return [LayerPair(i, str((a or b or {}).get("name", "")), b, a) for i, (b, a) in enumerate(merged, 1)]


def layer_dumbbells(
    pairs: Sequence[LayerPair],
    value: Callable[[LayerPair], tuple[int, int]],
    *,
    label: str,
    form: Callable[[float], str],
    per: int = 1,
) -> Markup:
    """Before and after of each layer on a logarithmic axis; the length of the join is the factor saved.

    The axis counts in `per` (1024 for KB), the tooltips use `form`.
    """
    shown = [(p, *value(p)) for p in pairs]
    shown = [(p, b, a) for p, b, a in shown if b > 0 or a > 0]
    if not shown:
        return Markup()
    values = [v / per for _, b, a in shown for v in (b, a) if v > 0]
    plot = Plot(width=980, height=270, left=72, right=12)
    x = plot.x(min(p.number for p, _, _ in shown) - 1, max(p.number for p, _, _ in shown) + 1)
    y = plot.y(min(values) / 1.4, max(values) * 1.4, log=True)
    return plot.svg(
        plot.y_axis(y, y.ticks(5), label, short),
        _number_axis(plot, x, pairs),
        *[_dumbbell(p, (b, a), x, lambda v: y(v / per), form) for p, b, a in shown],
        label=f"{label} per layer, before and after",
        class_="wide",
    )


def _dumbbell(
    pair: LayerPair,
    values: tuple[int, int],
    x: Scale,
    y: Callable[[float], float],
    form: Callable[[float], str],
) -> Markup:
    before, after = values
    at = x(pair.number)
    said = f"{pair.number} {pair.name} ({pair.op}): {form(before)} → {form(after)}"
    marks = Markup()
    if before and after:
        marks += line(at, y(before), at, y(after), "join")
    if before:
        marks += tag("circle", cx=at, cy=y(before), r=4, class_="before")
    if before and not after:  # removed, or absorbed into its neighbour
        corner = f"M{number(at - 3.2)} {number(y(before) - 3.2)}"
        marks += tag("path", d=corner + "l6.4 6.4m0 -6.4l-6.4 6.4", class_="gone")
    if after:
        marks += tag("circle", cx=at, cy=y(after), r=4, class_="after")
    return tag("g", hover(said), marks)


def layer_bars(
    pairs: Sequence[LayerPair],
    value: Callable[[LayerCostJson], int],
    *,
    label: str,
    form: Callable[[float], str],
) -> Markup:
    """What each layer of the result costs, coloured by operation; tooltips give the share of the whole."""
    shown = [(p, value(p.after)) for p in pairs if p.after is not None]
    total = sum(v for _, v in shown)
    if not total:
        return Markup()
    plot = Plot(width=980, height=230, left=72, right=12)
    x = plot.x(min(p.number for p, _ in shown) - 1, max(p.number for p, _ in shown) + 1)
    y = plot.y(0, max(v for _, v in shown) * 1.08)
    width = min(22.0, (x(2) - x(1)) * 0.76)
    bars = [
        tag(
            "rect",
            hover(f"{p.number} {p.name} ({p.op}): {form(v)}, {100 * v / total:.1f} % of the network"),
            x=x(p.number) - width / 2,
            y=y(v),
            width=width,
            height=y(0) - y(v),
            class_=f"bar {p.kind}",
        )
        for p, v in shown
        if v > 0
    ]
    axes = plot.y_axis(y, y.ticks(4), label, short) + _number_axis(plot, x, pairs)
    return plot.svg(axes, *bars, label=f"{label} per layer of the result", class_="wide")


def _number_axis(plot: Plot, x: Scale, pairs: Sequence[LayerPair]) -> Markup:
    last = pairs[-1].number
    every = next(s for s in (1, 2, 5, 10, 20, 50, 100, 1 << 30) if last / s <= 32)
    ticks = [float(n) for n in (1, *range(every, last + 1, every)) if x.low <= n <= x.high]
    ticks = list(dict.fromkeys(ticks))
    return plot.x_axis(x, ticks, "layer (number in the table)", lambda v: f"{v:.0f}")


def op_legend() -> list[tuple[str, str]]:
    """(style class, what it stands for)."""
    return [
        ("conv", "convolution"),
        ("depthwise", "depthwise convolution"),
        ("dense", "dense"),
        ("other", "other"),
    ]
