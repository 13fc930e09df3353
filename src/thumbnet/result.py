"""What a run hands back."""

from __future__ import annotations

import io
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table

from thumbnet.errors import RunError
from thumbnet.files import read_json
from thumbnet.report.insight import robustness_sentence
from thumbnet.results import Constraints, Metric, Trial, from_key, trial_from_json

_ROWS = (  # label, key, unit, digits
    ("Model size", "size_bytes", "KB", 1),
    ("Parameters", "parameters", "", 0),
    ("Multiply-accumulates", "macs", "", 0),
    ("Flash, everything linked", "flash_bytes", "KB", 1),
    ("RAM, arena + static + stack", "ram_bytes", "KB", 1),
    ("Instructions per inference", "instructions", "", 0),
    ("Latency", "latency_ms", "ms", 1),
    ("Energy, estimated", "energy_mj", "mJ", 3),
)


@dataclass(frozen=True, eq=False)
class Result:
    """The outcome of `optimize`: figures before and after, the Pareto front, and where everything lies.

    `baseline` and `best` are the entries `reference` and `best` of `result.json`; `front` holds the trials that no
    other trial beats in flash, RAM and validation accuracy at once.
    """

    run_dir: Path
    summary: dict[str, Any]
    trials: tuple[Trial, ...] = ()

    @property
    def baseline(self) -> dict[str, Any]:
        return dict(self.summary["reference"])

    @property
    def best(self) -> dict[str, Any]:
        return dict(self.summary["best"])

    @property
    def proof(self) -> dict[str, Any]:
        return dict(self.summary["proof"])

    @property
    def metric(self) -> Metric:
        """What the task is judged by; `baseline` and `best` hold it under `metric.key`."""
        return Metric.of(self.summary)

    @property
    def drop(self) -> float:
        """How much worse the integer model is on the test split, in points or the metric's unit."""
        return float(self.summary["drop_points" if self.metric.in_points else "drop"])

    @property
    def drop_points(self) -> float:
        """The same, for metrics in percent: test accuracy of the reference minus that of the integer model."""
        return self.drop

    def missed(self) -> str:
        """Limits that the linked firmware or its test accuracy does not keep, as text; "" if all are kept."""
        limits, metric = Constraints.of_json(self.summary["limits"]), self.metric
        return ", ".join([*limits.exceeded(self.best), *limits.worse(metric, self.drop, self.best[metric.key], "test")])

    @property
    def front(self) -> list[Trial]:
        return pareto_front(self.trials, self.metric.higher_is_better)

    @property
    def networks(self) -> list[dict[str, Any]]:
        """The networks of several sizes that were trained to the end, smallest first; [] where one was asked for.

        Each is a dictionary as in `front` of `result.json` (docs/front.md).
        """
        return [dict(n) for n in self.summary.get("front", [])]

    @property
    def report(self) -> Path:
        return self.run_dir / "report.html"

    @property
    def firmware(self) -> Path:
        return self.run_dir / "firmware"

    def save(self, folder: str | Path) -> Path:
        """Copies firmware, TFLite file, report and figures into a new `folder`."""
        folder = Path(folder)
        if folder.exists():
            raise RunError(f"{folder} exists already.", "Give the name of a folder that does not.")
        folder.mkdir(parents=True)
        shutil.copytree(self.firmware, folder / "firmware")
        for name in ("model.tflite", "report.html", "result.json"):
            shutil.copy2(self.run_dir / name, folder / name)
        return folder

    @staticmethod
    def load(run_dir: str | Path) -> Result:
        """The result of a finished run. Raises `ThumbnetError` where there is none."""
        folder = Path(run_dir)
        details = read_json(folder / "details.json")
        summary = read_json(folder / "result.json")
        trials = (from_key(t, Metric.of(summary).key) for t in details["trials"])
        return Result(folder, summary, tuple(trial_from_json(t) for t in trials))

    def rows(self) -> list[tuple[str, str, str, str]]:
        """(what, before, after, change) as texts."""
        metric = self.metric
        scores = [metric.text(of[metric.key]) for of in (self.baseline, self.best)]
        rows = [(f"{metric.name} on the test split", scores[0], scores[1], metric.change(self.drop))]
        for label, key, unit, digits in _ROWS:
            before, after = self.baseline.get(key), self.best.get(key)
            if after is None and before is None:
                continue
            change = f"÷ {before / after:.1f}" if before and after else ""
            rows.append((label, _text(before, unit, digits), _text(after, unit, digits), change))
        return rows

    def table(self) -> RenderableType:
        """Before and after, for the terminal."""
        table = Table(title=f"{self.summary['model']} on {self.summary['target']}", title_justify="left")
        table.add_column("")
        table.add_column("Reference", justify="right")
        table.add_column("Thumbnet", justify="right")
        table.add_column("Change", justify="right")
        for row in self.rows():
            table.add_row(*row)
        interval, samples = self._interval(), self.metric.samples
        proof = self.proof
        exact = "bit for bit equal to" if proof["bit_exact"] else "NOT equal to"
        table.caption = (
            f"Integer model, {self.summary['test_images']} test {samples}{interval}. "
            f"Firmware {exact} the reference arithmetic on {proof['images']} validation {samples} "
            f"({proof['emulator']}). "
            "1 KB = 1024 bytes. Reference's flash and RAM: estimated for plain int8; Thumbnet's: read from the linked "
            "firmware."
        )
        if "robustness" in self.summary:
            table.caption += f"\n{robustness_sentence(self.summary['robustness'], self.metric)}"
        table.caption_justify = "left"
        return table

    def front_table(self) -> RenderableType:
        """`networks` for the terminal."""
        metric = self.metric
        table = Table(title="Networks of several sizes", title_justify="left")
        for name in ("Network", "Flash", "RAM", "MACs", f"Validation {metric.label}", f"Test {metric.label}", ""):
            table.add_column(name, justify="right" if name not in ("Network", "") else "left")
        for n in self.networks:
            said = "chosen" if n["chosen"] else "" if n["undominated"] else "a smaller one is as good"
            scores = (metric.text(n[f"val_{metric.key}"]), metric.text(n[metric.key]))
            sizes = (_text(n["flash_bytes"], "KB", 1), _text(n["ram_bytes"], "KB", 1), _text(n["macs"], "", 0))
            table.add_row(n["id"], *sizes, *scores, said)
        table.caption = "Flash and RAM estimated, within 2 %. Files: front/<network>/ in the run directory."
        table.caption_justify = "left"
        return table

    def _interval(self) -> str:
        unit, digits, key = self.metric.unit, self.metric.digits, f"{self.metric.key}_interval"
        told = []
        for of in (self.best, self.baseline):
            low, high = of.get(key) or (None, None)
            told.append("" if low is None or high is None else f"{low:.{digits}f}–{high:.{digits}f} {unit}".rstrip())
        if not told[0]:
            return ""
        return f", 95 % interval {told[0]}" + (f" (reference: {told[1]})" if told[1] else "")

    def __repr__(self) -> str:
        best, metric = self.best, self.metric
        name = "" if metric.key == "accuracy" else f"{metric.name} "
        return (
            f"<Result {self.summary['model']} on {self.summary['target']}: {name}{metric.text(best[metric.key])} "
            f"({metric.change(self.drop)}), {best['flash_bytes'] / 1024:.0f} KB flash, "
            f"{best['ram_bytes'] / 1024:.0f} KB RAM, bit exact: {self.proof['bit_exact']}, in {self.run_dir}>"
        )

    def _repr_html_(self) -> str:
        console = Console(record=True, width=110, file=io.StringIO())
        console.print(self.table())
        if self.networks:
            console.print(self.front_table())
        return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")


def pareto_front(trials: tuple[Trial, ...], higher_is_better: bool = True) -> list[Trial]:
    """Trials that no other one beats: at most its flash and RAM, at least its accuracy, one of them strictly."""
    sign = -1.0 if higher_is_better else 1.0
    scored = [t for t in trials if t.costs is not None and t.accuracy is not None]
    front = []
    for t in scored:
        mine = _objectives(t, sign)
        if not any(_dominates(_objectives(o, sign), mine) for o in scored):
            front.append(t)
    return sorted(front, key=lambda t: _objectives(t, sign))


def _objectives(trial: Trial, sign: float) -> tuple[float, float, float]:
    assert trial.costs is not None
    assert trial.accuracy is not None
    return (trial.costs.flash_bytes, trial.costs.ram_bytes, sign * trial.accuracy)


def _dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


def _text(value: float | None, unit: str, digits: int) -> str:
    if value is None:
        return "–"
    if unit == "KB":
        value /= 1024
    return f"{value:,.{digits}f} {unit}".strip()
