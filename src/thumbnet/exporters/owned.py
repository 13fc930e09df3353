"""Exported files and folders: written whole, and over nothing that Thumbnet has not written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from thumbnet.errors import UsageError
from thumbnet.files import read_json, remove_files, write_bytes_atomic, write_json_atomic
from thumbnet.version import __version__

RECORD = "exported.json"  # in a folder that an export has written
_MAX_FILE_BYTES = 256 << 20
_OURS = b"Thumbnet"  # what our files say of their producer


def write_file(path: Path, data: bytes) -> None:
    """Raises `UsageError` where `path` is a folder, or a file of others."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder.", "Name a file.")
    if path.exists() and not _is_ours(path):
        raise UsageError(f"{path} exists and was not written by Thumbnet.", "Name another file, or remove that one.")
    write_bytes_atomic(path, data)


def _is_ours(path: Path) -> bool:
    """Whether the file names Thumbnet as its producer, as our TFLite and ONNX files do."""
    if path.stat().st_size > _MAX_FILE_BYTES:
        return False
    data = path.read_bytes()
    return _OURS in (data if data[4:8] == b"TFL3" else data[:64])


def write_folder(folder: Path, kind: str, files: Mapping[str, bytes]) -> None:
    """`files` by their names, in place of what an earlier export has left there."""
    may_write(folder)
    forget(folder)
    for name, data in files.items():
        write_bytes_atomic(folder / name, data)
    record(folder, kind, list(files))


def may_write(folder: Path) -> None:
    """Raises `UsageError` where `folder` holds something that no export has written."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file.", "Name a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / RECORD).is_file():
        raise UsageError(f"{folder} holds other files.", "Name a new folder, or empty this one.")


def forget(folder: Path) -> None:
    """Removes what an earlier export has left in the folder, so that nothing of it mixes with the next."""
    if not (folder / RECORD).is_file():
        return
    kept = read_json(folder / RECORD)
    remove_files(folder, kept.get("files", []) if isinstance(kept, dict) else [])


def record(folder: Path, kind: str, files: list[str]) -> None:
    """Says of the folder what has been exported there, so that it may be overwritten later."""
    write_json_atomic(folder / RECORD, {"thumbnet": __version__, "format": kind, "files": sorted(files)})
