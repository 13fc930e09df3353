"""Instructions and cycles per node, from formulas linear in the kernel's loop counts.

The coefficients in `measured.json` are fitted by `benchmarks/fit_latency.py` to the emulator's counts, exact for
instructions, and to its cycle model for cycles (zero wait states). Flash wait states are added per board
as `WAIT_STATE_SHARE` of a stall for each instruction: cores fetch 32 bits at a time, and vendors' caches and prefetch
buffers hide most of the rest. Boards measured 1.24 to 1.43 times the cycle model; trust milliseconds to 20-30 %.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import lru_cache
from math import prod

import numpy as np
import numpy.typing as npt

from thumbnet.cost.cascade import pieces
from thumbnet.cost.features import CONVOLUTIONS, FEATURES, cascade
from thumbnet.cost.kernel import Kernel, Window, window_of
from thumbnet.cost.measured import KernelCost, Measured, measured
from thumbnet.cost.schedule import Unit
from thumbnet.cost.transposed import Phase, phases
from thumbnet.integer.graph import IntegerGraph, IntegerNode
from thumbnet.targets.target import Target

Floats = npt.NDArray[np.float64]

WAIT_STATE_SHARE = 0.05


def unit_latency(unit: Unit, ig: IntegerGraph, costs: Measured) -> list[tuple[int, int]]:
    """(instructions, cycles) of each of the unit's nodes at zero wait states; (0, 0) where nothing is computed.

    What a cascade itself takes goes to its last node.
    """
    if unit.replay is None:
        return [_node(ig.nodes[unit.first], ig, unit.kernels[0], costs)]
    spent = []
    for stage, kernel in enumerate(unit.kernels):
        node = ig.nodes[unit.first + stage]
        groups = int(node.attrs.get("groups", 1))
        parts = pieces(unit.windows[stage], unit.replay, stage)
        counts = np.sum(
            [n * convolution_counts(w, groups, kernel.function, kernel.strip, kernel.clamped) for w, n in parts], 0
        )
        whole, unpacking = _applied(costs.kernels[kernel.function], counts), _unpacking(node, ig, kernel, costs)
        calls = sum(n for _, n in parts)
        spent.append((whole[0] + calls * unpacking[0], whole[1] + calls * unpacking[1]))
    own = _applied(costs.kernels["tn_cascade"], np.array(cascade(unit)))
    spent[-1] = (spent[-1][0] + own[0], spent[-1][1] + own[1])
    return [(round(a), round(b)) for a, b in spent]


@lru_cache(maxsize=8192)
def convolution_counts(w: Window, groups: int, function: str, strip: int, clamped: bool) -> Floats:
    """Loop counts of one call of a convolution kernel. Read-only."""
    return np.array(CONVOLUTIONS[function](w, groups, strip, clamped), np.float64)


def _node(node: IntegerNode, ig: IntegerGraph, kernel: Kernel, costs: Measured) -> tuple[int, int]:
    if not kernel.function:
        return 0, 0
    own = _applied(costs.kernels[kernel.function], features_of(node, ig, kernel))
    spent = [own, _unpacking(node, ig, kernel, costs)]
    for i, part in enumerate(kernel.parts):
        counts = phase_counts(phases(node, ig).all[i], part)
        spent.append(_applied(costs.kernels[part.function], counts))
    instructions, cycles = (sum(values) for values in zip(*spent, strict=True))
    return round(instructions), round(cycles)


def _unpacking(node: IntegerNode, ig: IntegerGraph, kernel: Kernel, costs: Measured) -> tuple[float, float]:
    """What a call costs before the kernel starts."""
    if not kernel.unpacks:
        return 0.0, 0.0
    return _applied(costs.kernels[kernel.unpacks], np.array(FEATURES[kernel.unpacks](node, ig, kernel), np.float64))


def phase_counts(phase: Phase, kernel: Kernel) -> Floats:
    """Loop counts of all rows of a transposed convolution's phase, each a call of its own."""
    whole, total = window_of(phase.node, phase.ig), np.zeros(1)
    parts = Counter(phase.part(q)[1:] for q in range(phase.rows))
    for (padding, height), count in parts.items():
        seen = min(height, max(phase.reads - padding, 1))  # rows below are never looked at: equal rows look equal
        row = replace(whole, in_h=seen, out_h=1, padding=(padding, whole.padding[1]))
        total = total + count * convolution_counts(row, 1, kernel.function, kernel.strip, kernel.clamped)
    return total


def _applied(cost: KernelCost, counts: Floats) -> tuple[float, float]:
    instructions, cycles = cost.coefficients @ counts
    return float(instructions), float(cycles)


def features_of(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> Floats:
    """Loop counts of a node that is computed in one call."""
    if kernel.function in CONVOLUTIONS:
        groups = int(node.attrs.get("groups", 1))
        return convolution_counts(window_of(node, ig), groups, kernel.function, kernel.strip, kernel.clamped)
    return np.array(FEATURES[kernel.function](node, ig, kernel), np.float64)


def latency_ms(cycles: int, instructions: int, target: Target) -> float:
    """Milliseconds at the board's clock."""
    stalls = instructions * (target.wait_states or 0) * WAIT_STATE_SHARE
    return (cycles + stalls) * 1000 / target.clock_hz


def energy_mj(latency: float, target: Target) -> float | None:
    """Millijoules that the core draws in `latency` ms while it runs from flash, without peripherals and sleep.

    None where the target's description does not tell what it draws.
    """
    return None if target.active_mw is None else target.active_mw * latency / 1000


def macs(node: IntegerNode, ig: IntegerGraph) -> int:
    """Multiply-accumulates of one node."""
    if node.op == "dense":
        return int(node.arrays["weight"].size)
    if node.op in ("conv2d", "depthwise_conv2d"):
        h, w, channels = ig.tensors[node.name].shape
        return int(h * w * (node.arrays["weight"].size // channels) * channels)
    if node.op == "conv_transpose2d":
        return int(node.arrays["weight"].size) * prod(ig.tensors[node.inputs[0]].shape[:2])
    return 0


def measurements(target: Target) -> Measured:
    """The measured kernel costs of the target's core."""
    return measured(target.core.name)
