"""From when to when each tensor is in use, and which tensors share memory because a reshape computes nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

from thumbnet.cost.kernel import ALIGNMENT
from thumbnet.integer.graph import IntegerGraph


def aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True)
class Lifetimes:
    """By tensor: the tensor whose memory it shares (itself, mostly). By such a root: first and last step of use, bytes.

    Steps are indices of nodes. Inputs of the graph live from step 0, outputs to the last step.
    """

    roots: dict[str, str]
    first: dict[str, int]
    last: dict[str, int]
    bytes: dict[str, int]  # rounded up to `ALIGNMENT`


def lifetimes(ig: IntegerGraph) -> Lifetimes:
    """Lifetimes when the nodes are computed one by one in the graph's order."""
    roots = {t: t for t in ig.inputs}
    first = dict.fromkeys(ig.inputs, 0)
    last = dict.fromkeys(ig.inputs, 0)
    for step, node in enumerate(ig.nodes):
        for v in node.inputs:
            last[roots[v]] = step
        roots[node.name] = roots[node.inputs[0]] if node.op == "reshape" else node.name
        if roots[node.name] == node.name:
            first[node.name] = last[node.name] = step
    for v in ig.outputs:
        last[roots[v]] = max(0, len(ig.nodes) - 1)
    return Lifetimes(roots, first, last, {t: aligned(math.prod(ig.tensors[t].shape)) for t in first})
