"""Data sets: folders of images, arrays, Python objects; splits, preprocessing, augmentation, tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from thumbnet.data.arrays import from_arrays, load_npz
from thumbnet.data.augment import Augmentation
from thumbnet.data.dataset import SPLITS, Dataset, Split, dataset_from_arrays
from thumbnet.data.folders import load_any_folder
from thumbnet.data.pairs import from_pairs, from_splits
from thumbnet.data.preprocessing import Preprocessing
from thumbnet.data.task import Assessment, Batch, Metric, Task
from thumbnet.data.tasks import Classification, default_augmentation, task_of
from thumbnet.errors import DataError
from thumbnet.results import check_task_name


def load_data(source: Any, seed: int = 0, task: str | None = None) -> Dataset:
    """`source`: a folder of class folders, an `.npz` file, a dict of arrays, or an iterable of (input, target).

    A dict may also hold one iterable of pairs for each of train, val and test. `task` is one of `TASK_NAMES` and may be
    left out where the data tells (see docs/tasks.md). Raises `DataError` for anything else, and for data that cannot be
    used.
    """
    if task is not None:
        check_task_name(task)
    if isinstance(source, Dataset):
        if task not in (None, source.task):
            raise DataError(f"'{source.name}' is data for {source.task}, not for {task}.", "Load it for that task.")
        return source
    if isinstance(source, str | Path):
        path = Path(source)
        if path.suffix == ".npz":
            return load_npz(path, seed, task)
        if path.is_file():
            raise DataError(f"{path} is neither a folder nor an .npz file.", "Give a folder of class folders.")
        return load_any_folder(path, seed, task)
    if isinstance(source, Mapping):
        if set(source) & set(SPLITS):
            return from_splits(source, task=task)
        return from_arrays(source, name="arrays", seed=seed, task=task)
    if isinstance(source, Iterable) or (hasattr(source, "__getitem__") and hasattr(source, "__len__")):
        return from_pairs(source, seed=seed, task=task)
    raise DataError(f"A {type(source).__name__} is no data set.", "Give a folder, an .npz file, arrays, or pairs.")


__all__ = [
    "Assessment",
    "Augmentation",
    "Batch",
    "Classification",
    "Dataset",
    "Metric",
    "Preprocessing",
    "Split",
    "Task",
    "dataset_from_arrays",
    "default_augmentation",
    "load_data",
    "task_of",
]
