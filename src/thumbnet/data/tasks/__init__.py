"""The tasks, in one visible table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from thumbnet.data.dataset import Dataset
from thumbnet.data.task import Task
from thumbnet.data.tasks.anomaly import Anomaly
from thumbnet.data.tasks.classification import Classification
from thumbnet.data.tasks.custom import Custom, Own, own_metric
from thumbnet.data.tasks.multi_label import MultiLabel
from thumbnet.data.tasks.regression import Regression
from thumbnet.data.tasks.segmentation import Segmentation
from thumbnet.errors import UsageError


@dataclass(frozen=True)
class _Kind:
    """How the task of a data set is made, and how its images vary unless the user says otherwise."""

    make: Callable[[Dataset], Task]
    augment: str  # see `thumbnet.data.augment`; for images


def _regression(data: Dataset) -> Task:
    targets = [np.asarray(data.train.labels), *data.train.further_targets]
    flat = np.concatenate([t.reshape(len(t), -1) for t in targets], axis=1)
    return Regression(data.classes, tuple(float(s) or 1.0 for s in flat.std(0)))


TASKS: dict[str, _Kind] = {
    "classification": _Kind(lambda data: Classification(data.classes), "photo"),
    "multi-label": _Kind(lambda data: MultiLabel(data.classes), "photo"),
    "regression": _Kind(_regression, "light"),
    "segmentation": _Kind(lambda data: Segmentation(data.classes), "photo"),
    "anomaly": _Kind(lambda data: Anomaly(), "none"),
    "custom": _Kind(lambda data: Custom(), "light"),
}


def task_of(data: Dataset, loss: Own | None = None, metric: Own | None = None) -> Task:
    """The task of a data set, with the user's own loss or metric where there is one.

    Raises `UsageError` where the task "custom" lacks either.
    """
    task = TASKS[data.task].make(data)
    if isinstance(task, Custom) and (loss is None or metric is None):
        raise UsageError(
            "The task 'custom' needs a loss and a metric of your own.",
            "Give loss=… and metric=…, functions of (outputs, targets); see docs/tasks.md.",
        )
    return task if loss is None and metric is None else own_metric(task, loss, metric, data.target_names)


def default_augmentation(data: Dataset) -> str:
    """How training samples vary where the user does not say."""
    if data.kind != "image":
        return "none"
    usual = TASKS[data.task].augment
    return "light" if data.input_names and usual == "photo" else usual


__all__ = [
    "TASKS",
    "Anomaly",
    "Classification",
    "Custom",
    "MultiLabel",
    "Own",
    "Regression",
    "Segmentation",
    "default_augmentation",
    "task_of",
]
