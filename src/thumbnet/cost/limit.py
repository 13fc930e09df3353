"""How to run a network within a limit of RAM, and what that costs in time.

Without a limit, chains that would set the arena's peak run in cascades as far as that lowers it. A limit leaves out the
cascades that it does not ask for, because each costs some instructions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from thumbnet.cost import estimate
from thumbnet.cost.memory import plan_arena
from thumbnet.cost.peak import peak
from thumbnet.cost.plan import ArenaPlan
from thumbnet.cost.schedule import Unit, schedule
from thumbnet.errors import InfeasibleError
from thumbnet.integer.graph import IntegerGraph
from thumbnet.targets.target import Target

MAX_ROUNDS = 16
NO_LIMIT = 1 << 40


@dataclass(frozen=True)
class Cascades:
    """What running layers a few rows at a time saves and costs, both estimated."""

    layers: tuple[tuple[str, ...], ...]  # of each cascade
    saved_bytes: int  # of arena
    more_instructions: int

    def json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        count = sum(len(names) for names in self.layers)
        return (
            f"{count} layers in {len(self.layers)} cascade{'s' if len(self.layers) > 1 else ''}, a few rows at a time: "
            f"{self.saved_bytes:,} B less arena for {self.more_instructions:,} more instructions (estimated)"
        )


def within(ig: IntegerGraph, target: Target, ram_bytes: int | None) -> tuple[tuple[Unit, ...], ArenaPlan]:
    """Units that need at most `ram_bytes` (arena, static data and stack, estimated), with as little overhead as that
    takes; None: as little RAM as possible.

    Raises `InfeasibleError`, which names the least, where that is more than the limit.
    """
    isa = target.core.isa
    arena = ram_bytes
    for _ in range(MAX_ROUNDS):
        units = schedule(ig, isa, arena)
        plan = plan_arena(ig, isa, units)
        if ram_bytes is None or arena is None:
            break
        excess = estimate(ig, target, plan, units).ram_bytes - ram_bytes
        if excess <= 0:
            return units, plan
        arena = arena - excess if arena > excess else None  # an arena can be larger than its largest step
    units = schedule(ig, isa)
    plan = plan_arena(ig, isa, units)
    if ram_bytes is not None:
        least = estimate(ig, target, plan, units)
        if least.ram_bytes > ram_bytes:
            raise InfeasibleError(
                f"'{ig.name}' needs {least.ram_bytes:,} B of RAM on a {target.core.name} at least (arena "
                f"{least.arena_bytes:,}, stack {least.stack_bytes:,}; estimated); the limit is {ram_bytes:,} B. "
                f"{peak(ig, plan)}.",
                f"Give --ram {least.ram_bytes} or more, or a network with a smaller input or fewer channels there.",
            )
    return units, plan


def cascades(ig: IntegerGraph, target: Target, units: tuple[Unit, ...], plan: ArenaPlan) -> Cascades | None:
    """What the cascades among the units save and cost; None where there are none."""
    held = tuple(tuple(ig.nodes[s].name for s in unit.nodes) for unit in units if unit.rows)
    if not held:
        return None
    isa = target.core.isa
    alone = schedule(ig, isa, NO_LIMIT)
    before = estimate(ig, target, plan_arena(ig, isa, alone), alone)
    after = estimate(ig, target, plan, units)
    return Cascades(held, before.arena_bytes - after.arena_bytes, after.instructions - before.instructions)
