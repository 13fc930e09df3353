"""A model's file as bytes, no more than a model for a microcontroller can have."""

from __future__ import annotations

from pathlib import Path

from thumbnet.errors import ModelError

MAX_FILE_BYTES = 256 << 20


def model_bytes(path: Path) -> bytes:
    """Raises `ModelError` for a file that is missing, cannot be read, or is larger than 256 MB."""
    try:
        size = path.stat().st_size  # before anything is read
        with path.open("rb") as f:
            data = b"" if size > MAX_FILE_BYTES else f.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as e:
        raise ModelError(f"There is no file {path}.") from e
    except OSError as e:
        raise ModelError(f"{path} cannot be read ({e.strerror}).") from e
    if max(size, len(data)) > MAX_FILE_BYTES:
        raise ModelError(f"{path} has {max(size, len(data))} bytes, more than any model for a microcontroller.")
    return data
