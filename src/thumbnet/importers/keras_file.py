"""Keras files as plain values: the configuration as JSON, the weights as arrays.

Files come from strangers. A `.keras` file is a zip archive whose members are bounded before any is unpacked. HDF5 is
read in a process of its own (`thumbnet.importers.hdf5_child`), which hands on plain arrays; Keras gets these in a new
file, never the one that came in.
"""

from __future__ import annotations

import importlib.util
import io
import json
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.errors import ModelError

MAX_FILE_BYTES = 512 << 20
MAX_CONFIG_BYTES = 16 << 20
MAX_WEIGHT_BYTES = 512 << 20  # all datasets of a file together

_MEMBERS = {"metadata.json": 1 << 16, "config.json": MAX_CONFIG_BYTES, "model.weights.h5": MAX_FILE_BYTES}
_TIMEOUT_S = 30  # of reading one HDF5 file
_AGAIN = "Copy or save the model again."
_EXTRA = "pip install 'thumbnet[keras]'"
# What h5py and zipfile raise on damaged bytes.
_DAMAGED = (
    *(OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, OverflowError, EOFError),
    *(struct.error, zipfile.BadZipFile, zlib.error, NotImplementedError),
)


@dataclass(frozen=True, eq=False)
class Weights:
    """What was in an HDF5 file: attributes of groups and datasets by name, and the values of datasets."""

    attributes: Mapping[str, Mapping[str, Any]]
    arrays: Mapping[str, npt.NDArray[Any]]

    @property
    def elements(self) -> int:
        return sum(a.size for a in self.arrays.values())

    def write(self, path: Path) -> None:
        """As a new HDF5 file, which holds nothing else."""
        import h5py

        with h5py.File(path, "w") as file:
            for name, attributes in self.attributes.items():
                item = file.create_dataset(name, data=self.arrays[name]) if name in self.arrays else None
                item = file.require_group(name) if item is None else item
                for key, value in attributes.items():
                    if key in ("model_config", "training_config"):
                        continue
                    texts = isinstance(value, list) and value and isinstance(value[0], str)
                    item.attrs.create(key, value, dtype=h5py.string_dtype() if texts else None)


@dataclass(frozen=True, eq=False)
class KerasFile:
    """`legacy` says whether the whole model was an HDF5 file. `version` is Keras's, such as "2.4.0"."""

    name: str
    config: dict[str, Any]
    version: str
    weights: Weights
    legacy: bool

    @property
    def major(self) -> int:
        """0 where the file does not say."""
        first = self.version.split(".")[0]
        return int(first) if first.isascii() and first.isdigit() else 0


def read_keras(path: Path) -> KerasFile:
    """Raises `ModelError` for anything but a whole Keras model with its weights."""
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ModelError(f"{path} has {size} bytes, more than any model for a microcontroller.")
        data = path.read_bytes()
    except OSError as e:
        raise ModelError(f"Cannot read {path}: {e.strerror}.") from e
    try:
        return _from_zip(path, data) if data[:2] == b"PK" else _from_hdf5(path, data)
    except _DAMAGED as e:
        raise ModelError(f"{path} is damaged or no Keras model ({_told(e)}).", _AGAIN) from e


def _told(e: BaseException) -> str:
    text = (str(e).splitlines() or [""])[0][:160]
    return f"{type(e).__name__}: {text}" if text else type(e).__name__


# --- the new format


def _from_zip(path: Path, data: bytes) -> KerasFile:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        found = archive.infolist()
        for member in found:
            limit = _MEMBERS.get(member.filename)
            if limit is None:
                raise ModelError(
                    f"{path} holds '{member.filename[:80]}', which a network does not need.",
                    "Layers with vocabularies or files of their own (such as TextVectorization) are not supported.",
                )
            if member.file_size > limit:
                raise ModelError(
                    f"{path}: '{member.filename}' unpacks to {member.file_size} bytes.", f"At most {limit} are read."
                )
            if member.flag_bits & 1:
                raise ModelError(f"{path} is encrypted.", "Save the model without a password.")
        names = [m.filename for m in found]
        if len(set(names)) != len(names):
            raise ModelError(f"{path} holds two members of one name.", "Save the model again.")
        missing = {"config.json", "model.weights.h5"} - set(names)
        if missing:
            raise ModelError(
                f"{path} lacks '{sorted(missing)[0]}'.", "Save the whole model: model.save('model.keras')."
            )
        config = _json(archive.read("config.json"), path)
        metadata = _json(archive.read("metadata.json"), path) if "metadata.json" in names else {}
        weights = archive.read("model.weights.h5")
    version = str(metadata.get("keras_version", ""))[:40]
    return KerasFile(path.stem, config, version, _hdf5(weights, path), legacy=False)


def _json(data: bytes | str, path: Path) -> dict[str, Any]:
    if len(data) > MAX_CONFIG_BYTES:
        raise ModelError(f"{path} has a configuration of {len(data)} bytes; at most {MAX_CONFIG_BYTES} are read.")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise ModelError(f"{path} holds no valid configuration ({type(e).__name__}).", "Save the model again.") from e
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds a configuration that is no network.")
    return found


# --- HDF5


def _from_hdf5(path: Path, data: bytes) -> KerasFile:
    weights = _hdf5(data, path)
    texts = weights.attributes["/"]
    if not isinstance(texts.get("model_config"), str):
        raise ModelError(
            f"{path} holds weights, but no network.", "Save the whole model with model.save(), not only its weights."
        )
    config, version = _json(texts["model_config"], path), str(texts.get("keras_version", ""))
    return KerasFile(path.stem, config, version[:40], weights, legacy=True)


def _hdf5(data: bytes, path: Path) -> Weights:
    """Read in a process of its own, in which HDF5 may hang or crash."""
    if importlib.util.find_spec("h5py") is None:
        raise ModelError("The Python package 'h5py' is not installed.", f"Install it with `{_EXTRA}`.")
    with tempfile.TemporaryDirectory(prefix="thumbnet-") as folder:
        request, result = Path(folder, "request.h5"), Path(folder, "result.npz")
        request.write_bytes(data)
        command = [sys.executable, hdf5_child_path(), str(request), str(result), str(MAX_WEIGHT_BYTES)]
        try:
            process = subprocess.run(command, capture_output=True, check=False, timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired as e:
            raise ModelError(f"{path} is damaged: it cannot be read in {_TIMEOUT_S} s.", _AGAIN) from e
        if process.returncode != 0:
            told = process.stdout.decode(errors="replace").strip()[:400] if process.returncode == 3 else ""
            raise ModelError(f"{path} cannot be read. {told or 'It is damaged.'}", _AGAIN)
        with np.load(result, allow_pickle=False) as found:
            tree = json.loads(found["tree"].tobytes())
            arrays = tuple(found[str(e["array"])] for e in tree if e["array"] is not None)
    texts = {str(e["name"]): e["attributes"] for e in tree}
    names = tuple(str(e["name"]) for e in tree if e["array"] is not None)
    return Weights(texts, dict(zip(names, arrays, strict=True)))


def hdf5_child_path() -> str:
    return str(Path(__file__).with_name("hdf5_child.py"))
