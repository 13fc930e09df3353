"""Who lives where in the arena, and when."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from thumbnet.report.details import BufferJson
from thumbnet.report.figures.svg import Plot, Scale, hover, line, tag, text
from thumbnet.report.units import size

TINTS = 6  # neighbouring activations take turns


def live_bytes(buffers: Sequence[BufferJson], steps: int) -> list[int]:
    """Bytes in use at each step; addresses that an output shares with its input count once."""
    spans = sorted((b["offset"], b["offset"] + b["bytes"], b["first"], b["last"]) for b in buffers)
    return [
        _covered([(low, high) for low, high, first, last in spans if first <= step <= last]) for step in range(steps)
    ]


def _covered(spans: Sequence[tuple[int, int]]) -> int:
    """Length of the union of intervals, which come in order of their starts."""
    total = end = 0
    for low, high in spans:
        total += max(0, high - max(low, end))
        end = max(end, high)
    return total


def arena_timeline(
    buffers: Sequence[BufferJson], steps: Sequence[str], *, arena_bytes: int, limit: int | None = None
) -> Markup:
    """Rectangles: right = execution step, up = address. Marks the step with most bytes in use, the
    arena's end, and `limit`, the bytes that the RAM limit leaves to the arena."""
    if not buffers or not steps:
        return Markup()
    plot = Plot(width=980, height=360, left=58, right=12, top=26)
    near = limit is not None and limit <= 2.5 * arena_bytes
    x = plot.x(0, len(steps))
    y = plot.y(0, max(arena_bytes, limit if near and limit else 0) / 1024 * 1.06)
    live = live_bytes(buffers, len(steps))
    peak = live.index(max(live))
    order = sorted(buffers, key=lambda b: (b["first"], b["offset"], b["name"]))
    return plot.svg(
        plot.y_axis(y, y.ticks(6), "address in the arena, KB", lambda v: f"{v:g}"),
        plot.x_axis(x, [t for t in x.ticks(10) if t == int(t)], "step", lambda v: f"{v:.0f}"),
        tag("rect", x=x(peak), y=plot.top, width=x(1) - x(0), height=y(0) - plot.top, class_="peak"),
        *[_buffer(b, i, x, y, steps) for i, b in enumerate(order)],
        *_levels(plot, y, arena_bytes, limit if near else None),
        _peak_label(plot, x, peak, f"peak: {size(live[peak])} in use at step {peak}, {steps[peak]}"),
        label="Lifetimes and addresses of the tensors in the arena",
        class_="wide",
    )


def _buffer(buffer: BufferJson, index: int, x: Scale, y: Scale, steps: Sequence[str]) -> Markup:
    left, right = x(buffer["first"]), x(buffer["last"] + 1)
    top, bottom = y((buffer["offset"] + buffer["bytes"]) / 1024), y(buffer["offset"] / 1024)
    first, last = steps[min(buffer["first"], len(steps) - 1)], steps[min(buffer["last"], len(steps) - 1)]
    said = (
        f"{buffer['name']} ({buffer['kind']}): {size(buffer['bytes'])} at offset {buffer['offset']:,}, "
        f"from step {buffer['first']} ({first}) to {buffer['last']} ({last})"
    )
    tint = "scratch" if buffer["kind"] == "scratch" else f"tint{index % TINTS}"
    box = tag("rect", x=left, y=top, width=right - left, height=max(bottom - top, 0.5), class_=f"buffer {tint}")
    label = Markup()
    if right - left > 7.0 * len(buffer["name"]) + 6 and bottom - top > 14:
        label = text((left + right) / 2, (top + bottom) / 2 + 4, buffer["name"], anchor="middle", class_="inside")
    return tag("g", hover(said), box, label)


def _levels(plot: Plot, y: Scale, arena_bytes: int, limit: int | None) -> list[Markup]:
    """The arena's end and the limit; the higher one's words stand above it, the lower one's below."""
    words = [(arena_bytes, f"arena {size(arena_bytes)}", "arena-end", "muted")]
    if limit is not None:
        words.append((limit, f"limit leaves {size(limit)} to the arena", "limit", "warn"))
    words.sort(key=lambda w: w[0])
    right = plot.width - plot.right
    marks = []
    for rank, (value, label, line_class, text_class) in enumerate(words, 1):
        at = y(value / 1024)
        up = -5 if rank == len(words) else 14
        marks.append(line(plot.left, at, right, at, line_class))
        marks.append(text(right - 4, at + up, label, anchor="end", class_=f"{text_class} over"))
    return marks


def _peak_label(plot: Plot, x: Scale, step: int, label: str) -> Markup:
    at = x(step + 0.5)
    anchor = "start" if at < plot.width / 3 else "end" if at > plot.width * 2 / 3 else "middle"
    return text(at, plot.top - 8, label, anchor=anchor, class_="strong")
