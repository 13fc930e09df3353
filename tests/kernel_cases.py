"""Networks of many shapes at once, and sums around every tie of rounding: for the tests of each family of kernels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from thumbnet.cost.kernels import choose
from thumbnet.cost.plan import ArenaPlan, Buffer
from thumbnet.cost.probes import ProbeBuilder
from thumbnet.integer.graph import IntegerGraph, IntegerNode
from thumbnet.targets.target import Isa

NO_PADDING = (0, 0, 0, 0)
WINDOWS = [  # shape, out, kernel, stride, padding, dilation
    ((8, 8, 4), 8, (3, 3), (1, 1), None, (1, 1)), ((9, 7, 3), 6, (3, 3), (2, 2), None, (1, 1)),
    ((6, 6, 1), 5, (5, 5), (1, 1), None, (1, 1)), ((7, 9, 8), 4, (3, 3), (2, 1), (0, 1, 2, 0), (1, 1)),
    ((9, 9, 4), 3, (3, 3), (1, 1), (2, 2, 2, 2), (2, 2)), ((5, 8, 6), 7, (2, 4), (1, 3), NO_PADDING, (1, 1)),
    ((3, 3, 5), 2, (3, 3), (1, 1), NO_PADDING, (1, 1)), ((4, 4, 20), 9, (1, 1), (1, 1), (1, 0, 0, 2), (1, 1)),
    ((3, 2, 4), 4, (5, 5), (1, 1), None, (1, 1)), ((13, 5, 1), 12, (10, 4), (2, 2), None, (1, 1)),
    ((9, 1, 6), 5, (3, 1), (1, 1), None, (1, 1)), ((1, 9, 7), 4, (1, 3), (1, 2), None, (1, 1)),
    ((6, 9, 2), 5, (3, 3), (1, 1), None, (3, 1)), ((8, 8, 5), 4, (2, 2), (3, 3), NO_PADDING, (1, 1)),
    ((4, 4, 2), 7, (3, 3), (1, 1), (3, 3, 3, 3), (1, 1)), ((5, 5, 24), 4, (1, 1), (2, 3), None, (1, 1)),
    ((7, 12, 16), 8, (3, 3), (1, 1), None, (1, 1)), ((8, 13, 16), 5, (3, 3), (2, 2), None, (1, 1)),
    ((9, 10, 8), 16, (3, 2), (1, 1), NO_PADDING, (1, 1)), ((10, 12, 6), 3, (4, 3), (1, 2), None, (2, 1)),
    ((6, 20, 3), 8, (3, 3), (1, 1), None, (1, 1)), ((2, 40, 9), 6, (1, 4), (1, 1), None, (1, 2)),
]  # fmt: skip
DEPTHWISE = [  # shape, kernel, stride, padding
    ((6, 5, 8), (3, 3), (1, 1), None), ((7, 6, 16), (3, 3), (2, 2), None), ((5, 7, 3), (3, 3), (1, 1), None),
    ((6, 6, 13), (3, 3), (2, 1), (0, 1, 2, 0)), ((4, 9, 5), (3, 3), (1, 2), NO_PADDING),
    ((5, 5, 2), (3, 3), (1, 1), (2, 2, 1, 2)), ((8, 9, 4), (2, 2), (1, 1), None), ((9, 8, 7), (2, 3), (3, 3), None),
    ((7, 7, 9), (4, 4), (1, 1), None), ((8, 8, 12), (1, 1), (1, 1), None),
    ((9, 9, 6), (1, 5), (2, 2), None), ((10, 6, 10), (5, 1), (1, 1), None),
    ((12, 4, 1), (5, 3), (2, 1), None), ((11, 1, 17), (9, 1), (1, 1), None), ((20, 1, 8), (3, 1), (2, 1), NO_PADDING),
    ((9, 1, 6), (3, 1), (1, 1), (2, 0, 1, 0)), ((1, 12, 11), (1, 4), (1, 2), None), ((5, 5, 8), (3, 3), (4, 4), None),
    ((9, 3, 5), (2, 2), (3, 1), (0, 0, 0, 0)), ((3, 3, 8), (3, 3), (1, 1), (3, 3, 3, 3)),
]  # fmt: skip


def tight(ig: IntegerGraph, isa: Isa) -> ArenaPlan:
    """The network of `Parts` with each part exactly as near to its result as the kernel allows, all at odd places but
    scratch."""
    starts: dict[tuple[str, str], int] = {}
    aliases = {node.name: node.inputs[0] for node in ig.nodes if node.op == "reshape"}
    kernels = [choose(node, ig, isa) for node in ig.nodes]
    size = {("activation", v): t.bytes for v, t in ig.tensors.items() if v not in aliases}
    size |= {("scratch", n.name): k.scratch_bytes for n, k in zip(ig.nodes, kernels, strict=True) if k.scratch_bytes}
    at = 3
    for node, kernel in zip(ig.nodes, kernels, strict=True):
        part, overlap = ("activation", aliases.get(node.inputs[0], "")), kernel.overlaps[0]
        if node.op not in ("reshape", "concat") and part in size and overlap is not None:
            result = ("activation", node.name)
            starts[result] = at - min(0, overlap.distance)
            starts[part] = starts[result] + overlap.distance
            at = max(starts[v] + size[v] for v in (part, result)) + 1
    for buffer in size:
        if buffer not in starts:
            starts[buffer] = at if buffer[0] == "activation" else -(-at // 16) * 16
            at = starts[buffer] + size[buffer] + 1
    buffers = [Buffer(name, kind, starts[kind, name], n, 0, len(ig.nodes)) for (kind, name), n in size.items()]
    return ArenaPlan(at, at, tuple(buffers), aliases)


class Parts:
    """A network that computes each probe on a part of its input and puts all results side by side."""

    def __init__(self, seed: int, room: int) -> None:
        self.b = ProbeBuilder(seed)
        self.x = self.b.input(room)
        self.results: list[str] = []

    def part(self, *shape: int) -> str:
        return self.b.reshape(self.b.slice(self.x, 0, 0, int(np.prod(shape))), *shape)

    def keep(self, y: str) -> None:
        self.results.append(self.b.reshape(y, int(np.prod(self.b.tensors[y].shape))))

    def graph(self) -> IntegerGraph:
        if len(self.results) > 1:
            self.b.concat(*self.results, axis=0)
        return self.b.graph()


def at_zero_point(ig: IntegerGraph, zero_point: int) -> IntegerGraph:
    """The same network, all tensors but the input with this zero point."""
    tensors = {v: t if v in ig.inputs else replace(t, zero_point=zero_point) for v, t in ig.tensors.items()}
    return replace(ig, tensors=tensors)


ROUNDED = [(1 << 30), (1 << 31) - 1, 0x5A827999, (1 << 30) + 1]  # multipliers


def accumulators() -> np.ndarray:
    """Sums, multipliers and shifts [3, N]: small sums, and those whose high product lies at a tie of the shift or next
    to it, on both sides of 0, up to the largest."""
    rng = np.random.default_rng(5)
    found = [(a, m, s) for m in ROUNDED for s in (1, 2, 5, 31) for a in range(-40, 41)]
    for m in ROUNDED:
        for shift in range(1, 31):
            half = 1 << (shift - 1)
            for k in (0, 1, int(rng.integers(2, 200))):
                tie = (2 * k + 1) * half * (1 << 31) / m
                if tie < (1 << 31) - 400:
                    found += [(sign * (round(tie) + d), m, shift) for d in (-2, -1, 0, 1, 2) for sign in (1, -1)]
    found += [(sign * ((1 << 31) - 300), m, s) for m in ROUNDED for s in (1, 24, 31) for sign in (1, -1)]
    return np.array(found, np.int64).T


def with_accumulators(node: IntegerNode, sums: np.ndarray) -> None:
    """Weights of 0, and these sums for biases."""
    a = node.arrays
    a["weight"][:] = 0
    a["bias"][:], a["multiplier"][:], a["shift"][:] = sums[0], sums[1], -sums[2]
