"""Schedules within a limit of RAM."""

from __future__ import annotations

import pytest
from firmware_networks import bottlenecks, mobile, rows

from thumbnet.cost import estimate
from thumbnet.cost.limit import NO_LIMIT, cascades, within
from thumbnet.errors import InfeasibleError
from thumbnet.integer.graph import IntegerGraph
from thumbnet.targets import load_target

M4 = load_target("cortex-m4")


def spent(ig: IntegerGraph, ram: int | None) -> tuple[int, int]:
    """Bytes of RAM and instructions."""
    units, plan = within(ig, M4, ram)
    costs = estimate(ig, M4, plan, units)
    return costs.ram_bytes, costs.instructions


@pytest.mark.parametrize("network", [bottlenecks, mobile, rows])
def test_every_limit_is_kept_and_more_room_is_never_slower(network) -> None:
    ig = network()
    least, slowest = spent(ig, None)
    most, fastest = spent(ig, NO_LIMIT)
    assert least <= most
    before = slowest
    for limit in range(least, most + 1000, max(1, (most + 1000 - least) // 12)):
        ram, instructions = spent(ig, limit)
        assert ram <= limit
        assert instructions <= before
        before = instructions
    assert before == fastest


def test_cascades_are_made_only_as_far_as_the_limit_asks() -> None:
    ig = bottlenecks()
    found = []
    for limit in (None, 24_000, NO_LIMIT):
        units, plan = within(ig, M4, limit)
        held = cascades(ig, M4, units, plan)
        found.append(len(held.layers) if held else 0)
        if held:
            assert held.saved_bytes > 0
            assert held.more_instructions > 0
            assert str(held).startswith(f"{sum(map(len, held.layers))} layers in {len(held.layers)} cascade")
    assert found == [2, 1, 0]


def test_a_limit_too_small_names_the_least() -> None:
    ig = bottlenecks()
    least, _ = spent(ig, None)
    with pytest.raises(InfeasibleError, match=f"needs {least:,} B of RAM on a cortex-m4 at least") as caught:
        within(ig, M4, least - 1)
    assert f"--ram {least} or more" in str(caught.value)
    assert spent(ig, least)[0] == least
