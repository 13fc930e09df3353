"""Losses and metrics of the user's own: any outputs, any targets."""

from __future__ import annotations

import hashlib
import inspect
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from thumbnet.data.bootstrap import percentile_interval, resampled
from thumbnet.data.task import (
    Arrays,
    Batch,
    Figure,
    Floats,
    Metric,
    Scorer,
    Shape,
    Task,
    Tensors,
    count,
)
from thumbnet.errors import UsageError

Own = Callable[[Any, Any], Any]  # (outputs, targets) -> a number
RESAMPLES = 100  # a metric of the user's own may take long
_TAKEN = re.compile(
    r"(flash|code|ram|arena|stack|size)_bytes|parameters|macs|instructions|cycles|latency_ms|input|also"
)


@dataclass(frozen=True)
class Custom(Task):
    """Nothing but the shapes: loss and metric come from the user (see `own_metric`)."""

    name = "custom"

    @property
    def metric(self) -> Metric:
        raise NotImplementedError

    def check(self, outputs: Sequence[Shape], targets: Sequence[Shape], inputs: Sequence[Shape]) -> None:
        """Any outputs go with any targets."""

    def loss(self, batch: Batch) -> torch.Tensor:
        raise NotImplementedError

    def distance(self, outputs: Tensors, teacher: Tensors) -> torch.Tensor:
        """Squared errors, for each output in units of the reference's variance, the mean over outputs."""
        each = [
            (o - t).square().mean() / t.var(correction=0).clamp_min(1e-6) for o, t in zip(outputs, teacher, strict=True)
        ]
        return torch.stack(each).mean()

    def answers(self, batch: Batch) -> Arrays:
        arrays = tuple(o.detach().numpy() for o in batch.outputs)
        return arrays[0] if len(arrays) == 1 else arrays

    def scorer(self, targets: Arrays, answers: Arrays) -> Scorer:
        raise NotImplementedError


@dataclass(frozen=True)
class End:
    """A function at the end of the user's model that networks of the search do without. `axis` is of a sample."""

    op: str  # "softmax", "log_softmax" or "sigmoid"
    axis: int

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        if self.op == "sigmoid":
            return logits.sigmoid()
        return (F.softmax if self.op == "softmax" else F.log_softmax)(logits, self.axis + 1)


@dataclass(frozen=True, eq=False)
class Owned(Task):
    """A task whose loss, metric or both are the user's.

    They get (outputs, targets): a tensor where there is one, else a tuple in the network's order; targets that have
    names come as a dict. Outputs are what the user's model gives: `ends` go behind the networks' own.
    """

    base: Task
    own_loss: Own | None
    own_metric: Own | None
    target_names: tuple[str, ...] = ()
    ends: tuple[End | None, ...] = ()  # for each output, or none at all

    @property
    def metric(self) -> Metric:
        return self.base.metric if self.own_metric is None else _described(self.own_metric)

    @property
    def name(self) -> str:
        return self.base.name

    @property
    def costly(self) -> bool:
        return self.own_metric is not None

    @property
    def spatial(self) -> bool:
        return self.base.spatial

    @property
    def names_outputs(self) -> bool:
        return self.base.names_outputs

    def check(self, outputs: Sequence[Shape], targets: Sequence[Shape], inputs: Sequence[Shape]) -> None:
        self.base.check(outputs, targets, inputs)

    def loss(self, batch: Batch) -> torch.Tensor:
        if self.own_loss is None:
            return self.base.loss(batch)
        value = _called("loss", self.own_loss, self._outputs(batch.outputs), self._targets(batch.targets))
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            kind = (
                f"a tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
            )
            raise UsageError(f"The loss '{_name(self.own_loss)}' gives {kind}.", "Return a tensor with one number.")
        return value.reshape(())

    def weight(self, batch: Batch) -> float:
        return len(batch) if self.own_loss is not None else self.base.weight(batch)

    def distance(self, outputs: Tensors, teacher: Tensors) -> torch.Tensor:
        return self.base.distance(outputs, teacher)

    def answers(self, batch: Batch) -> Arrays:
        return self.base.answers(batch) if self.own_metric is None else Custom.answers(Custom(), batch)

    def scorer(self, targets: Arrays, answers: Arrays) -> Scorer:
        if self.own_metric is None:
            return self.base.scorer(targets, answers)
        metric = self.own_metric

        def score(counts: npt.NDArray[np.int64]) -> Floats:
            return np.array([self._measured(metric, targets, answers, row) for row in counts])

        return score

    def _measured(self, metric: Own, targets: Arrays, answers: Arrays, drawn: npt.NDArray[np.int64]) -> float:
        whole = bool((drawn == 1).all())
        rows = np.repeat(np.arange(len(drawn)), drawn)
        outputs, wanted = (
            tuple(torch.from_numpy(a if whole else a[rows]) for a in (v if isinstance(v, tuple) else (v,)))
            for v in (answers, targets)
        )
        value = _called("metric", metric, self._outputs(outputs), self._targets(wanted))
        try:
            number = float(value)
        except (TypeError, ValueError, RuntimeError) as e:
            raise UsageError(f"The metric '{_name(metric)}' gives a {type(value).__name__}.", "Return a number.") from e
        if whole and not math.isfinite(number):
            raise UsageError(
                f"The metric '{_name(metric)}' gives {number} on a whole split.", "Return a finite number."
            )
        return number

    def interval(self, targets: Arrays, answers: Arrays) -> tuple[float, float]:
        if self.own_metric is None:
            return self.base.interval(targets, answers)
        return percentile_interval(resampled(count(targets), self.scorer(targets, answers), RESAMPLES))

    def drop_interval(self, targets: Arrays, before: Arrays, after: Arrays) -> tuple[float, float]:
        if self.own_metric is None:
            return self.base.drop_interval(targets, before, after)
        old, new = (resampled(count(targets), self.scorer(targets, a), RESAMPLES) for a in (before, after))
        return percentile_interval(old - new if self.metric.higher_is_better else new - old)

    def figures(self, targets: Arrays, answers: Arrays) -> tuple[Figure, ...]:
        return self.base.figures(targets, answers) if self.own_metric is None else ()

    @property
    def identity(self) -> dict[str, Any]:
        """Which functions these are: names and sources."""
        named = (("loss", self.own_loss), ("metric", self.own_metric))
        told = {k: f"{_name(f)}/{_source(f)}" for k, f in named if f is not None}
        return told | ({"ends": [e and f"{e.op}/{e.axis}" for e in self.ends]} if self.ends else {})

    def _outputs(self, outputs: Tensors) -> Any:
        if not self.ends:
            return _given(outputs)
        return _given(tuple(y if end is None else end(y) for y, end in zip(outputs, self.ends, strict=True)))

    def _targets(self, targets: Tensors) -> Any:
        return dict(zip(self.target_names, targets, strict=True)) if self.target_names else _given(targets)


def own_metric(task: Task, loss: Own | None, metric: Own | None, target_names: tuple[str, ...]) -> Owned:
    """The task with the user's loss or metric in place of its own."""
    for what, function in (("loss", loss), ("metric", metric)):
        if function is not None and not callable(function):
            raise UsageError(
                f"The {what} is a {type(function).__name__}, no function.", "Give one of (outputs, targets)."
            )
    return Owned(task, loss, metric, target_names)


def _described(metric: Own) -> Metric:
    """Name and direction of a metric: attributes `title`, `unit`, `higher_is_better` and `digits`, where it has any."""
    name = _name(metric).rpartition(".")[2].strip("<>")
    key = re.sub(r"\W+", "_", name.lower()).strip("_") or "metric"
    return Metric(
        f"{key}_metric" if _TAKEN.fullmatch(key) or key == "accuracy" else key,
        str(getattr(metric, "title", name.replace("_", " "))),
        str(getattr(metric, "unit", "")),
        bool(getattr(metric, "higher_is_better", True)),
        int(getattr(metric, "digits", 4)),
    )


def _called(what: str, function: Own, outputs: Any, targets: Any) -> Any:
    try:
        return function(outputs, targets)
    except Exception as e:  # whatever the user's code raises
        raise UsageError(
            f"The {what} '{_name(function)}' failed: {e} ({type(e).__name__}).",
            "It is called with (outputs, targets); see docs/tasks.md.",
        ) from e


def _given(tensors: Tensors) -> Any:
    return tensors[0] if len(tensors) == 1 else tensors


def _name(function: Own) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))


def _source(function: Own) -> str:
    """A digest of the source, "" where there is none."""
    try:
        return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:16]
    except (OSError, TypeError):
        return ""
