"""What a test learns from one call of the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    code: int
    error: str  # the last line of standard error


Run = Callable[..., Outcome]
