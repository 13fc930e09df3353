"""How much of the arena a step needs at least: what is alive, what it works with, and what may share memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thumbnet.cost.kernel import Overlap
from thumbnet.cost.lifetimes import aligned


@dataclass(frozen=True)
class Source:
    """An input: its rounded bytes, and how the output may lie over it (None: it lives on, or must stay apart)."""

    bytes: int
    overlap: Overlap | None


def footprint(others: int, sources: Sequence[Source], result: int, working: int) -> int:
    """Bytes of a step with these inputs, `result` bytes of output (0: in one of the inputs) and `working` bytes of
    scratch and rows, while `others` bytes are alive beside it. A lower bound where several inputs are overwritten."""
    whole = sum(s.bytes for s in sources)
    free = [s for s in sources if s.overlap is not None]
    total = whole + result
    if len(free) == len(sources) == 1 and free[0].overlap is not None:
        total = min(total, max(result, whole + max(0, aligned(free[0].overlap.distance))))
    elif free:
        total = max(whole, total - sum(s.bytes for s in free))
    return others + total + working
