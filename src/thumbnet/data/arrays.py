"""`.npz` files and Python objects as data sets."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.data.dataset import Dataset, dataset_from_arrays
from thumbnet.errors import DataError

MAX_BYTES = 4 << 30  # of all arrays of a file, unpacked
SPLITS = ("train", "val", "test")


def load_npz(path: Path, seed: int = 0) -> Dataset:
    """`x_train`, `y_train`, `x_val`, ... or `x` and `y` (dealt 70/15/15); optional `classes`. Never unpickles."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(i.file_size for i in archive.infolist())
        if size > MAX_BYTES:
            raise DataError(f"{path} unpacks to {size / (1 << 30):.1f} GB.", "At most 4 GB are read.")
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except FileNotFoundError as e:
        raise DataError(f"The data file {path} does not exist.", "Check the path.") from e
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as e:
        raise DataError(
            f"{path} is not a readable .npz file of plain arrays ({e}).", "Save it with numpy.savez."
        ) from e
    return from_arrays(arrays, name=path.stem, seed=seed)


def from_arrays(arrays: Mapping[str, npt.NDArray[Any]], *, name: str, seed: int = 0) -> Dataset:
    """A data set from the arrays of an `.npz` file or a dict of the same keys."""
    classes = [str(c) for c in arrays["classes"]] if "classes" in arrays else None
    if "x" in arrays and "y" in arrays:
        x, y = _inputs(arrays["x"], name), _labels(arrays["y"], name)
        if len(x) != len(y):
            raise DataError(f"'{name}' has {len(x)} inputs but {len(y)} labels.", "Give one label per input.")
        split = _deal(y, seed)
        parts = {s: (x[split == k], y[split == k]) for k, s in enumerate(SPLITS)}
    else:
        missing = [f"{a}_{s}" for s in SPLITS for a in "xy" if f"{a}_{s}" not in arrays]
        if missing:
            raise DataError(
                f"'{name}' lacks {', '.join(missing)}.", "Give x and y, or x_train, y_train, x_val and so on."
            )
        parts = {s: (_inputs(arrays[f"x_{s}"], name), _labels(arrays[f"y_{s}"], name)) for s in SPLITS}
    if classes is None:
        count = max((int(y.max()) for _, y in parts.values() if len(y)), default=0) + 1
        classes = [str(k) for k in range(count)]
    return dataset_from_arrays(parts, classes=classes, name=name)


def from_pairs(pairs: Iterable[Any], *, name: str = "pairs", seed: int = 0) -> Dataset:
    """A data set from an iterable of (input, label), dealt 70/15/15."""
    inputs, labels = [], []
    for k, pair in enumerate(pairs):
        try:
            x, y = pair
            inputs.append(np.asarray(x))
            labels.append(int(y))
        except (TypeError, ValueError) as e:
            raise DataError(
                f"Item {k} of the data is not an (input, label) pair.", "Yield pairs of array and int."
            ) from e
    if not inputs:
        raise DataError("The data yields nothing.", "Yield (input, label) pairs.")
    if len({x.shape for x in inputs}) > 1:
        raise DataError("The inputs differ in shape.", "Resize them to one shape first, or use an image folder.")
    return from_arrays({"x": np.stack(inputs), "y": np.array(labels)}, name=name, seed=seed)


def _inputs(x: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """As [N, H, W, C], uint8 or float32; a missing channel or height axis is added."""
    if x.ndim == 2:
        x = x[:, None, None, :]
    elif x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4:
        raise DataError(f"The inputs of '{name}' have {x.ndim} axes.", "Give [N, height, width, channels].")
    if x.dtype == np.uint8:
        return x
    if not np.issubdtype(x.dtype, np.number) or np.issubdtype(x.dtype, np.complexfloating):
        raise DataError(f"The inputs of '{name}' are of type {x.dtype}.", "Give uint8 images or float32 arrays.")
    return x.astype(np.float32)


def _labels(y: npt.NDArray[Any], name: str) -> npt.NDArray[np.int64]:
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise DataError(f"The labels of '{name}' have shape {y.shape} and type {y.dtype}.", "Give integers, one each.")
    return y.astype(np.int64)


def _deal(y: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """0 train, 1 val, 2 test, within each class."""
    generator = np.random.default_rng(seed)
    split = np.zeros(len(y), np.int64)
    for label in np.unique(y):
        own = generator.permutation(np.flatnonzero(y == label))
        test, val = max(1, round(0.15 * len(own))), max(1, round(0.15 * len(own)))
        split[own[:test]], split[own[test : test + val]] = 2, 1
    return split
