"""Lengths of time as people write them: "30min", "2h", "45s", "1h 30min"."""

from __future__ import annotations

import math
import re

from thumbnet.errors import UsageError

_UNITS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600}
_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*([a-z]+)\s*")


def parse_duration(length: str | float) -> float:
    """Seconds in `length`: a number of seconds, or a text such as "30min", "2h", "45s", "1h 30min".

    Raises `UsageError` unless it is a finite, positive length of time.
    """
    refusal = UsageError(f"{length!r} is no length of time.", 'Write it like "45s", "30min", "2h" or "1h 30min".')
    if isinstance(length, bool) or not isinstance(length, str | int | float):
        raise refusal
    seconds = _of_text(length.strip().lower()) if isinstance(length, str) else float(length)
    if seconds is None or not 0 < seconds < math.inf:
        raise refusal
    return seconds


def _of_text(text: str) -> float | None:
    """None where it is no length of time."""
    if re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,6})?", text):
        return float(text)
    parts = _PART.findall(text)
    if not parts or _PART.sub("", text) or any(unit not in _UNITS for _, unit in parts):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
