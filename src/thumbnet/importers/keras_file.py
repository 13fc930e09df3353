"""Keras files as plain values: the configuration as JSON, the weights as an HDF5 file that was looked through.

Files come from strangers. A `.keras` file is a zip archive whose members are bounded before any is unpacked; an HDF5
file may point to other files, or at itself, and neither is followed. Keras sees nothing that was not checked here.
"""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thumbnet.errors import ModelError

MAX_FILE_BYTES = 512 << 20
MAX_CONFIG_BYTES = 16 << 20
MAX_OBJECTS = 1 << 16  # groups and datasets of an HDF5 file
MAX_DEPTH = 64
MAX_ATTRIBUTE_BYTES = 1 << 20
MAX_WEIGHT_BYTES = 512 << 20  # all datasets of a file together

_MEMBERS = {"metadata.json": 1 << 16, "config.json": MAX_CONFIG_BYTES, "model.weights.h5": MAX_FILE_BYTES}
_EXTRA = "pip install 'thumbnet[keras]'"
# What h5py and zipfile raise on damaged bytes.
_DAMAGED = (
    *(OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, OverflowError, EOFError),
    *(struct.error, zipfile.BadZipFile, zlib.error, NotImplementedError),
)


@dataclass(frozen=True, eq=False)
class KerasFile:
    """`weights` is an HDF5 file; `legacy` says whether the whole model was one. `version` is Keras's: "2.4.0"."""

    name: str
    config: dict[str, Any]
    version: str
    weights: bytes
    elements: int  # numbers in it
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
        raise ModelError(f"{path} is damaged or no Keras model ({_told(e)}).", "Copy or save the model again.") from e


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
                raise ModelError(f"{path}: '{member.filename}' unpacks to {member.file_size} bytes; {limit} are read.")
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
    elements, _ = _looked_through(weights, path)
    return KerasFile(path.stem, config, str(metadata.get("keras_version", ""))[:40], weights, elements, legacy=False)


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
    elements, texts = _looked_through(data, path)
    if "model_config" not in texts:
        raise ModelError(
            f"{path} holds weights, but no network.", "Save the whole model with model.save(), not only its weights."
        )
    config, version = _json(texts["model_config"], path), texts.get("keras_version", "")
    return KerasFile(path.stem, config, version[:40], data, elements, legacy=True)


def h5py_module() -> Any:
    try:
        import h5py
    except ImportError as e:
        raise ModelError("The Python package 'h5py' is not installed.", f"Install it with `{_EXTRA}`.") from e
    return h5py


def _looked_through(data: bytes, path: Path) -> tuple[int, dict[str, str]]:
    """(numbers in all datasets, texts of the root); raises where anything leads elsewhere or is too big."""
    h5py = h5py_module()
    with h5py.File(io.BytesIO(data), "r") as file:
        seen: set[Any] = set()
        total = elements = 0
        todo = [(file, 0)]
        while todo:
            item, depth = todo.pop()
            _attributes(h5py, item, path)
            where = h5py.h5o.get_info(item.id).addr
            if where in seen or len(seen) >= MAX_OBJECTS or depth > MAX_DEPTH:
                raise ModelError(f"{path} links to '{item.name[:80]}' twice, or holds too much.", "Save it again.")
            seen.add(where)
            if isinstance(item, h5py.Dataset):
                size = _dataset(h5py, item, path)
                elements, total = elements + size, total + size * item.dtype.itemsize
                if total > MAX_WEIGHT_BYTES:
                    raise ModelError(f"{path} holds more than {MAX_WEIGHT_BYTES >> 20} MB of weights.")
            else:
                todo += [(_member(h5py, item, name, path), depth + 1) for name in _names(item, path)]
        texts = {k: _text(file.attrs[k]) for k in ("model_config", "keras_version") if k in file.attrs}
    return elements, texts


def _names(group: Any, path: Path) -> list[bytes]:
    count = group.id.get_num_objs()
    if count > MAX_OBJECTS:
        raise ModelError(f"{path}: the group '{group.name[:80]}' has {count} members; at most {MAX_OBJECTS} are read.")
    return [group.id.get_objname_by_idx(k) for k in range(count)]


def _member(h5py: Any, group: Any, name: bytes, path: Path) -> Any:
    if group.id.links.get_info(name).type != h5py.h5l.TYPE_HARD:
        raise ModelError(
            f"{path}: '{name.decode(errors='replace')[:80]}' in '{group.name[:80]}' points elsewhere; links are not "
            "followed.",
            "Save the model into one file.",
        )
    found = group[name]
    if not isinstance(found, h5py.Group | h5py.Dataset):
        raise ModelError(f"{path} holds '{name.decode(errors='replace')[:80]}', which is no weight.")
    return found


def _dataset(h5py: Any, item: Any, path: Path) -> int:
    """The number of elements. Only plain numbers, stored in this very file, are accepted."""
    plan = item.id.get_create_plist()
    if plan.get_external_count() or plan.get_layout() == h5py.h5d.VIRTUAL:
        raise ModelError(f"{path}: '{item.name[:80]}' is stored in another file.", "Save the model into one file.")
    if item.dtype.kind not in "fiub" or item.shape is None:
        raise ModelError(f"{path}: '{item.name[:80]}' holds {item.dtype}, not numbers.", "Save the model again.")
    known = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
    if any(plan.get_filter(k)[0] not in known for k in range(plan.get_nfilters())):
        raise ModelError(f"{path}: '{item.name[:80]}' is packed in an unusual way.", "Save it with gzip or unpacked.")
    size = math.prod(int(d) for d in item.shape)
    if size * item.dtype.itemsize > MAX_WEIGHT_BYTES:
        raise ModelError(f"{path}: '{item.name[:80]}' has the shape {item.shape}, more than is read.")
    return size


def _attributes(h5py: Any, item: Any, path: Path) -> None:
    """Attributes are read whole, and texts of variable length may share their bytes: both are bounded."""
    count = h5py.h5a.get_num_attrs(item.id)
    if count > MAX_OBJECTS:
        raise ModelError(f"{path}: '{item.name[:80]}' has {count} attributes; at most {MAX_OBJECTS} are read.")
    for k in range(count):
        attribute = h5py.h5a.open(item.id, index=k)
        limit = MAX_CONFIG_BYTES if attribute.name == b"model_config" else MAX_ATTRIBUTE_BYTES
        kind, size = attribute.get_type(), math.prod(attribute.shape)
        text = kind.get_class() == h5py.h5t.STRING
        plain = text or kind.get_class() in (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM)
        shared = text and kind.is_variable_str() and size > 1
        if not plain or shared or size * kind.get_size() > limit:
            name = attribute.name.decode(errors="replace")[:80]
            raise ModelError(f"{path}: the attribute '{name}' is larger than any of Keras's, or of another kind.")


def _text(value: Any) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
