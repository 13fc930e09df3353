"""Sizes as people write them: "256KB" is 256 · 1024 bytes."""

from __future__ import annotations

import re

from thumbnet.errors import UsageError

_FACTORS = {
    "": 1,
    "b": 1,
    "k": 1 << 10,
    "kb": 1 << 10,
    "kib": 1 << 10,
    "m": 1 << 20,
    "mb": 1 << 20,
    "mib": 1 << 20,
}
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([a-z]*)")
MAX_BYTES = 1 << 40


def parse_size(size: str | int) -> int:
    """Bytes in `size`: a number of bytes, or a text such as "256KB", "96 KiB", "1.5MB" (1 KB = 1024 bytes).

    Raises `UsageError` unless it is a whole, positive number of bytes.
    """
    advice = 'Write it like "256KB" or "1MB" (1 KB = 1024 bytes).'
    if isinstance(size, bool) or not isinstance(size, str | int):
        raise UsageError(f"{size!r} is not a size.", advice)
    bytes_: float
    if isinstance(size, int):
        bytes_ = size
    else:
        match = _SIZE.fullmatch(size.strip().lower())
        if match is None or match[2] not in _FACTORS:
            raise UsageError(f"{size!r} is not a size.", advice)
        bytes_ = float(match[1]) * _FACTORS[match[2]]
    if not 0 < bytes_ <= MAX_BYTES:
        raise UsageError(f"A size must be positive and below 1 TB, not {size!r}.", advice)
    if bytes_ != int(bytes_):
        raise UsageError(f"{size!r} is not a whole number of bytes.", advice)
    return int(bytes_)
