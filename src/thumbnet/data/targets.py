"""The targets of each task as arrays: what is understood, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.data.dataset import Targets
from thumbnet.errors import DataError

MAX_AXES = 6
UNLABELLED = 255  # the number of pixels that count nowhere


def read_targets(y: Any, what: str, task: str) -> Targets:
    """Targets [N, ...] as the task has them. `what` names them in errors: "'y_train' of 'name'".

    Raises `DataError` for any others.
    """
    array = np.asarray(y)
    if array.dtype.hasobject or array.dtype.kind not in "biuf" or array.ndim == 0 or array.ndim > MAX_AXES:
        raise DataError(
            f"The targets {what} have shape {array.shape} and type {array.dtype}.",
            "Give one array of numbers, the first axis being the samples.",
        )
    return _READERS[task](array, what)


def class_numbers(y: npt.NDArray[Any], what: str) -> Targets:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2:
        raise DataError(
            f"The labels {what} have shape {y.shape}.",
            "Give class numbers: argmax(1) of one-hot rows. Where several labels hold at once, say task='multi-label'.",
        )
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise DataError(
            f"The labels {what} have shape {y.shape} and type {y.dtype}.",
            "Give whole numbers from 0, one for each input, or say the task: 'regression', 'segmentation', ….",
        )
    return np.asarray(y, np.int64)


def _zeros_and_ones(y: npt.NDArray[Any], what: str) -> Targets:
    wrong = y[(y != 0) & (y != 1)]
    if wrong.size:
        raise DataError(f"The targets {what} hold {wrong.flat[0]}.", "Each must be 0 or 1.")
    return y


def _multi_label(y: npt.NDArray[Any], what: str) -> Targets:
    if y.ndim != 2:
        raise DataError(f"The targets {what} have shape {y.shape}.", "Give a 0 or 1 for every label: [N, labels].")
    return np.asarray(_zeros_and_ones(y, what), np.float32)


def _numbers(y: npt.NDArray[Any], what: str) -> Targets:
    with np.errstate(over="ignore"):
        values = np.asarray(y, np.float32)
    if not np.isfinite(values).all():
        place = int(np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(1))[0])
        raise DataError(f"The targets {what} are not finite (number {place}).", "Remove NaN and infinity.")
    return values[:, None] if values.ndim == 1 else values


def _masks(y: npt.NDArray[Any], what: str) -> Targets:
    if y.ndim == 4 and y.shape[3] == 1:
        y = y[..., 0]
    if y.ndim != 3 or y.dtype.kind not in "biu":
        raise DataError(
            f"The masks {what} have shape {y.shape} and type {y.dtype}.", "Give class numbers [N, height, width]."
        )
    if y.size and (int(y.min()) < 0 or int(y.max()) > UNLABELLED):
        raise DataError(
            f"The masks {what} hold numbers from {y.min()} to {y.max()}.",
            f"Number the classes from 0; {UNLABELLED} marks pixels without one.",
        )
    return np.asarray(y, np.uint8)


def _anomalies(y: npt.NDArray[Any], what: str) -> Targets:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise DataError(f"The labels {what} have shape {y.shape}.", "Give 0 (normal) or 1 for each sample.")
    return np.asarray(_zeros_and_ones(y, what), np.int64)


def _any(y: npt.NDArray[Any], what: str) -> Targets:
    """Whole numbers stay whole, for losses that index with them."""
    return np.asarray(y, np.int64) if y.dtype.kind in "biu" else _numbers(y, what).reshape(y.shape)


_READERS: dict[str, Callable[[npt.NDArray[Any], str], Targets]] = {
    "classification": class_numbers,
    "multi-label": _multi_label,
    "regression": _numbers,
    "segmentation": _masks,
    "anomaly": _anomalies,
    "custom": _any,
}
