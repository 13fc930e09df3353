"""Data sets: folders of images, arrays, Python objects; splits, preprocessing, augmentation, tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from thumbnet.data.arrays import from_arrays, from_pairs, from_splits, load_npz
from thumbnet.data.augment import Augmentation
from thumbnet.data.dataset import SPLITS, Dataset, Split, dataset_from_arrays
from thumbnet.data.folder import load_folder
from thumbnet.data.preprocessing import Preprocessing
from thumbnet.data.task import Classification, Task
from thumbnet.errors import DataError


def load_data(source: Any, seed: int = 0) -> Dataset:
    """`source`: a folder of class folders, an `.npz` file, a dict of arrays, or an iterable of (input, label).

    A dict may also hold one iterable of pairs for each of train, val and test. Raises `DataError` for anything else,
    and for data that cannot be used.
    """
    if isinstance(source, Dataset):
        return source
    if isinstance(source, str | Path):
        path = Path(source)
        if path.suffix == ".npz":
            return load_npz(path, seed)
        if path.is_file():
            raise DataError(f"{path} is neither a folder nor an .npz file.", "Give a folder of class folders.")
        return load_folder(path, seed)
    if isinstance(source, Mapping):
        if set(source) & set(SPLITS):
            return from_splits(source)
        return from_arrays(source, name="arrays", seed=seed)
    if isinstance(source, Iterable) or (hasattr(source, "__getitem__") and hasattr(source, "__len__")):
        return from_pairs(source, seed=seed)
    raise DataError(f"A {type(source).__name__} is no data set.", "Give a folder, an .npz file, arrays, or pairs.")


__all__ = [
    "Augmentation",
    "Classification",
    "Dataset",
    "Preprocessing",
    "Split",
    "Task",
    "dataset_from_arrays",
    "load_data",
]
