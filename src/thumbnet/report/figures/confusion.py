"""Confusion matrices."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from thumbnet.report.figures.svg import Plot, hover, tag, text

LABELLED_UP_TO = 12  # classes; larger matrices show colours and tooltips only


def confusion_matrix(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> Markup:
    """Rows: true class; columns: answer. Shade: share of the row. Cells: number, share in percent."""
    n = len(counts)
    if n == 0 or any(len(row) != n for row in counts):
        return Markup()
    names = [*classes[:n], *(str(i) for i in range(len(classes), n))]
    labelled = n <= LABELLED_UP_TO
    longest = max(len(_short(name)) for name in names)
    plot = Plot(width=400, height=340, left=40 + 6.6 * longest if labelled else 36, right=10, top=8, bottom=46)
    side_x = (plot.width - plot.left - plot.right) / n
    side_y = (plot.height - plot.top - plot.bottom) / n
    marks = Markup()
    for i, row in enumerate(counts):
        for j, value in enumerate(row):
            share = value / (sum(row) or 1)
            left, top = plot.left + j * side_x, plot.top + i * side_y
            said = (
                f"{names[i]} taken for {names[j]}: {value} of {sum(row)}"
                if i != j
                else f"{names[i]}: {value} of {sum(row)} right"
            )
            cell = tag(
                "rect",
                x=left,
                y=top,
                width=side_x - 1.5,
                height=side_y - 1.5,
                class_="cell right" if i == j else "cell wrong",
                fill_opacity=round(0.06 + 0.88 * share, 3),
            )
            inner = _numbers(value, share, left + side_x / 2, top + side_y / 2, n) if labelled else Markup()
            marks += tag("g", hover(said), cell, inner)
    if labelled:
        for i, name in enumerate(names):
            middle = plot.top + (i + 0.5) * side_y
            marks += text(plot.left - 7, middle + 4, _short(name), anchor="end")
            marks += _column_name(_short(name), plot.left + (i + 0.5) * side_x, plot, side_x)
    marks += text((plot.left + plot.width) / 2, plot.height - 6, "answer", anchor="middle", class_="label")
    marks += text(
        13,
        (plot.top + plot.height - plot.bottom) / 2,
        "true class",
        anchor="middle",
        class_="label",
        rotate=-90,
    )
    right = sum(counts[i][i] for i in range(n))
    return plot.svg(marks, label=f"Confusion matrix, {right} of {sum(map(sum, counts))} right")


def _numbers(value: int, share: float, x: float, y: float, n: int) -> Markup:
    class_ = "cell-text light" if share > 0.55 else "cell-text"
    if n > 4:
        return text(x, y + 4, str(value), anchor="middle", class_=class_)
    number = text(x, y + 1, str(value), anchor="middle", class_=f"{class_} big")
    return number + text(x, y + 19, f"{100 * share:.1f} %", anchor="middle", class_=class_)


def _column_name(name: str, x: float, plot: Plot, side: float) -> Markup:
    base = plot.height - plot.bottom + 14
    if 6.6 * len(name) <= side:
        return text(x, base, name, anchor="middle")
    return text(x, base, name[: max(1, int(side / 6.6))], anchor="middle")


def _short(name: str) -> str:
    return name if len(name) <= 14 else name[:13] + "…"
