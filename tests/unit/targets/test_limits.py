"""Limits as users write them."""

from __future__ import annotations

import math

import pytest

from thumbnet.cost.latency import energy_mj
from thumbnet.errors import UsageError
from thumbnet.results import Constraints
from thumbnet.targets import limits_on, load_target

BOARD, CORE = load_target("nrf52840"), load_target("cortex-m4")


def test_a_board_limits_flash_and_ram_by_itself() -> None:
    own = Constraints(flash_bytes=1 << 20, ram_bytes=256 << 10)
    assert limits_on(BOARD) == own
    assert limits_on(BOARD, flash="2MB", ram="1MB") == own
    assert limits_on(BOARD, flash="72KB", ram=4096) == Constraints(flash_bytes=72 << 10, ram_bytes=4096)


def test_all_limits_at_once() -> None:
    limits = limits_on(BOARD, latency_ms=5.5, cycles=10, macs=20, energy_mj=0.5, max_drop=0, metric_limit=-1.5)
    assert (limits.latency_ms, limits.cycles, limits.macs) == (5.5, 10, 20)
    assert (limits.energy_mj, limits.max_drop, limits.metric_limit) == (0.5, 0, -1.5)


@pytest.mark.parametrize("name", ["latency_ms", "cycles", "macs", "energy_mj", "max_drop"])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf])
def test_what_is_no_positive_number_is_refused(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"{name} must be positive"):
        limits_on(BOARD, **{name: value})  # type: ignore[arg-type]


def test_energy_is_voltage_times_current_times_time() -> None:
    assert energy_mj(1000.0, BOARD) == pytest.approx(9.9)  # 3.0 V · 3.3 mA · 1 s
    assert energy_mj(1000.0, CORE) is None


def test_energy_cannot_be_limited_where_it_is_not_known() -> None:
    with pytest.raises(UsageError, match=r"cortex-m4.*does not tell what it draws.*docs/targets\.md"):
        limits_on(CORE, energy_mj=1.0)
