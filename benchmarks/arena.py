"""How near the arena planner comes to the smallest arena, on random networks.

Each network is planned node by node, so that tensors as a whole are alive, for cores with and without the DSP
extension. A plan is optimal where its size equals the lower bound that the planner has proven. First fit (the best of
its orders, improved) is what most runtimes do; it is given as the baseline.

    python benchmarks/arena.py [--networks 300] [--json FILE]
"""

from __future__ import annotations

import argparse
import platform
import random
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from thumbnet.cost.kernels import choose
from thumbnet.cost.memory import plan_arena
from thumbnet.cost.probes import ProbeBuilder
from thumbnet.cost.schedule import single
from thumbnet.files import write_json_atomic
from thumbnet.integer.graph import IntegerGraph
from thumbnet.targets import Isa

BLOCKS = ("conv", "bottleneck", "residual", "residual", "concat", "branches", "dense")


def network(seed: int) -> IntegerGraph:
    """Blocks with and without branches, 10 to 150 nodes."""
    r, b = random.Random(seed), ProbeBuilder(seed)
    x = b.input(r.randint(8, 32), r.randint(8, 32), r.randint(1, 8))
    for _ in range(r.randint(3, 20)):
        height, width, here = b.tensors[x].shape
        large = min(height, width) >= 3
        k, s, c = r.choice([1, 3, 5]) if large else 1, r.choice([1, 1, 1, 2]) if large else 1, r.randint(1, 24)
        match r.choice(BLOCKS):
            case "conv":
                x = b.conv2d(x, c, (k, k), (s, s))
            case "bottleneck":
                x = b.conv2d(b.depthwise_conv2d(b.conv2d(x, 2 * c), (k, k), (s, s)), c)
            case "residual":
                x = b.add(b.conv2d(b.depthwise_conv2d(b.conv2d(x, c), (k, k)), here), x)
            case "concat":
                x = b.concat(b.conv2d(x, c), x)
            case "branches":
                y, z = b.conv2d(b.conv2d(x, c, (k, k)), here), b.conv2d(x, here, (k, k))
                x = b.concat(b.add(y, z), b.conv2d(b.lut(x), 4), b.conv2d(x, 3))
            case "dense":  # every layer reads all before it
                parts = [x]
                for _ in range(3):
                    parts.append(b.conv2d(b.concat(*parts) if len(parts) > 1 else x, r.randint(2, 6), (k, k)))
                x = b.concat(*parts)
        if b.tensors[x].shape[2] > 64:
            x = b.conv2d(x, 16)
    pooled = b.global_avg_pool(x)
    b.dense(b.reshape(pooled, b.tensors[pooled].shape[-1]), 2)
    return b.graph()


def measured(networks: int, isa: Isa) -> list[tuple[int, int, int]]:
    """(arena, proven lower bound, arena by first fit alone) of each network."""
    found = []
    for seed in range(networks):
        ig = network(seed)
        units = tuple(single(step, choose(node, ig, isa)) for step, node in enumerate(ig.nodes))
        plan = plan_arena(ig, isa, units)
        found.append((plan.arena_bytes, plan.lower_bound_bytes, plan_arena(ig, isa, units, max_nodes=0).arena_bytes))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=300)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures: list[dict[str, Any]] = []

    def figure(name: str, value: float, unit: str, baseline: float) -> None:
        ratio = value / baseline if baseline else None
        entry = {"name": name, "value": value, "unit": unit, "kind": "estimated", "baseline": baseline}
        figures.append({**entry, "ratio": ratio, "n": arguments.networks})
        print(f"{name:40} {value:8.4f} {unit}  (first fit: {baseline:.4f})")

    for isa in ("generic", "dsp"):
        arena, bound, first_fit = np.array(measured(arguments.networks, isa), float).T
        figure(f"arena/{isa}/optimal", np.mean(arena == bound), "share of networks", np.mean(first_fit == bound))
        figure(f"arena/{isa}/mean_gap", np.mean(arena / bound) - 1, "of the bound", np.mean(first_fit / bound) - 1)
        figure(f"arena/{isa}/largest_gap", max(arena / bound) - 1, "of the bound", max(first_fit / bound) - 1)
    if arguments.json:
        versions = {"python": platform.python_version(), "thumbnet": version("thumbnet")}
        about = {"machine": platform.machine(), "versions": versions, "seed": 0, "command": " ".join(sys.argv)}
        write_json_atomic(arguments.json, {"figures": figures, **about})


if __name__ == "__main__":
    main()
