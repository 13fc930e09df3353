"""Thumbnet next to what can be had by hand: test accuracy of integer networks at equal flash, RAM and training steps.

    python benchmarks/headline.py [--data elpv|cifar10|magnetic] [--flash KB …] [--seeds N] [--methods NAME …]
        [--effort NAME] [--run-dir DIR] [--json FILE] [--markdown docs/headline.md] [--readme README.md]

Needs `pip install 'thumbnet[demo,bench]'` (torch-pruning==1.6.1, optuna) and the folder that THUMBNET_SHARED names.
Thumbnet comes first in each cell (data, limit, seed), since the others get as many training steps as it took in all, of
the same images in batches of the same size. Every finished cell is kept in the run directory and not measured again;
remove the run directory after changing code. Figures of earlier calls stay in the JSON file.
`--markdown` and `--readme` write tables and a plot from the JSON files alone; with `--flash` and nothing behind it
nothing is measured.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from demo import machine
from headline_methods import METHODS, Method, Outcome
from headline_plot import accuracy_against_flash
from headline_problems import PROBLEMS, Problem
from headline_results import Cell, between_marks, merged, short_table, table
from headline_setting import NothingFitsError, Setting, integer_test_answers, size_of

from thumbnet.cost import estimate
from thumbnet.data import Dataset
from thumbnet.errors import InfeasibleError, ThumbnetError
from thumbnet.files import read_json, write_json_atomic, write_text_atomic
from thumbnet.integer.passes.join_inputs import join_ports
from thumbnet.progress import Progress
from thumbnet.runs import versions as own_versions
from thumbnet.search.efforts import batch_of, effort_named
from thumbnet.training.allocator import keep_freed_memory

RESULTS = Path(__file__).parent / "results"
THREADS = 2


class Bench:
    """One problem's cells, measured or taken from the run directory."""

    def __init__(self, problem: Problem, effort: str, folder: Path) -> None:
        self.problem, self.effort, self.folder = problem, effort, folder / problem.name
        self._data: Dataset | None = None
        self._settings: dict[tuple[int | None, int], Setting] = {}

    @property
    def data(self) -> Dataset:
        if self._data is None:
            self._data = self.problem.load()
        return self._data

    def cells(self, limits: Sequence[int], seeds: int | None, methods: Sequence[str]) -> Iterator[Cell]:
        """Those of all limits and seeds, the reference's and what is not made to fit once for each seed."""
        plan = [(kb, k) for kb in limits for k in range(seeds or self.problem.seeds.get(kb, 1))]
        wanted = [m for m in METHODS.values() if m.name in methods]
        for seed in sorted({k for _, k in plan}):
            yield self.reference_cell(seed)
            yield from (self.cell(m, None, seed) for m in wanted if not m.fits)
        for kb, seed in plan:
            yield from (self.cell(m, kb, seed) for m in wanted if m.fits)

    def setting(self, flash_kb: int | None, seed: int) -> Setting:
        if (flash_kb, seed) not in self._settings:
            progress = Progress.for_console()
            reference = self.problem.reference(self.problem, self.data, self.folder, seed, progress)
            given = (self.problem, self.data, reference, flash_kb, seed, self.effort, self.folder)
            self._settings = {(flash_kb, seed): Setting(*given, Progress.for_console())}  # one: images fill memory
        return self._settings[flash_kb, seed]

    def reference_cell(self, seed: int) -> Cell:
        """The float reference, with what it would need as plain int8."""
        setting = self.setting(None, seed)
        job, prepared = setting.job, setting.prepared
        labels = self.data.test.labels
        facts = self._facts("reference", None, seed)
        told = self.folder / f"reference-seed{seed}.json"
        return facts | {
            "reference": {},
            "accuracy": job.task.score(labels, prepared.test_answers),
            "accuracy_interval": list(job.task.interval(labels, prepared.test_answers)),
            **_costs(prepared.baseline.costs),
            "fine_tuning_seconds": read_json(told)["seconds"] if told.exists() else None,
        }

    def cell(self, method: Method, flash_kb: int | None, seed: int) -> Cell:
        """The kept cell where there is one of the same key, else a new one."""
        setting = self.setting(flash_kb, seed)
        steps = self._steps_of_thumbnet(flash_kb, seed) if method.trains else 0
        name = "/".join(p for p in (method.name, flash_kb and f"{flash_kb}KB", f"seed{seed}") if p).replace("/", "-")
        key = _key(setting, method.name, steps)
        path = self.folder / "cells" / f"{name}-{key[:8]}.json"
        if path.exists() and (kept := read_json(path)).get("key") == key:
            return dict(kept)
        facts = self._facts(method.name, flash_kb, seed) | {"key": key}
        assert setting.prepared  # what all methods share is no method's time
        started, setting.progress = time.monotonic(), Progress.for_console()
        folder = self.folder / f"{name}-{key[:8]}"
        try:
            if method.trains and not steps:
                raise NothingFitsError("Thumbnet has no network here, so there is no number of steps to train for.")
            outcome = method.run(setting, folder, steps)
        except (NothingFitsError, InfeasibleError) as e:
            cell = facts | {"failed": str(e)}
        else:
            seconds = _wall(folder, started)
            cell = facts | self._measured(setting, outcome, method.fits) | {"wall_seconds": seconds}
        write_json_atomic(path, cell)
        return cell

    def _steps_of_thumbnet(self, flash_kb: int | None, seed: int) -> int:
        return int(self.cell(METHODS["thumbnet"], flash_kb, seed).get("steps", 0))

    def _facts(self, method: str, flash_kb: int | None, seed: int) -> Cell:
        of = {"data": self.problem.name, "flash_kb": flash_kb, "method": method, "seed": seed, "effort": self.effort}
        where = {**machine(), "threads": torch.get_num_threads()}
        return of | {"machine": where, "versions": versions(), "test_images": len(self.data.test)}

    def _measured(self, setting: Setting, outcome: Outcome, fits: bool) -> Cell:
        """The network on the test split, its exact costs, and by which factor it misses limits that it should keep."""
        task, labels, before = setting.job.task, self.data.test.labels, setting.prepared.test_answers
        answers = integer_test_answers(setting, outcome.integer)
        plain, costs = setting.prepared.baseline.costs, estimate(join_ports(outcome.integer), setting.job.target)
        over = setting.job.limits.violations(costs) if fits else {}
        return {
            "reference": {"accuracy": task.score(labels, before), **_costs(plain)},
            "accuracy": task.score(labels, answers),
            "accuracy_interval": list(task.interval(labels, answers)),
            "drop": task.metric.drop(task.score(labels, before), task.score(labels, answers)),
            "drop_interval": list(task.drop_interval(labels, before, answers)),
            **_costs(costs),
            "over": over or None,
            "steps": outcome.steps,
            "images": outcome.steps * batch_of(len(self.data.train)),
            "input": list(size_of(outcome.integer)),
            "note": outcome.note,
        }


def versions() -> dict[str, str]:
    """Those of a run, and of the packages that two methods need."""
    found = own_versions()
    for package in ("torch-pruning", "optuna"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _costs(costs: Any) -> dict[str, Any]:
    keys = ("flash_bytes", "code_bytes", "ram_bytes", "macs", "instructions")
    return {k: getattr(costs, k) for k in keys}


def _key(setting: Setting, method: str, steps: int) -> str:
    """What a kept cell must have been measured for: job, effort, versions, steps."""
    of = {"method": method, "steps": steps, "effort": asdict(effort_named(setting.effort)), "versions": versions()}
    return hashlib.sha256(json.dumps([setting.job.key, of], sort_keys=True).encode()).hexdigest()


def _wall(folder: Path, started: float) -> float:
    """Seconds of the method, those of interrupted calls included where its run directory tells."""
    told = folder / "times.json"
    return float(read_json(told)["seconds"]) if told.exists() else round(time.monotonic() - started, 1)


def line_of(cell: Cell) -> str:
    limit = "" if cell["flash_kb"] is None else f"{cell['flash_kb']} KB"
    start = f"{cell['data']:9} {limit:>7} {cell['method']:10} seed {cell['seed']}  "
    if cell.get("failed"):
        return start + cell["failed"]
    flash, ram = cell["flash_bytes"] / 1024, cell["ram_bytes"] / 1024
    lost = f"{cell['drop']:+6.2f} lost" if "drop" in cell else ""
    missed = "  OVER ITS LIMIT" if cell.get("over") else ""
    size = f"flash {flash:7.1f} KB  RAM {ram:6.1f} KB"
    return start + f"{cell['accuracy']:6.2f} % {lost}  {size}{missed}  {cell.get('note', '')}".rstrip()


def write_json(path: Path, cells: Sequence[Cell]) -> None:
    """Merges the cells into the file of figures."""
    old = json.loads(path.read_text()) if path.exists() else {}
    where = {**machine(), "threads": torch.get_num_threads()}
    found = merged(old, cells)
    seeds = sorted({int(c["name"].rpartition("/seed")[2]) for c in found["cells"]})
    told = {"machine": where, "versions": versions(), "seed": seeds, "command": _command()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(path, json.dumps(found | told, indent=1, ensure_ascii=False) + "\n")


def _command() -> str:
    """How this was called, without where things lie on this machine."""
    given = [Path(a).name if Path(a).is_absolute() else a for a in sys.argv[1:]]
    return " ".join(["python", "benchmarks/headline.py", *given])


def write_pages(name: str, file: Path, markdown: Path | None, readme: Path | None) -> None:
    """Table and plot into the page, all data sets' accuracies into the README, from the JSON files alone."""
    data = json.loads(file.read_text())
    if markdown:
        drawn = accuracy_against_flash(data, PROBLEMS[name].title)
        picture = f"images/headline-{name}.svg"
        shown = f"\n\n![Accuracy against flash]({picture})" if drawn else ""
        page = between_marks(markdown.read_text(), f"headline-{name}", table(data) + shown)
        if drawn:
            write_text_atomic(markdown.parent / picture, drawn)
        write_text_atomic(markdown, page)
    if readme:
        paths = {p.title: file.with_name(f"headline-{p.name}.json") for p in PROBLEMS.values()}
        files = {title: json.loads(path.read_text()) for title, path in paths.items() if path.exists()}
        write_text_atomic(readme, between_marks(readme.read_text(), "headline", short_table(files)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=list(PROBLEMS), default="elpv")
    parser.add_argument("--flash", type=int, nargs="*", help="limits in KB; by default those of the data")
    parser.add_argument("--seeds", type=int, help="for each limit; by default 3 at the limit that counts most, else 1")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--effort", default="standard")
    parser.add_argument("--run-dir", type=Path, default=Path("runs/headline"))
    parser.add_argument("--json", type=Path, help="by default benchmarks/results/headline-<data>.json")
    parser.add_argument("--markdown", type=Path, help="page that gets the table and the plot")
    parser.add_argument("--readme", type=Path, help="page that gets the accuracies of all data sets")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(max(1, min(THREADS, int(os.environ.get("OMP_NUM_THREADS", THREADS)))))
    file = options.json or RESULTS / f"headline-{options.data}.json"
    problem = PROBLEMS[options.data]
    try:
        limits = problem.flash_kb if options.flash is None else options.flash
        if limits:
            bench = Bench(problem, options.effort, options.run_dir)
            for cell in bench.cells(limits, options.seeds, options.methods):
                print(line_of(cell), flush=True)
                write_json(file, [cell])
        print(table(json.loads(file.read_text())))
        if options.markdown or options.readme:
            write_pages(options.data, file, options.markdown, options.readme)
    except ThumbnetError as e:
        raise SystemExit(str(e)) from e


if __name__ == "__main__":
    main()
