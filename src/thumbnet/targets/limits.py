"""The limits of a run as users write them, checked against the board."""

from __future__ import annotations

import math

from thumbnet.errors import UsageError
from thumbnet.results import Constraints
from thumbnet.targets.target import Target
from thumbnet.targets.units import parse_size


def limits_on(
    board: Target,
    *,
    flash: str | int | None = None,
    ram: str | int | None = None,
    latency_ms: float | None = None,
    cycles: int | None = None,
    macs: int | None = None,
    energy_mj: float | None = None,
    max_drop: float | None = None,
    metric_limit: float | None = None,
) -> Constraints:
    """The limits, with the board's own flash and RAM where they are smaller or left out.

    Raises `UsageError` for what is no size or no positive number, and for a limit on energy where the board's
    description does not tell what it draws.
    """
    if energy_mj is not None and board.active_mw is None:
        raise UsageError(
            f"Energy cannot be limited on {board.name}: its description does not tell what it draws.",
            "Give a board with active_ma and supply_v (docs/targets.md), or limit the latency instead.",
        )
    if metric_limit is not None and not math.isfinite(metric_limit):
        raise UsageError(f"metric_limit must be a number, not {metric_limit}.", "Leave it out for no limit.")
    return Constraints(
        flash_bytes=board.flash_bytes if flash is None else min(board.flash_bytes, parse_size(flash)),
        ram_bytes=board.ram_bytes if ram is None else min(board.ram_bytes, parse_size(ram)),
        latency_ms=_positive("latency_ms", latency_ms),
        cycles=_whole("cycles", cycles),
        macs=_whole("macs", macs),
        energy_mj=_positive("energy_mj", energy_mj),
        max_drop=_positive("max_drop", max_drop, zero=True),
        metric_limit=metric_limit,
    )


def _whole(name: str, value: int | None) -> int | None:
    number = _positive(name, value)
    return None if number is None else max(1, int(number))


def _positive(name: str, value: float | None, *, zero: bool = False) -> float | None:
    if value is not None and not (0 < value < math.inf or (value == 0 and zero)):
        raise UsageError(f"{name} must be positive, not {value}.", "Leave it out for no limit.")
    return value
