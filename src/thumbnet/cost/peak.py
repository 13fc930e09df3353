"""What makes the arena as large as it is: the step that fills it, and the tensors that are alive then."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from thumbnet.cost.plan import ArenaPlan, Buffer
from thumbnet.integer.graph import IntegerGraph


@dataclass(frozen=True)
class Peak:
    """`layer` is the node that runs when the arena is fullest; `buffers` are in use then, largest first."""

    layer: str
    op: str
    arena_bytes: int
    buffers: tuple[Buffer, ...]

    def json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        parts = ", ".join(f"{b.name}{' (scratch)' if b.kind == 'scratch' else ''} {b.bytes:,} B" for b in self.buffers)
        shared = " (partly in the same place)" if sum(b.bytes for b in self.buffers) > self.arena_bytes else ""
        return f"{self.layer} ({self.op}) sets the arena of {self.arena_bytes:,} B: {parts}{shared}"


def peak(ig: IntegerGraph, plan: ArenaPlan) -> Peak:
    """Of all steps that reach the arena's end, the one with most bytes alive (the first of equals)."""
    best: tuple[int, int] | None = None
    found: tuple[int, tuple[Buffer, ...]] = (0, ())
    for step in range(len(ig.nodes)):
        alive = [b for b in plan.buffers if b.first <= step <= b.last]
        key = (max((b.offset + b.bytes for b in alive), default=0), sum(b.bytes for b in alive))
        if best is None or key > best:
            best, found = key, (step, tuple(sorted(alive, key=lambda b: (-b.bytes, b.offset))))
    node = ig.nodes[found[0]]
    return Peak(node.name, node.op, plan.arena_bytes, found[1])
