"""A model's file as bytes, no more than a model for a microcontroller can have."""

from __future__ import annotations

from pathlib import Path

from thumbnet.errors import ModelError

MAX_FILE_BYTES = 256 << 20


def model_bytes(path: Path) -> bytes:
    """Raises `ModelError` for a file that is missing, cannot be read, or is larger than 256 MB."""
    try:
        with path.open("rb") as f:
            data = f.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as e:
        raise ModelError(f"There is no file {path}.") from e
    except OSError as e:
        raise ModelError(f"{path} cannot be read ({e.strerror}).") from e
    if len(data) > MAX_FILE_BYTES:
        raise ModelError(f"{path} has more than {MAX_FILE_BYTES} bytes, more than any model for a microcontroller.")
    return data
