"""Constants of an ONNX file as arrays: from the file itself, or from a file beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.errors import ModelError

Array = npt.NDArray[Any]

MAX_RANK = 8
MAX_TENSOR_BYTES = 64 << 20
DTYPES = {  # by the numbers of TensorProto.DataType
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
}
_FIELDS = {  # where numbers are that are not in raw_data; those of all other types are in int32_data
    "float32": "float_data",
    "float64": "double_data",
    "int64": "int64_data",
    "uint32": "uint64_data",
    "uint64": "uint64_data",
}
_EXTERNAL = 1  # TensorProto.DataLocation


@dataclass(eq=False)
class External:
    """Where numbers outside of the file may be: in `folder`, nowhere if None. At most `bytes_left` are read."""

    folder: Path | None
    where: str
    bytes_left: int

    def read(self, name: str, entries: dict[str, str], expected: int) -> bytes:
        """Raises `ModelError` for a place outside of the folder, or with fewer bytes than `expected`."""
        relative = PurePosixPath(entries.get("location", "").replace("\\", "/"))
        if self.folder is None or not relative.parts or relative.is_absolute() or ".." in relative.parts:
            raise self._refused(name, f"'{relative}'")
        path = (self.folder / relative).resolve()
        if not path.is_relative_to(self.folder.resolve()) or not path.is_file():
            raise self._refused(name, f"'{relative}'")
        offset, length = int(entries.get("offset", "0")), int(entries.get("length", str(expected)))
        self.bytes_left -= expected
        if self.bytes_left < 0 or not 0 <= offset < 1 << 40 or length != expected:
            raise self._refused(name, f"{length} bytes at {offset} of '{relative}', which need {expected}")
        try:
            with path.open("rb") as f:
                f.seek(offset)
                data = f.read(expected)
        except OSError as e:
            raise self._refused(name, f"'{relative}' ({e.strerror})") from e
        if len(data) != expected:
            raise self._refused(name, f"'{relative}', which ends before them")
        return data

    def _refused(self, name: str, place: str) -> ModelError:
        return ModelError(
            f"{self.where} keeps the numbers of '{name}' in {place}.",
            "They may be in a file beside the model only, whole; or save it with onnx.save, all in one file.",
        )


def text(value: str | bytes) -> str:
    """A text of a message, which protobuf gives as bytes where it is not UTF-8. Raises `ValueError` for such."""
    return value.decode("utf-8") if isinstance(value, bytes) else value


def constant(t: Any, external: External) -> Array:
    """The numbers of a TensorProto, read-only, in its shape.

    Raises `ValueError` where they are not as many as the shape says, `ModelError` for types that nothing here reads.
    """
    name, dtype = text(t.name)[:80], DTYPES.get(t.data_type)
    if dtype is None:
        raise ModelError(
            f"{external.where}: the constant '{name}' is of a type ({t.data_type}) that is not supported.",
            "Quantize weights and activations to int8 or uint8.",
        )
    shape = tuple(int(d) for d in t.dims)
    if len(shape) > MAX_RANK or any(d < 0 for d in shape):
        raise ValueError(f"a constant of the shape {list(shape[:MAX_RANK])}")
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size > MAX_TENSOR_BYTES:
        raise ModelError(
            f"{external.where}: the constant '{name}' takes {size} bytes.",
            f"At most {MAX_TENSOR_BYTES >> 20} MB per constant are read.",
        )
    if t.data_location == _EXTERNAL:
        entries = {text(e.key): text(e.value) for e in t.external_data}
        values = _from_bytes(external.read(name, entries, size), dtype)
    elif t.HasField("raw_data"):
        if len(t.raw_data) != size:
            raise ValueError(f"a constant of {size} bytes has {len(t.raw_data)}")
        values = _from_bytes(t.raw_data, dtype)
    else:
        values = _from_field(getattr(t, _FIELDS.get(dtype, "int32_data")), math.prod(shape), dtype)
    return values.reshape(shape)


def _from_bytes(data: bytes, dtype: str) -> Array:
    return np.frombuffer(data, np.dtype(dtype).newbyteorder("<")).astype(dtype, copy=False)


def _from_field(field: Any, count: int, dtype: str) -> Array:
    if len(field) != count:
        raise ValueError(f"a constant of {count} numbers has {len(field)}")
    if dtype == "float16":  # stored as its bits
        return np.fromiter(field, np.int64, count).astype(np.uint16).view(np.float16)
    wide: Any = np.float64 if dtype.startswith("float") else np.uint64 if dtype == "uint64" else np.int64
    given = np.fromiter(field, wide, count)
    values = given.astype(dtype)
    if not dtype.startswith("float") and not np.array_equal(values.astype(wide), given):
        raise ValueError(f"numbers outside of {dtype}")
    return values
