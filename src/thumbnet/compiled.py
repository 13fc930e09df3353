"""What `compile` leaves in its folder besides the C: enough to verify and profile it later, and to compile again."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.errors import RunError, ThumbnetError, UsageError
from thumbnet.exporters.c.emit import template
from thumbnet.files import read_json, remove_files, write_bytes_atomic, write_json_atomic
from thumbnet.importers.quantized_models import QuantizedModel
from thumbnet.integer.graph import IntegerGraph
from thumbnet.targets import Target, load_target
from thumbnet.version import __version__

RECORD = "compiled.json"
GRAPH = "integer.json"
INPUTS = "proof_inputs.npy"
ORIGINAL = "original.tflite"
BOARD = "target.toml"
_FORMAT = 1


def is_compiled(folder: Path) -> bool:
    return (folder / RECORD).is_file()


def may_write(folder: Path) -> None:
    """Raises `UsageError` where `folder` holds something that `compile` has not made."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file.", "Name a folder for the firmware.")
    if folder.is_dir() and any(folder.iterdir()) and not is_compiled(folder):
        raise UsageError(f"{folder} holds other files.", "Name a new folder for the firmware, or empty this one.")


def forget(folder: Path) -> None:
    """Removes the C files of an earlier compilation, so that none of them is built into the next."""
    if not is_compiled(folder):
        return
    remove_files(folder, _record(folder).get("files", []))


def write_record(
    folder: Path,
    model: QuantizedModel,
    graph: IntegerGraph,
    target: str | Path,
    options: dict[str, Any],
    files: Sequence[str],
    inputs: npt.NDArray[np.int8],
    places: Mapping[str, str],
) -> None:
    """Everything that `verify` and `profile` read later. A board of the user's own is copied beside it.

    `files` are all that were written, `places` tells the network's sources by their paths in the CMake layout.
    """
    graph.save(folder / GRAPH)
    _save_array(folder / INPUTS, inputs)
    if model.tflite is not None:
        write_bytes_atomic(folder / ORIGINAL, model.tflite.data)
    else:
        (folder / ORIGINAL).unlink(missing_ok=True)
    name = str(target)
    if name.endswith(".toml"):
        write_bytes_atomic(folder / BOARD, Path(target).read_bytes())
        name = BOARD
    record = {"format": _FORMAT, "thumbnet": __version__, "model": model.name, "target": name, **options}
    write_json_atomic(folder / RECORD, {**record, "files": sorted(files), "places": dict(places)})


@contextmanager
def buildable(folder: Path) -> Iterator[Path]:
    """The firmware as the toolchain takes it: the folder itself, or a copy of another layout's sources, with a main.

    Raises `RunError` where a source is missing.
    """
    record = _record(folder)
    if record.get("layout", "cmake") == "cmake":
        yield folder
        return
    with TemporaryDirectory(prefix="thumbnet-") as scratch:
        copy = Path(scratch)
        for path, placed in dict(record.get("places", {})).items():
            if Path(path).is_absolute() or ".." in Path(path).parts:
                raise RunError(f"{folder / RECORD} names {path}.", "Run 'thumbnet compile' again.")
            try:
                write_bytes_atomic(copy / path, (folder / placed).read_bytes())
            except OSError as e:
                raise RunError(f"{folder / placed} cannot be read.", "Run 'thumbnet compile' again.") from e
        (copy / "main.c").write_text(template("main.c.j2").render(test_vector=False), encoding="utf-8")
        yield copy


def read_target(folder: Path) -> Target:
    """The target that a folder was compiled for."""
    name = str(_record(folder).get("target", ""))
    return load_target(folder / BOARD if name == BOARD else name)


def read_name(folder: Path) -> str:
    """What the model was called."""
    return str(_record(folder).get("model", folder.name))


def read_options(folder: Path) -> dict[str, Any]:
    return {k: v for k, v in _record(folder).items() if k in ("softmax", "lossless", "kernels", "cmsis_nn", "ram")}


def calls_cmsis_nn(folder: Path) -> bool:
    return bool(read_options(folder).get("kernels") == "cmsis-nn")


def read_inputs(folder: Path) -> npt.NDArray[np.int8]:
    try:
        inputs: npt.NDArray[np.int8] = np.load(folder / INPUTS, allow_pickle=False)
    except (OSError, ValueError, EOFError) as e:
        raise RunError(f"{folder / INPUTS} cannot be read.", "Run 'thumbnet compile' again.") from e
    return inputs


def _record(folder: Path) -> dict[str, Any]:
    try:
        record = read_json(folder / RECORD)
    except ThumbnetError as e:
        raise RunError(e.message, "Run 'thumbnet compile' again.") from e
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise RunError(f"{folder / RECORD} is not of this version of Thumbnet.", "Run 'thumbnet compile' again.")
    return record


def _save_array(path: Path, values: npt.NDArray[np.int8]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    write_bytes_atomic(path, buffer.getvalue())
