"""What an integer network costs on a target, before anything is built."""

from __future__ import annotations

from thumbnet.cost import flash, latency
from thumbnet.cost.kernels import Kernel, choose
from thumbnet.cost.memory import offsets, plan_arena
from thumbnet.cost.plan import ArenaPlan, Buffer
from thumbnet.integer.graph import IntegerGraph
from thumbnet.results import Costs, Kind, LayerCost
from thumbnet.targets.target import Target

__all__ = ["ArenaPlan", "Buffer", "estimate", "plan_arena"]


def estimate(ig: IntegerGraph, target: Target, plan: ArenaPlan | None = None) -> Costs:
    """Flash, RAM, instructions and cycles of `ig` on `target`, layer by layer.

    Flash is everything the linker places (vectors, start-up, kernels, calls, constants), RAM is arena + static data +
    stack; both within 2 % of the linked firmware. Latency is a model (`thumbnet.cost.latency`).
    Raises `UnsupportedOpError` for an operation without a kernel, `TargetError` for a core that was never measured.
    """
    plan = plan_arena(ig, target.core.isa) if plan is None else plan
    costs = latency.measurements(target)
    kernels = [choose(node, ig, target.core.isa) for node in ig.nodes]
    layers = []
    for node, kernel in zip(ig.nodes, kernels, strict=True):
        weights, parameters = flash.constant_bytes(node, ig, kernel)
        instructions, cycles = latency.node_latency(node, ig, kernel, costs)
        shape = ig.tensors[node.name].shape
        macs = latency.macs(node, ig)
        layers.append(LayerCost(node.name, node.op, shape, macs, weights, parameters, instructions, cycles))
    sites = flash.site_bytes(_addresses(ig, plan, kernels), target.core.architecture != "armv6-m")
    code = flash.code_bytes(kernels, sites, costs)
    constants = sum(x.weight_bytes + x.parameter_bytes for x in layers) + flash.kernel_rodata_bytes(kernels, costs)
    stack = max((costs.kernels[k.function].stack_bytes for k in kernels if k.function), default=0)
    instructions, cycles = sum(x.instructions for x in layers), sum(x.cycles for x in layers)
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
        latency_ms=latency.latency_ms(cycles, instructions, target),
        layers=tuple(layers),
    )


def _addresses(ig: IntegerGraph, plan: ArenaPlan, kernels: list[Kernel]) -> list[tuple[int, ...]]:
    """Arena offsets in the arguments of each call."""
    place = offsets(ig, plan)
    scratch = {b.name: b.offset for b in plan.buffers if b.kind == "scratch"}
    calls: list[tuple[int, ...]] = []
    for node, kernel in zip(ig.nodes, kernels, strict=True):
        if not kernel.function:
            continue
        if node.op == "concat":
            calls.extend((place[v], place[node.name]) for v in node.inputs)
            continue
        extra = (scratch[node.name],) if node.name in scratch else ()
        calls.append((*(place[v] for v in node.inputs), place[node.name], *extra))
    return calls
