"""The names of the tasks, for those who only check them."""

from __future__ import annotations

from thumbnet.errors import UsageError

TASK_NAMES = ("classification", "multi-label", "regression", "segmentation", "anomaly", "custom")


def check_task_name(name: str) -> str:
    """Raises `UsageError` for a name that is none of `TASK_NAMES`."""
    if name not in TASK_NAMES:
        raise UsageError(f"There is no task '{name}'.", f"Choose one of {', '.join(TASK_NAMES)}.")
    return name
