"""`.npz` files and Python objects as data sets."""

from __future__ import annotations

import hashlib
import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from thumbnet.data.dataset import SPLITS, Dataset, Decoded, Labels, dataset_from_arrays
from thumbnet.data.deal import deal
from thumbnet.errors import DataError

MAX_BYTES = 4 << 30  # of all arrays of a source, unpacked
MAX_MEMBERS = 64
MAX_ITEMS = 5_000_000
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_KEYS = "Give x and y, or x_train, y_train, x_val, y_val, x_test and y_test; 'classes' may hold the names."


def load_npz(path: Path, seed: int = 0) -> Dataset:
    """`x_train`, `y_train`, `x_val`, ... or `x` and `y` (dealt 70/15/15); optional `classes`. Never unpickles.

    What the file's directory and each array's header announce is checked before anything is unpacked.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_directory(path, archive)
            arrays = {i.filename.removesuffix(".npy"): _member(path, archive, i) for i in archive.infolist()}
    except FileNotFoundError as e:
        raise DataError(f"The data file {path} does not exist.", "Check the path.") from e
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, NotImplementedError, RuntimeError) as e:
        raise DataError(
            f"{path} is not a readable .npz file of plain arrays ({e}).", "Save it with numpy.savez."
        ) from e
    return from_arrays(arrays, name=path.stem, seed=seed)


def _check_directory(path: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    size = sum(i.file_size for i in members)
    if size > MAX_BYTES:
        raise DataError(f"{path} unpacks to {size / (1 << 30):.1f} GB.", "At most 4 GB are read.")
    if len(members) > MAX_MEMBERS:
        raise DataError(f"{path} holds {len(members)} arrays.", _KEYS)


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> npt.NDArray[Any]:
    """One array; its shape must account for exactly the bytes that are there."""
    if not info.filename.endswith(".npy"):
        raise DataError(f"{path} holds '{info.filename}', which is no array.", "Save it with numpy.savez.")
    with archive.open(info) as f:
        shape, fortran, dtype = _header(f)
        if dtype.hasobject:
            raise DataError(
                f"The array '{info.filename}' of {path} holds Python objects, which are never unpickled; only plain "
                "arrays are read.",
                "Save numbers, with numpy.savez.",
            )
        expected = math.prod(shape) * dtype.itemsize
        data = f.read(expected + 1)  # the directory bounds this, whatever the header says
    if len(data) != expected:
        raise DataError(f"The array '{info.filename}' of {path} is cut short or too long.", "Save it again.")
    return np.frombuffer(bytearray(data), dtype).reshape(shape, order="F" if fortran else "C")


def _header(f: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(f)
    if version not in _HEADERS:
        raise ValueError(f"array format {version[0]}.{version[1]}")
    return _HEADERS[version](f)


def from_arrays(arrays: Mapping[str, Any], *, name: str, seed: int = 0) -> Dataset:
    """A data set from the arrays of an `.npz` file or a dict of the same keys."""
    classes = [str(c) for c in np.asarray(arrays["classes"]).ravel()] if "classes" in arrays else None
    if "x" in arrays and "y" in arrays:
        return _undealt(_inputs(arrays["x"], "x", name), _labels(arrays["y"], "y", name), classes, name, seed)
    missing = [f"{a}_{s}" for s in SPLITS for a in "xy" if f"{a}_{s}" not in arrays]
    if missing:
        has = ", ".join(sorted(map(str, arrays))[:8]) or "nothing"
        raise DataError(f"'{name}' lacks {', '.join(missing)} (it has {has}).", _KEYS)
    parts: dict[str, tuple[Decoded, Labels]] = {
        s: (_inputs(arrays[f"x_{s}"], f"x_{s}", name), _labels(arrays[f"y_{s}"], f"y_{s}", name)) for s in SPLITS
    }
    return dataset_from_arrays(parts, classes=classes or _numbered(*(y for _, y in parts.values())), name=name)


def from_splits(splits: Mapping[str, Iterable[Any]], *, name: str = "pairs") -> Dataset:
    """A data set from `{"train": pairs, "val": pairs, "test": pairs}`, each an iterable of (input, label)."""
    parts = {s: _collected(splits[s], f"{name}, {s}") for s in SPLITS if s in splits}
    return dataset_from_arrays(parts, classes=_numbered(*(y for _, y in parts.values())), name=name)


def from_pairs(pairs: Iterable[Any], *, name: str = "pairs", seed: int = 0) -> Dataset:
    """A data set from an iterable of (input, label), dealt 70/15/15.

    Inputs: Pillow images, arrays [H, W] or [H, W, C], or torch tensors, whose channels come first. uint8 images may
    differ in size.
    """
    x, y = _collected(pairs, name)
    return _undealt(x, y, None, name, seed)


def _undealt(x: Decoded, y: Labels, classes: list[str] | None, name: str, seed: int) -> Dataset:
    if len(x) != len(y):
        raise DataError(f"'{name}' has {len(x)} inputs but {len(y)} labels.", "Give one label per input.")
    contents = [hashlib.sha256(np.ascontiguousarray(v).data).hexdigest() for v in x]
    part = np.array(deal(y.tolist(), contents, seed), np.int64)
    parts: dict[str, tuple[Decoded, Labels]] = {}
    for k, split in enumerate(SPLITS):
        own = np.flatnonzero(part == k)
        parts[split] = (x[own] if isinstance(x, np.ndarray) else [x[i] for i in own.tolist()], y[own])
    return dataset_from_arrays(parts, classes=classes or _numbered(y), name=name)


def _numbered(*labels: Labels) -> list[str]:
    """Names of classes that have only numbers, counted up to the largest label."""
    count = max((int(y.max()) for y in labels if len(y)), default=0) + 1
    return [str(k) for k in range(min(max(count, 0), 10_001))]


# --- pairs


def _collected(pairs: Iterable[Any], name: str) -> tuple[Decoded, Labels]:
    inputs: list[npt.NDArray[Any]] = []
    labels: list[int] = []
    size = 0
    for k, pair in enumerate(_items(pairs)):
        x, label = _pair(pair, k, name)
        size += x.nbytes
        if size > MAX_BYTES or k >= MAX_ITEMS:
            raise DataError(f"'{name}' yields more than 4 GB or 5 million inputs.", "Use a part of them.")
        inputs.append(x)
        labels.append(label)
    if not inputs:
        raise DataError(f"'{name}' yields nothing.", "Yield (input, label) pairs.")
    return inputs, np.array(labels, np.int64)


def _items(pairs: Iterable[Any]) -> Iterator[Any]:
    """Sequences by index, up to their length: a torch `Dataset` need not end its iteration by itself."""
    sequence: Any = pairs
    if hasattr(sequence, "__getitem__") and hasattr(sequence, "__len__"):
        return (sequence[k] for k in range(len(sequence)))
    return iter(pairs)


def _pair(pair: Any, k: int, name: str) -> tuple[npt.NDArray[Any], int]:
    if not isinstance(pair, Sequence) or isinstance(pair, str | bytes) or len(pair) != 2:
        raise DataError(
            f"Item {k} of '{name}' is a {type(pair).__name__}, not an (input, label) pair.",
            "Yield pairs of array and int.",
        )
    x, label = pair
    number = np.asarray(label)
    if number.size != 1 or not np.issubdtype(number.dtype, np.integer):
        raise DataError(
            f"The label of item {k} of '{name}' is {str(label)[:40]!r}, not a whole number.",
            "Number the classes from 0.",
        )
    if getattr(x, "mode", "L") not in ("L", "RGB") and hasattr(x, "convert"):
        raise DataError(f"Item {k} of '{name}' is an image of mode {x.mode}.", "Convert it to L or RGB first.")
    channels_first = hasattr(x, "detach")  # a torch tensor
    value = np.asarray(x.detach().cpu() if channels_first else x)
    if value.ndim in (1, 2):
        value = np.atleast_2d(value)[..., None]
    elif value.ndim == 3 and channels_first:
        value = value.transpose(1, 2, 0)
    if value.ndim != 3:
        raise DataError(f"Item {k} of '{name}' has shape {value.shape}.", "Give (height, width, channels).")
    return _typed(value, f"item {k}", name), int(number.item())


# --- arrays


def _inputs(x: Any, key: str, name: str) -> npt.NDArray[Any]:
    """As [N, H, W, C], uint8 or float32. [N, H, W] gets one channel, [N, L] also height 1; uint8 images with channels
    first are turned."""
    x = np.asarray(x)
    if x.ndim == 2:
        x = x[:, None, :, None]
    elif x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4:
        raise DataError(f"'{key}' of '{name}' has {x.ndim} axes.", "Give [N, height, width, channels].")
    if x.dtype == np.uint8 and x.shape[3] not in (1, 3) and x.shape[1] in (1, 3):
        x = x.transpose(0, 2, 3, 1)
    return _typed(x, f"'{key}'", name)


def _typed(x: npt.NDArray[Any], what: str, name: str) -> npt.NDArray[Any]:
    if x.dtype == np.uint8:
        return x
    if np.issubdtype(x.dtype, np.floating):
        with np.errstate(over="ignore"):  # what becomes infinite is refused with its place
            return x.astype(np.float32)
    if np.issubdtype(x.dtype, np.integer) and x.size and x.min() >= 0 and x.max() <= 255:
        return x.astype(np.uint8)
    raise DataError(
        f"The values of {what} of '{name}' are of type {x.dtype}"
        + (f" and span {x.min()} to {x.max()}." if np.issubdtype(x.dtype, np.integer) and x.size else "."),
        "Give uint8 images, or float32 arrays.",
    )


def _labels(y: Any, key: str, name: str) -> Labels:
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2:
        raise DataError(
            f"The labels '{key}' of '{name}' have shape {y.shape}.", "Give class numbers: argmax(1) of one-hot rows."
        )
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise DataError(
            f"The labels '{key}' of '{name}' have shape {y.shape} and type {y.dtype}.",
            "Give whole numbers from 0, one for each input.",
        )
    return np.asarray(y, np.int64)
