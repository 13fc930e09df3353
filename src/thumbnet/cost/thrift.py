"""Fewer kernels where flash is short.

Many layers have a choice of kernels: faster ones for what is never negative, others for everything. A network with
layers of both kinds links both, about 1 KB each. Which layers qualify depends on trained weights, so that a network can
come out larger than was predicted; then its layers share the kernels that take everything.
"""

from __future__ import annotations

from dataclasses import replace

from thumbnet.cost import estimate
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.passes.join_inputs import join_ports
from thumbnet.results import Constraints, Costs
from thumbnet.targets.target import Target

SHARED = ("depthwise_conv2d", "conv2d", "add")


def fitted_kernels(graph: IntegerGraph, target: Target, limits: Constraints) -> tuple[IntegerGraph, Costs]:
    """The graph and its costs; with shared kernels where flash would exceed its limit otherwise, and sharing helps.

    What is computed stays the same to the bit.
    """
    costs = estimate(join_ports(graph), target)
    for op in SHARED:
        if "flash_bytes" not in limits.violations(costs):
            break
        nodes = (replace(n, attrs={**n.attrs, "any_sign": True}) if n.op == op else n for n in graph.nodes)
        shared = replace(graph, nodes=tuple(nodes))
        less = estimate(join_ports(shared), target)
        if less.flash_bytes < costs.flash_bytes:
            graph, costs = shared, less
    return graph, costs
