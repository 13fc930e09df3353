"""`.npz` files and arrays as data sets."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from thumbnet.data.assemble import Samples, assemble, dealt
from thumbnet.data.dataset import SPLITS, Dataset, Meaning
from thumbnet.data.targets import read_targets
from thumbnet.errors import DataError

MAX_BYTES = 4 << 30  # of all arrays of a source, unpacked
MAX_MEMBERS = 64
MAX_ITEMS = 5_000_000
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_KEYS = "Give x and y, or x_train, y_train, x_val, y_val, x_test and y_test; 'classes' may hold the names."
MAX_PORTS = 16  # inputs, or targets, of a network

Ports = dict[str, npt.NDArray[Any]]  # by name; "" where there is one without a name


def load_npz(path: Path, seed: int = 0, task: str | None = None) -> Dataset:
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
    return from_arrays(arrays, name=path.stem, seed=seed, task=task)


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


def from_arrays(arrays: Mapping[str, Any], *, name: str, seed: int = 0, task: str | None = None) -> Dataset:
    """A data set from the arrays of an `.npz` file or a dict of the same keys.

    Several inputs or targets are keys such as `x_train.<input>`, or in Python a dict or tuple of arrays. Without
    `task`, labels are class numbers, but for `x_train` without `y_train`: that is anomaly detection.
    """
    classes = [str(c) for c in np.asarray(arrays["classes"]).ravel()] if "classes" in arrays else None
    if _ports(arrays, "x", name) and _ports(arrays, "y", name):
        kind = task or "classification"
        samples, meaning = _samples(arrays, "", kind, name)
        return assemble(dealt(samples, task=kind, name=name, seed=seed), meaning=meaning, classes=classes, name=name)
    there = {f"{a}_{s}" for s in SPLITS for a in "xy" if _ports(arrays, f"{a}_{s}", name)}
    kind = task or ("anomaly" if "x_train" in there and "y_train" not in there else "classification")
    optional = (
        {"y_train", "x_val", "y_val"} if kind == "anomaly" and ("x_val" in there) == ("y_val" in there) else set()
    )
    missing = [f"{a}_{s}" for s in SPLITS for a in "xy" if f"{a}_{s}" not in there | optional]
    if missing:
        has = ", ".join(sorted(map(str, arrays))[:8]) or "nothing"
        raise DataError(f"'{name}' lacks {', '.join(missing)} (it has {has}).", _KEYS)
    parts: dict[str, Samples] = {}
    meaning = Meaning(kind)
    for split in SPLITS:
        if f"x_{split}" in there:
            parts[split], own = _samples(arrays, f"_{split}", kind, name)
            meaning = meaning if split != "train" and own.target_names == () else own
            if own.input_names != meaning.input_names:
                raise DataError(f"The {split} split of '{name}' has other inputs than train.", "Give all the same.")
    return assemble(parts, meaning=meaning, classes=classes, name=name)


def _samples(arrays: Mapping[str, Any], suffix: str, task: str, name: str) -> tuple[Samples, Meaning]:
    """Inputs and targets under the keys "x" + suffix and "y" + suffix."""
    x, y = _ports(arrays, f"x{suffix}", name), _ports(arrays, f"y{suffix}", name)
    inputs = [as_inputs(v, _key(f"x{suffix}", k), name) for k, v in x.items()]
    if not y:  # normal samples
        y = {"": np.zeros(len(inputs[0]), np.int64)}
    targets = [read_targets(v, f"'{_key(f'y{suffix}', k)}' of '{name}'", task) for k, v in y.items()]
    names = tuple(x) if len(x) > 1 else (), tuple(k for k in y if k and not k.isdigit())
    return Samples(inputs[0], targets[0], tuple(inputs[1:]), tuple(targets[1:])), Meaning(task, *names)


def _ports(arrays: Mapping[str, Any], key: str, name: str) -> Ports:
    """The arrays under `key`: one, a dict or tuple of them, or those under `key.<name>`."""
    if key in arrays:
        value = arrays[key]
        if isinstance(value, Mapping):
            found = {str(k): v for k, v in value.items()}
        elif isinstance(value, tuple) and all(hasattr(v, "shape") and len(v.shape) for v in value):
            found = {str(k): v for k, v in enumerate(value)}
        else:
            found = {"": value}
    else:
        found = {str(k).removeprefix(f"{key}."): v for k, v in arrays.items() if str(k).startswith(f"{key}.")}
    if len(found) > MAX_PORTS:
        raise DataError(f"'{name}' has {len(found)} arrays '{key}'.", f"At most {MAX_PORTS} are taken.")
    return found


def _key(key: str, port: str) -> str:
    return f"{key}.{port}" if port else key


def as_inputs(x: Any, key: str, name: str) -> npt.NDArray[Any]:
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
    return typed(x, f"'{key}'", name)


def typed(x: npt.NDArray[Any], what: str, name: str) -> npt.NDArray[Any]:
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
