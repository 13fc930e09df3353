"""Where inputs of operations that only move bytes may lie so that the output can be written over them.

Distances are `offset(input) - offset(output)`, in bytes. Copies from one place to another go through `memcpy`, so what
is read and what is written at the same time must be apart, or the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from thumbnet.cost.kernel import ALIGNMENT, Overlap
from thumbnet.integer.graph import IntegerGraph, IntegerNode


@dataclass(frozen=True)
class Copy:
    """`count` runs of `size` bytes, from `start` on and every `step` bytes of the input, and likewise of the output."""

    count: int
    size: int
    source_start: int
    source_step: int
    start: int
    step: int

    @property
    def overlap(self) -> Overlap | None:
        """Where the input may lie: one run may stay where it is, several may lie so far behind that none is met."""
        if self.count == 1:
            distance = self.start - self.source_start
            return Overlap(distance, exact=True) if distance % ALIGNMENT == 0 else None
        # run k, which ends at `start + k * step + size`, must not reach run k of the input
        first = self.start + self.size - self.source_start
        return Overlap(max(first, first + (self.count - 1) * (self.step - self.source_step)))


def copies_of(node: IntegerNode, ig: IntegerGraph) -> tuple[tuple[str, Copy], ...]:
    """What a concat or a slice copies: (input, how), in order. The largest part of a concat comes first."""
    shape, source = ig.tensors[node.name].shape, ig.tensors[node.inputs[0]].shape
    axis = int(node.attrs["axis"]) % len(shape)
    count, step = math.prod(shape[:axis]), math.prod(shape[axis:])
    if node.op == "slice":
        first = int(node.attrs["start"]) * math.prod(shape[axis + 1 :])
        return ((node.inputs[0], Copy(count, step, first, math.prod(source[axis:]), 0, step)),)
    sizes = [math.prod(ig.tensors[v].shape[axis:]) for v in node.inputs]
    parts = [
        (v, Copy(count, size, 0, size, sum(sizes[:i]), step))
        for i, (v, size) in enumerate(zip(node.inputs, sizes, strict=True))
    ]
    return tuple(sorted(parts, key=lambda part: -part[1].size))


def copy_overlaps(node: IntegerNode, ig: IntegerGraph) -> tuple[Overlap | None, ...]:
    """One for each input. Of several that are copied run by run, only the first may be overwritten meanwhile."""
    parts = copies_of(node, ig)
    alone = parts if parts[0][1].count == 1 else parts[:1]
    free = {v: copy.overlap for v, copy in alone if node.inputs.count(v) == 1}
    return tuple(free.get(v) for v in node.inputs)


def copies(node: IntegerNode, ig: IntegerGraph, place: Mapping[str, int]) -> list[tuple[str, Copy]]:
    """The copies that are not already where they are to be when tensors lie at these offsets."""

    def done(v: str, copy: Copy) -> bool:
        return copy.count == 1 and place[v] + copy.source_start == place[node.name] + copy.start

    return [(v, copy) for v, copy in copies_of(node, ig) if not done(v, copy)]
