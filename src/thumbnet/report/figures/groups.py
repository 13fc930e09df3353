"""Channel groups in the order of the network: how much each matters, and how wide it became."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from thumbnet.report.details import GroupJson
from thumbnet.report.figures.svg import Plot, hover, line, number, tag
from thumbnet.report.units import short


def group_chart(groups: Sequence[GroupJson]) -> Markup:
    """Above: importance of a channel, 1 = the network's average, as bars on a logarithmic axis that grow from 1. Below:
    channels before and after."""
    shown = [g for g in groups if g["before"] > 0]
    if not shown:
        return Markup()
    upper = Plot(width=980, height=220, left=72, right=12, bottom=30)
    lower = Plot(width=980, height=400, left=72, right=12, top=236)
    x = upper.x(0, len(shown) + 1)
    share = [max(g["per_channel"], 1e-3) for g in shown]
    y = upper.y(min(*share, 0.5) / 1.3, max(*share, 2.0) * 1.3, log=True)
    widths = [v for g in shown for v in (g["before"], g["after"]) if v > 0]
    w = lower.y(min(widths) / 1.4, max(widths) * 1.4, log=True)
    bar = min(22.0, (x(2) - x(1)) * 0.7)
    marks = Markup()
    for k, (group, value) in enumerate(zip(shown, share, strict=True), 1):
        before, after = group["before"], group["after"]
        said = f"{k} {group['group']}: {group['per_channel']:.2g} × the average channel, {group['share']:.1f} % of all "
        said += f"importance; {before} → {after} channels, which hold {group['kept']:.0f} % of it"
        top, bottom = min(y(value), y(1)), max(y(value), y(1))
        own = tag("rect", x=x(k) - bar / 2, y=top, width=bar, height=max(bottom - top, 0.8), class_="bar conv")
        own += tag("circle", cx=x(k), cy=w(before), r=4, class_="before")
        if after:
            own = (
                line(x(k), w(before), x(k), w(after), "join")
                + own
                + tag("circle", cx=x(k), cy=w(after), r=4, class_="after")
            )
        else:
            corner = f"M{number(x(k) - 3.2)} {number(w(before) - 3.2)}"
            own += tag("path", d=corner + "l6.4 6.4m0 -6.4l-6.4 6.4", class_="gone")
        marks += tag("g", hover(said), own)
    every = next(s for s in (1, 2, 5, 10, 20, 50, 100, 1 << 30) if len(shown) / s <= 32)
    ticks = [float(n) for n in range(1, len(shown) + 1) if n == 1 or n % every == 0]
    return lower.svg(
        upper.y_axis(y, y.ticks(4), "× average channel", short),
        line(upper.left, y(1), upper.width - upper.right, y(1), "axis"),
        lower.y_axis(w, w.ticks(4), "channels", short),
        lower.x_axis(x, ticks, "channel group (number in the table)", lambda v: f"{v:.0f}"),
        marks,
        label="importance and width of each channel group",
        class_="wide",
    )
