"""What a run is asked for and what it hands back: limits, figures, trials, and the result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from decimal import ROUND_CEILING, Context
from enum import StrEnum
from typing import Any

from thumbnet.errors import UsageError

TASK_NAMES = ("classification", "multi-label", "regression", "segmentation", "anomaly", "custom")


def check_task_name(name: str) -> str:
    """Raises `UsageError` for a name that is none of `TASK_NAMES`."""
    if name not in TASK_NAMES:
        raise UsageError(f"There is no task '{name}'.", f"Choose one of {', '.join(TASK_NAMES)}.")
    return name


class Kind(StrEnum):
    """Where a figure comes from."""

    ESTIMATED = "estimated"  # from a model of the hardware or the linker
    EMULATED = "emulated"  # counted on an emulated core, or read from the linked firmware
    MEASURED = "measured"  # on the data, or on a real device


@dataclass(frozen=True)
class Metric:
    """A measure of quality. `key` names it in JSON; `unit` is "%" or that of the targets ("" where none is known)."""

    key: str
    name: str
    unit: str = "%"
    higher_is_better: bool = True
    digits: int = 1

    @property
    def in_points(self) -> bool:
        """Whether differences are told in points (of percent)."""
        return self.unit == "%"

    @property
    def samples(self) -> str:
        """What it is measured on."""
        return "images" if self.key == "accuracy" else "samples"

    @property
    def label(self) -> str:
        """Within a sentence or along an axis: `accuracy, %`."""
        name = self.name.lower() if self.key == "accuracy" else self.name
        return f"{name}, {self.unit}" if self.unit else name

    def drop(self, before: float, after: float) -> float:
        """How much worse `after` is, in points or the metric's unit; negative where it is better."""
        return before - after if self.higher_is_better else after - before

    def text(self, value: float) -> str:
        return f"{value:.{self.digits}f} {self.unit}".strip()

    def amount(self, difference: float, digits: int = 2) -> str:
        """A difference without a sign of its own: "1.30 points"."""
        return f"{difference:.{digits}f} points" if self.in_points else self.text(difference)

    def change(self, drop: float) -> str:
        """How the metric itself changed: "-1.30 points", where it dropped by 1.3."""
        value = (-drop if self.higher_is_better else drop) or 0.0
        return f"{value:+.2f} points" if self.in_points else f"{value:+.{self.digits}f} {self.unit}".strip()

    def json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def of(result: Mapping[str, Any]) -> Metric:
        """That of a `result.json`; accuracy where it names none."""
        known = {f.name for f in fields(Metric)}
        given = {k: v for k, v in result.get("metric", {}).items() if k in known}
        return Metric(**{"key": "accuracy", "name": "Accuracy", **given})


@dataclass(frozen=True)
class Figure:
    """A value that says its unit and where it comes from."""

    value: float
    unit: str
    kind: Kind

    def json(self) -> dict[str, Any]:
        return {"value": self.value, "unit": self.unit, "kind": str(self.kind)}


@dataclass(frozen=True)
class LayerCost:
    """What one integer node costs on a target. Estimated unless the run that made it says otherwise."""

    name: str
    op: str
    output_shape: tuple[int, ...]
    macs: int
    weight_bytes: int  # weights as stored in flash
    parameter_bytes: int  # bias, multipliers, shifts, tables
    instructions: int
    cycles: int
    weight_bits: int = 0  # of each weight; 0: it has none


@dataclass(frozen=True)
class Costs:
    """What an integer network costs on a target, everything the linker places included."""

    kind: Kind
    flash_bytes: int  # code + weights + parameters + constants + initial values of data
    code_bytes: int  # .text with start-up and support routines, no constants
    weight_bytes: int
    ram_bytes: int  # arena + static data + stack
    arena_bytes: int
    static_bytes: int
    stack_bytes: int
    macs: int
    instructions: int
    cycles: int
    latency_ms: float
    layers: tuple[LayerCost, ...] = ()
    energy_mj: float | None = None  # of one inference, always estimated; None where the board has no figure


@dataclass(frozen=True)
class CostLimit:
    """A cost that can be limited: what it is called, how it is told and asked for."""

    key: str  # of `Costs`, `Constraints` and JSON
    name: str  # within a sentence
    option: str  # of the command line
    unit: str  # "KB", "ms", "mJ", or "" for a plain number

    def text(self, value: float) -> str:
        """Value and name: "31.2 KB of flash", "1,234,567 MACs"."""
        return f"{self.amount(value)} of {self.name}" if self.unit else f"{value:,.0f} {self.name}"

    def amount(self, value: float) -> str:
        """The value with its unit: "31.2 KB", "4.12 ms", "1,234,567"."""
        if self.unit == "KB":
            return f"{value / 1024:,.1f} KB"
        if self.unit:
            return f"{value:.{max(1, 2 - math.floor(math.log10(value)))}f} {self.unit}" if value else f"0 {self.unit}"
        return f"{value:,.0f}"

    def beside(self, value: float, limit: float) -> str:
        """Value, name and limit: "31.2 KB of flash (limit 30.0 KB)"; in bytes where KB would read the same."""
        if self.unit == "KB" and self.amount(value) == self.amount(limit):
            return f"{value:,.0f} B of {self.name} (limit {limit:,.0f} B)"
        return f"{self.text(value)} (limit {self.amount(limit)})"

    def roomy(self, value: float) -> float:
        """A limit that is easy to write and not below `value`: whole KB, or three digits of ms and mJ."""
        if self.unit == "KB":
            return math.ceil(value / 1024) * 1024
        if self.unit:
            return float(Context(prec=3, rounding=ROUND_CEILING).create_decimal(value))
        return math.ceil(value)

    def asked(self, value: float) -> str:
        """The option that sets the limit to `roomy(value)`: "--flash 32KB"."""
        roomy = self.roomy(value)
        return f"{self.option} {f'{roomy / 1024:.0f}KB' if self.unit == 'KB' else f'{roomy:.12g}'}"


COST_LIMITS = (
    CostLimit("flash_bytes", "flash", "--flash", "KB"),
    CostLimit("ram_bytes", "RAM", "--ram", "KB"),
    CostLimit("latency_ms", "latency", "--latency", "ms"),
    CostLimit("cycles", "cycles", "--cycles", ""),
    CostLimit("macs", "MACs", "--macs", ""),
    CostLimit("energy_mj", "energy", "--energy", "mJ"),
)


@dataclass(frozen=True)
class Constraints:
    """Limits; None means unlimited. Costs are those of one inference.

    `max_drop` is how much worse than the reference's the metric may be: points of percent, or the metric's own unit.
    `metric_limit` is the worst value of the metric itself: a floor for accuracy, a ceiling for an error.
    """

    flash_bytes: int | None = None
    ram_bytes: int | None = None
    latency_ms: float | None = None
    macs: int | None = None
    max_drop: float | None = None
    cycles: int | None = None
    energy_mj: float | None = None
    metric_limit: float | None = None

    def tightened(self) -> Constraints:
        """Limits for what is predicted before weights are known: which kernels fit depends a little on them."""
        flash = self.flash_bytes
        return self if flash is None else replace(self, flash_bytes=flash - flash // 128 - 256)

    def violations(self, costs: Costs | Mapping[str, Any]) -> dict[str, float]:
        """By which factor each limit on a cost is exceeded: `{"flash_bytes": 1.2}` is 20 % too much.

        `costs` may be an entry of `result.json`. Raises `ValueError` where they lack a cost that is limited.
        """
        over: dict[str, float] = {}
        for cost in COST_LIMITS:
            limit = getattr(self, cost.key)
            if limit is None:
                continue
            value = _cost(costs, cost.key)
            if value is None:
                raise ValueError(f"{cost.name} is limited, but these costs do not tell it")
            if value > limit:
                over[cost.key] = value / limit
        return over

    def exceeded(self, costs: Costs | Mapping[str, Any]) -> list[str]:
        """The same in words: "33.0 KB of flash (limit 32.0 KB, 1.03 times)"."""
        over = self.violations(costs)
        return [
            f"{c.beside(_cost(costs, c.key) or 0, getattr(self, c.key))[:-1]}, {factor(over[c.key])})"
            for c in COST_LIMITS
            if c.key in over
        ]

    def shortfalls(self, metric: Metric, drop: float, score: float) -> dict[str, float]:
        """How far beyond each limit on quality a network is, in points or the metric's unit: `score` is its metric,
        `drop` how much worse that is than the reference's on the same samples. What is not known (NaN) is no pass."""
        beyond: dict[str, float] = {}
        if self.max_drop is not None:
            beyond["max_drop"] = drop - self.max_drop
        if self.metric_limit is not None:
            beyond["metric_limit"] = metric.drop(self.metric_limit, score)
        return {k: v for k, v in beyond.items() if not v <= 0}

    def worse(self, metric: Metric, drop: float, score: float, split: str) -> list[str]:
        """The same in words, of that split."""
        told = []
        for limit, by in self.shortfalls(metric, drop, score).items():
            if limit == "max_drop":
                what = f"{metric.amount(drop)} lost on the {split} split, {self.max_drop:g} allowed"
            else:
                what = f"{metric.name} {metric.text(score)} on the {split} split, {self.bound(metric)} asked for"
            told.append(f"{what} (missed by {metric.amount(by)})")
        return told

    def bound(self, metric: Metric) -> str:
        """`metric_limit` in words: "at least 91 %", "at most 0.5 mm"; "" where there is none."""
        if self.metric_limit is None:
            return ""
        return f"{'at least' if metric.higher_is_better else 'at most'} {self.metric_limit:g} {metric.unit}".strip()

    @staticmethod
    def of_json(limits: Mapping[str, Any]) -> Constraints:
        """The limits of a `result.json` or `details.json`; keys of other versions are passed over."""
        known = {f.name for f in fields(Constraints)}
        return Constraints(**{k: v for k, v in limits.items() if k in known})


def _cost(costs: Costs | Mapping[str, Any], key: str) -> float | None:
    value: float | None = costs.get(key) if isinstance(costs, Mapping) else getattr(costs, key)
    return value


def factor(times: float) -> str:
    """How many times a limit, never told as 1: "1.03 times", "1.0002 times"."""
    if times >= 100:
        return f"{times:,.0f} times"
    digits = next((d for d in (2, 3, 4, 6) if round(times, d) > 1), 9)
    return f"{times:.{digits}f} times"


class TrialState(StrEnum):
    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    FAILED = "failed"


@dataclass(frozen=True)
class Trial:
    """One candidate: the recipe that makes it from the reference, what it costs, and how well it did."""

    id: str
    recipe: dict[str, Any]  # `Recipe.json()`
    state: TrialState
    reason: str  # why it is infeasible, failed, or was dropped; "" for survivors
    costs: Costs | None
    accuracy: float | None  # or the task's own metric, on the validation split, of the last rung it reached
    rung: int  # how many rounds of training it survived; 0 = costs only
    curve: tuple[dict[str, float], ...] = field(default=())  # {"step", "loss", "accuracy"}


def costs_from_json(data: dict[str, Any]) -> Costs:
    """The inverse of `dataclasses.asdict` on `Costs`."""
    layers = tuple(LayerCost(**{**layer, "output_shape": tuple(layer["output_shape"])}) for layer in data["layers"])
    return Costs(**{**data, "kind": Kind(data["kind"]), "layers": layers})


def under_key(point: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A trial or a point of a curve with its metric under the metric's own key, curves within included."""
    values = {key if k == "accuracy" else k: v for k, v in point.items()}
    return {k: [under_key(p, key) for p in v] if k == "curve" else v for k, v in values.items()}


def from_key(point: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The inverse of `under_key`."""
    values = {"accuracy" if k == key else k: v for k, v in point.items()}
    return {k: [from_key(p, key) for p in v] if k == "curve" else v for k, v in values.items()}


def trial_from_json(data: dict[str, Any]) -> Trial:
    """The inverse of `dataclasses.asdict` on `Trial`."""
    costs = None if data["costs"] is None else costs_from_json(data["costs"])
    return Trial(**{**data, "state": TrialState(data["state"]), "costs": costs, "curve": tuple(data["curve"])})
