"""The errors a user can meet. Each says what is wrong, where, and what to do next.

Everything Thumbnet raises on purpose derives from `ThumbnetError`; the command line prints it as one sentence and exits
with its `exit_code`. Anything else is a bug in Thumbnet and keeps its traceback.
"""

from __future__ import annotations


class ThumbnetError(Exception):
    """What went wrong (with where), and the way out.

    `hint` is a full sentence that tells the user what to do; it may be empty only where the message already does.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class UsageError(ThumbnetError):
    """An argument that cannot be understood."""

    exit_code = 2


class ModelError(ThumbnetError):
    """The model file or object cannot be used: corrupt, wrong kind, wrong shapes."""

    exit_code = 3


class UnsupportedOpError(ModelError):
    """The model needs an operation that Thumbnet does not have."""

    def __init__(self, op: str, node: str, nearest: str = "") -> None:
        super().__init__(
            f"The operation '{op}' (node '{node}') is not supported.",
            nearest or "Replace it by a supported operation before importing.",
        )
        self.op = op
        self.node = node


class DataError(ThumbnetError):
    """The data set cannot be used."""

    exit_code = 4


class TargetError(ThumbnetError):
    """Unknown board or core, or a description of one that cannot be true."""

    exit_code = 5


class InfeasibleError(ThumbnetError):
    """No network found that meets the limits; the message names the nearest misses."""

    exit_code = 6


class RunError(ThumbnetError):
    """The run directory is in use, belongs to another job, or is damaged."""

    exit_code = 7


class ToolchainError(ThumbnetError):
    """The compiler or the emulator is missing or failed."""

    exit_code = 8


class VerificationError(ThumbnetError):
    """The firmware differs from the reference arithmetic. This is never expected."""

    exit_code = 9
