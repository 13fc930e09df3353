"""Files written whole or not at all, and JSON read within a size limit."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from thumbnet.errors import ThumbnetError

MAX_JSON_BYTES = 64 << 20


def write_bytes_atomic(path: Path, data: bytes) -> None:
    """Writes to a temporary file in the same folder, syncs it, and renames it over `path`.

    Raises `ThumbnetError` where the disk is full or the folder cannot be written; `path` then keeps its old content.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, tmp = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as e:
        raise ThumbnetError(f"Cannot write {path}: {e.strerror}.", "Check permissions and free disk space.") from e
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.chmod(tmp, 0o644)
        os.replace(tmp, path)
    except OSError as e:
        Path(tmp).unlink(missing_ok=True)
        raise ThumbnetError(f"Cannot write {path}: {e.strerror}.", "Free some disk space and run again.") from e
    except BaseException:
        Path(tmp).unlink(missing_ok=True)
        raise


def write_text_atomic(path: Path, text: str) -> None:
    write_bytes_atomic(path, text.encode())


def write_json_atomic(path: Path, value: Any) -> None:
    write_text_atomic(path, json.dumps(value, indent=1, sort_keys=False, allow_nan=False) + "\n")


def remove_files(folder: Path, names: Iterable[Any]) -> None:
    """Removes those of the named files that lie in `folder`, and folders in it that are empty then. The names may come
    from a file: others than relative ones within the folder are left alone."""
    for name in names:
        path = Path(str(name))
        if path.is_absolute() or ".." in path.parts:
            continue
        (folder / path).unlink(missing_ok=True)
        for parent in list(path.parents)[:-1]:
            if (folder / parent).is_dir() and not any((folder / parent).iterdir()):
                (folder / parent).rmdir()


def read_json(path: Path) -> Any:
    """Reads a JSON file; raises `ThumbnetError` when it is missing, larger than 64 MB or not JSON."""
    try:
        size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            raise ThumbnetError(f"{path} has {size} bytes, more than any file of ours.")
        return json.loads(path.read_text())
    except FileNotFoundError as e:
        raise ThumbnetError(f"{path} does not exist.") from e
    except (ValueError, RecursionError) as e:  # no JSON, no text, numbers too long or nesting too deep
        raise ThumbnetError(
            f"{path} is not valid JSON ({e}).", "It may be damaged; delete it to compute it again."
        ) from e
