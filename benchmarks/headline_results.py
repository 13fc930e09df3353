"""The headline benchmark's figures: cells to JSON, what earlier calls measured kept, means over seeds, tables.

A cell is one network: (data, limit of flash, method, seed). Its figures are called
`<data>/<limit>KB/<method>/seed<k>/<figure>`, their means over seeds the same without `seed<k>`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

Cell = dict[str, Any]
Figures = dict[str, dict[str, Any]]

BEGIN, END = "<!-- {}: written by benchmarks/headline.py -->", "<!-- end of {} -->"
TITLES = {
    "reference": "reference, float",
    "ptq": "post-training int8 of the reference, not made to fit",
    "thumbnet": "**Thumbnet**",
    "uniform": "uniform width, distilled",
    "pruning": "global magnitude pruning",
    "grid": "width and resolution tuned",
}
BASELINES = ("uniform", "pruning", "grid")  # that fit the limits
_COSTS = (  # figure, key in the cell, unit, kind
    ("flash", "flash_bytes", "B", "estimated"),
    ("code", "code_bytes", "B", "estimated"),
    ("ram", "ram_bytes", "B", "estimated"),
    ("macs", "macs", "", "measured"),
    ("instructions", "instructions", "", "estimated"),
    ("steps", "steps", "", "measured"),
    ("wall", "wall_seconds", "s", "measured"),
    ("fine_tuning", "fine_tuning_seconds", "s", "measured"),
)


def path_of(cell: Mapping[str, Any]) -> str:
    """`elpv/72KB/thumbnet`; without the limit for what is not made to fit one."""
    limit = [] if cell["flash_kb"] is None else [f"{cell['flash_kb']}KB"]
    return "/".join([cell["data"], *limit, cell["method"]])


def figures_of(cell: Cell) -> list[dict[str, Any]]:
    """A cell's figures; none where the method failed. Baseline of an accuracy: the reference's on the same images."""
    if cell.get("failed"):
        return []
    found = []

    def add(name: str, value: Any, unit: str, kind: str, baseline: Any, n: int) -> None:
        ratio = round(value / baseline, 5) if baseline else None
        figure = {"value": value, "unit": unit, "kind": kind, "baseline": baseline, "ratio": ratio, "n": n}
        found.append({"name": f"{path_of(cell)}/seed{cell['seed']}/{name}", **figure})

    n = cell["test_images"]
    for name, unit in (("accuracy", "%"), ("drop", "points")):
        if name in cell:
            against = cell["reference"].get("accuracy") if name == "accuracy" else None
            add(name, cell[name], unit, "measured", against, n)
            for side, value in zip(("low", "high"), cell[f"{name}_interval"], strict=True):
                add(f"{name}_{side}", value, unit, "measured", None, n)
    for name, key, unit, kind in _COSTS:
        if cell.get(key) is not None:
            add(name, cell[key], unit, kind, cell["reference"].get(key), 1)
    return found


def facts_of(cell: Cell) -> dict[str, Any]:
    """What is no number: where and how the cell's figures were obtained."""
    keys = ("effort", "machine", "versions", "note", "input", "failed", "over")
    return {"name": f"{path_of(cell)}/seed{cell['seed']}", **{k: cell[k] for k in keys if cell.get(k) is not None}}


def merged(old: Mapping[str, Any], cells: Iterable[Cell]) -> dict[str, Any]:
    """`figures` and `cells` of an earlier file with those of `cells` in the place of theirs, and all means anew."""
    figures: Figures = {f["name"]: f for f in old.get("figures", []) if _seed_of(f["name"]) is not None}
    facts = {c["name"]: c for c in old.get("cells", [])}
    for cell in cells:
        own = facts_of(cell)
        figures = {k: f for k, f in figures.items() if not k.startswith(f"{own['name']}/")}
        figures |= {f["name"]: f for f in figures_of(cell)}
        facts[own["name"]] = own
    every = [*(figures[k] for k in sorted(figures)), *means(figures)]
    return {"figures": every + ahead({f["name"]: f for f in every}), "cells": [facts[k] for k in sorted(facts)]}


def means(figures: Figures) -> list[dict[str, Any]]:
    """Over the seeds of each method; `n` is how many. Intervals are about the images, which all seeds share: their
    ends are averaged, too."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for name in sorted(figures):
        by_name.setdefault(re.sub(r"/seed\d+/", "/", name), []).append(figures[name])
    found = []
    for name, own in by_name.items():
        value, baselines = fmean(f["value"] for f in own), [f["baseline"] for f in own]
        baseline = None if None in baselines else fmean(baselines)
        ratio = round(value / baseline, 5) if baseline else None
        of = {"unit": own[0]["unit"], "kind": own[0]["kind"]}
        found.append({"name": name, "value": value, **of, "baseline": baseline, "ratio": ratio, "n": len(own)})
    return found


def ahead(figures: Figures) -> list[dict[str, Any]]:
    """Points by which Thumbnet's mean lies above the best baseline's, at each limit where there are both."""
    found = []
    for name, figure in figures.items():
        if re.fullmatch(r"\w+/\d+KB/thumbnet/accuracy", name):
            others = [figures[o]["value"] for b in BASELINES if (o := name.replace("thumbnet", b)) in figures]
            if others:
                best = max(others)
                value, ratio = figure["value"] - best, round(figure["value"] / best, 5) if best else None
                of = {"unit": "points", "kind": "measured", "baseline": best, "ratio": ratio, "n": figure["n"]}
                found.append({"name": name.replace("accuracy", "ahead"), "value": value, **of})
    return found


def _seed_of(name: str) -> int | None:
    found = re.search(r"/seed(\d+)/", name)
    return int(found[1]) if found else None


# --- tables


def rows(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One for each method and limit: means, seeds and their accuracies; reference first, then by limit, falling."""
    figures: Figures = {f["name"]: f for f in data["figures"]}
    facts: dict[str, list[dict[str, Any]]] = {}
    for cell in data["cells"]:
        facts.setdefault(cell["name"].rpartition("/")[0], []).append(cell)
    order = list(TITLES)
    found = []
    for path, own in facts.items():
        _, *limit, method = path.split("/")
        kb = int(limit[0].removesuffix("KB")) if limit else None
        named = {n.removeprefix(f"{path}/"): f["value"] for n, f in figures.items() if n.startswith(f"{path}/")}
        seeds = [named[f"{c['name'].rpartition('/')[2]}/accuracy"] for c in own if not c.get("failed")]
        failed = [c["failed"] for c in own if c.get("failed")]
        found.append({"method": method, "kb": kb, "seeds": seeds, "failed": failed, "facts": own, **named})
    return sorted(found, key=lambda r: (-(r["kb"] or 10**9), order.index(r["method"])))


def table(data: Mapping[str, Any]) -> str:
    """Everything of one data set, as Markdown."""
    lines = [
        "| limit | method | accuracy, % (95 %) | lost, points (95 %) | flash, KB | RAM, KB | M MACs | M instructions "
        "| steps | minutes | seeds |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows(data):
        limit = "–" if row["kb"] is None else f"{row['kb']} KB"
        if "accuracy" not in row:
            lines.append(f"| {limit} | {TITLES[row['method']]} | – | {' '.join(row['failed'][0].split())} |" + " |" * 7)
            continue
        wall = row.get("wall", row.get("fine_tuning"))
        cells = (
            limit,
            TITLES[row["method"]],
            f"{row['accuracy']:.2f} ({row['accuracy_low']:.1f}–{row['accuracy_high']:.1f})",
            f"{row['drop']:.2f} ({row['drop_low']:.1f} to {row['drop_high']:.1f})" if "drop" in row else "–",
            f"{row['flash'] / 1024:.1f}{_missed(row, 'flash_bytes')}",
            f"{row['ram'] / 1024:.1f}{_missed(row, 'ram_bytes')}",
            f"{row['macs'] / 1e6:.2f}",
            f"{row['instructions'] / 1e6:.1f}",
            f"{row['steps']:,.0f}" if row.get("steps") else "–",
            "–" if wall is None else f"{wall / 60:.1f}",
            _spread(row["seeds"]),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *_footnotes(data)])


def _where(machine: Mapping[str, Any]) -> str:
    threads = machine["threads"]
    return f"{machine['cpu']}, {threads} thread{'' if threads == 1 else 's'}"


def _missed(row: Mapping[str, Any], limit: str) -> str:
    return ", over" if any(limit in c.get("over", {}) for c in row["facts"]) else ""


def _spread(seeds: Sequence[float]) -> str:
    return "1" if len(seeds) == 1 else f"{len(seeds)} ({', '.join(f'{s:.2f}' for s in seeds)})"


def _footnotes(data: Mapping[str, Any]) -> list[str]:
    """Machines and efforts, and Thumbnet's lead, in sentences."""
    searched = [c for c in data["cells"] if c["name"].split("/")[-2] not in ("reference", "ptq")]
    efforts = sorted({c["effort"] for c in searched if c.get("effort")})
    machines = sorted({_where(c["machine"]) for c in data["cells"]})
    said = [f"Effort {' and '.join(efforts)}." if efforts else "", f"Measured on: {'; '.join(machines)}."]
    for figure in data["figures"]:
        if figure["name"].endswith("/thumbnet/ahead"):
            limit, value = figure["name"].split("/")[1].removesuffix("KB"), figure["value"]
            side = "above" if value >= 0 else "below"
            said.append(f"At {limit} KB Thumbnet lies {abs(value):.2f} points {side} the best of the others.")
    return [" ".join(s for s in said if s)]


def short_table(files: Mapping[str, Mapping[str, Any]]) -> str:
    """Accuracies alone, one line for each data set and limit; `files` by the data set's title."""
    methods = ("thumbnet", *BASELINES)
    lines = [
        "| data, limit of flash | reference | " + " | ".join(TITLES[m] for m in methods) + " |",
        "| --- |" + " ---: |" * (len(methods) + 1),
    ]
    for title, data in files.items():
        by_limit: dict[int, dict[str, Any]] = {}
        reference = next((r.get("accuracy") for r in rows(data) if r["method"] == "reference"), None)
        for row in rows(data):
            if row["kb"] is not None:
                by_limit.setdefault(row["kb"], {})[row["method"]] = row.get("accuracy")
        for kb, found in by_limit.items():
            shown = [reference, *(found.get(m) for m in methods)]
            cells = [title + f", {kb} KB", *("–" if v is None else f"{v:.1f} %" for v in shown)]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def between_marks(text: str, name: str, new: str) -> str:
    """`text` with `new` between the two comments of `name`. Raises `ValueError` where they are missing."""
    begin, end = BEGIN.format(name), END.format(name)
    pattern = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"There are no lines '{begin}' and '{end}' to write between.")
    return pattern.sub(lambda _: f"{begin}\n{new}\n{end}", text)
