"""Instructions and cycles per node, from formulas linear in the kernel's loop counts.

The coefficients in `measured.json` are fitted by `benchmarks/fit_latency.py` to the emulator's counts, exact for
instructions, and to its cycle model for cycles (zero wait states). Flash wait states are added per board
as `WAIT_STATE_SHARE` of a stall for each instruction: cores fetch 32 bits at a time, and vendors' caches and prefetch
buffers hide most of the rest. Boards measured 1.24 to 1.43 times the cycle model; trust milliseconds to 20-30 %.
"""

from __future__ import annotations

from thumbnet.cost.features import FEATURES
from thumbnet.cost.kernels import Kernel
from thumbnet.cost.measured import Measured, measured
from thumbnet.integer.graph import IntegerGraph, IntegerNode
from thumbnet.targets.target import Target

WAIT_STATE_SHARE = 0.05


def node_latency(node: IntegerNode, ig: IntegerGraph, kernel: Kernel, costs: Measured) -> tuple[int, int]:
    """(instructions, cycles) of one node at zero wait states; (0, 0) where nothing is computed."""
    if not kernel.function:
        return 0, 0
    counts = FEATURES[kernel.function](node, ig, kernel)
    fit = costs.kernels[kernel.function]
    instructions = sum(a * b for a, b in zip(counts, fit.instructions, strict=True))
    cycles = sum(a * b for a, b in zip(counts, fit.cycles, strict=True))
    return round(instructions), round(cycles)


def latency_ms(cycles: int, instructions: int, target: Target) -> float:
    """Milliseconds at the board's clock."""
    stalls = instructions * (target.wait_states or 0) * WAIT_STATE_SHARE
    return (cycles + stalls) * 1000 / target.clock_hz


def macs(node: IntegerNode, ig: IntegerGraph) -> int:
    """Multiply-accumulates of one node."""
    if node.op == "dense":
        return int(node.arrays["weight"].size)
    if node.op in ("conv2d", "depthwise_conv2d"):
        h, w, channels = ig.tensors[node.name].shape
        return int(h * w * (node.arrays["weight"].size // channels) * channels)
    return 0


def measurements(target: Target) -> Measured:
    """The measured kernel costs of the target's core."""
    return measured(target.core.name)
