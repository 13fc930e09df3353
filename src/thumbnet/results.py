"""What a run is asked for and what it hands back: limits, figures, trials, and the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
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


@dataclass(frozen=True)
class Constraints:
    """Limits; None means unlimited. `max_drop` is how much worse than the reference's the metric may be: points of
    percent, or the metric's own unit."""

    flash_bytes: int | None = None
    ram_bytes: int | None = None
    latency_ms: float | None = None
    macs: int | None = None
    max_drop: float | None = None

    def violations(self, costs: Costs, drop_points: float | None = None) -> dict[str, float]:
        """By which factor each limit is exceeded (`{"flash_bytes": 1.2}` = 20 % too much); drop in points too many."""
        over: dict[str, float] = {}
        for name in ("flash_bytes", "ram_bytes", "latency_ms", "macs"):
            limit, value = getattr(self, name), getattr(costs, name)
            if limit is not None and value > limit:
                over[name] = value / limit
        if self.max_drop is not None and drop_points is not None and drop_points > self.max_drop:
            over["drop_points"] = drop_points - self.max_drop
        return over


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
