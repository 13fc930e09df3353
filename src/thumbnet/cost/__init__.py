"""What an integer network costs on a target, before anything is built."""

from __future__ import annotations

from thumbnet.cost import flash, latency
from thumbnet.cost.blocks import copies
from thumbnet.cost.kernel import Kernel
from thumbnet.cost.measured import Measured, measured
from thumbnet.cost.memory import offsets, plan_arena
from thumbnet.cost.plan import ArenaPlan, Buffer
from thumbnet.cost.schedule import Unit, schedule
from thumbnet.integer.graph import IntegerGraph
from thumbnet.results import Costs, Kind, LayerCost
from thumbnet.targets.target import Target

__all__ = ["ArenaPlan", "Buffer", "Unit", "estimate", "plan_arena", "schedule"]


def estimate(
    ig: IntegerGraph, target: Target, plan: ArenaPlan | None = None, units: tuple[Unit, ...] | None = None
) -> Costs:
    """Flash, RAM, instructions and cycles of `ig` on `target`, layer by layer.

    Flash is everything the linker places (vectors, start-up, kernels, calls, constants), RAM is arena + static data +
    stack; both within 2 % of the linked firmware. Latency is a model (`thumbnet.cost.latency`).
    Raises `UnsupportedOpError` for an operation without a kernel, `TargetError` for a core that was never measured.
    """
    units = schedule(ig, target.core.isa) if units is None else units
    plan = plan_arena(ig, target.core.isa, units) if plan is None else plan
    costs = measured(target.core.name)
    layers = [layer for unit in units for layer in _layers(ig, unit, costs)]
    functions = flash.functions_of(units)
    sites = flash.site_bytes(_calls(ig, plan, units), target.core.architecture != "armv6-m")
    code = flash.code_bytes(functions, sites, costs)
    constants = sum(x.weight_bytes + x.parameter_bytes for x in layers)
    constants += flash.kernel_rodata_bytes(functions, costs) + flash.stage_bytes(units)
    stack = max((_stack_bytes(unit, costs) for unit in units), default=0)
    instructions, cycles = sum(x.instructions for x in layers), sum(x.cycles for x in layers)
    milliseconds = latency.latency_ms(cycles, instructions, target)
    return Costs(
        kind=Kind.ESTIMATED,
        flash_bytes=code + constants,
        code_bytes=code,
        weight_bytes=sum(x.weight_bytes for x in layers),
        ram_bytes=plan.arena_bytes + stack,
        arena_bytes=plan.arena_bytes,
        static_bytes=0,
        stack_bytes=stack,
        macs=sum(x.macs for x in layers),
        instructions=instructions,
        cycles=cycles,
        latency_ms=milliseconds,
        layers=tuple(layers),
        energy_mj=latency.energy_mj(milliseconds, target),
    )


def _layers(ig: IntegerGraph, unit: Unit, costs: Measured) -> list[LayerCost]:
    found = []
    spent = latency.unit_latency(unit, ig, costs)
    for step, kernel, (instructions, cycles) in zip(unit.nodes, unit.kernels, spent, strict=True):
        node = ig.nodes[step]
        weights, parameters = flash.constant_bytes(node, ig, kernel)
        shape, macs = ig.tensors[node.name].shape, latency.macs(node, ig)
        figures = (macs, weights, parameters, instructions, cycles, node.weight_bits)
        found.append(LayerCost(node.name, node.op, shape, *figures))
    return found


def _stack_bytes(unit: Unit, costs: Measured) -> int:
    """Deepest stack while the unit runs, start-up and `model_invoke` included."""
    own = max((_deepest(k, costs) for k in unit.kernels if k.function), default=0)
    return own + (costs.kernels["tn_cascade"].stack_bytes if unit.rows else 0)


def _deepest(kernel: Kernel, costs: Measured) -> int:
    called = sum(costs.kernels[f].stack_bytes for f in (kernel.unpacks, kernel.function) if f)
    return called + max((_deepest(part, costs) for part in kernel.parts), default=0)


def _calls(ig: IntegerGraph, plan: ArenaPlan, units: tuple[Unit, ...]) -> list[tuple[int, ...]]:
    """Arena offsets and other numbers in the arguments of each call."""
    place = offsets(ig, plan)
    scratch = {b.name: b.offset for b in plan.buffers if b.kind == "scratch"}
    calls: list[tuple[int, ...]] = []
    for unit in units:
        if not unit.kernels[0].function:
            continue
        node, result = ig.nodes[unit.first], ig.nodes[unit.last].name
        if node.op in ("concat", "slice"):
            calls.extend((place[v], place[node.name]) for v, _ in copies(node, ig, place))
            continue
        extra = (scratch[result],) if result in scratch else ()
        extra = (*extra, len(unit.kernels), unit.rows, 0) if unit.rows else extra
        calls.append((*(place[v] for v in node.inputs), place[result], *extra))
        if not unit.rows and unit.kernels[0].clamped:
            calls.append((place[result], ig.tensors[result].bytes))
    return calls
