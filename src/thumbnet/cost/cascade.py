"""Chains of convolutions computed a few rows at a time: the schedule of `kernels/generic/cascade.c`, replayed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache

from thumbnet.cost.kernel import Window

MAX_STAGES = 12  # TN_MAX_STAGES in tn_kernels.h


@dataclass(frozen=True)
class Rows:
    """What a stage is in the direction of rows."""

    in_h: int
    out_h: int
    kernel: int
    stride: int
    dilation: int
    padding: int

    def first(self, row: int) -> int:
        """The first input row that output row `row` reads; negative where that is padding."""
        return row * self.stride - self.padding

    def needed(self, rows: int) -> int:
        """Input rows that must be there to compute the first `rows` output rows."""
        end = self.first(rows - 1) + (self.kernel - 1) * self.dilation + 1
        return min(max(end, 0), self.in_h)


@dataclass(frozen=True)
class Replay:
    """`runs`: (stage, first output row, end) in order. `capacities`: rows that each stage but the last must hold.

    `moved`: rows that each stage moves in its buffer, in all. `progress`: after each round but the last in which the
    input is still read, (output rows written, first input row read later).
    """

    runs: tuple[tuple[int, int, int], ...]
    capacities: tuple[int, ...]
    moved: tuple[int, ...]
    progress: tuple[tuple[int, int], ...]
    rounds: int


def rows_of(w: Window) -> Rows:
    return Rows(w.in_h, w.out_h, w.kernel[0], w.stride[0], w.dilation[0], w.padding[0])


@lru_cache(maxsize=4096)
def replay(stages: tuple[Rows, ...], rows: int) -> Replay:
    """The schedule for these stages with `rows` output rows of the last one in each round."""
    count = len(stages)
    done, base = [0] * count, [0] * count
    capacity, moved = [0] * (count - 1), [0] * (count - 1)
    runs: list[tuple[int, int, int]] = []
    progress: list[tuple[int, int]] = []
    rounds = 0
    while done[-1] < stages[-1].out_h:
        rounds += 1
        need = [0] * count
        need[-1] = min(done[-1] + rows, stages[-1].out_h)
        for j in range(count - 1, 0, -1):
            need[j - 1] = stages[j].needed(need[j])
        for j in range(count):
            if need[j] <= done[j]:
                continue
            if j < count - 1:
                keep = min(max(stages[j + 1].first(done[j + 1]), base[j]), done[j])
                moved[j] += done[j] - keep if keep > base[j] else 0
                base[j] = keep
                capacity[j] = max(capacity[j], need[j] - keep)
            runs.append((j, done[j], need[j]))
            done[j] = need[j]
        if done[0] < stages[0].out_h and done[-1] < stages[-1].out_h:
            progress.append((done[-1], max(0, stages[0].first(done[0]))))
    return Replay(tuple(runs), tuple(capacity), tuple(moved), tuple(progress), rounds)


def cascade_distance(windows: tuple[Window, ...], plan: Replay) -> int:
    """How many bytes the input must start behind the output so that no row is overwritten before it is read."""
    source, result = windows[0], windows[-1]
    in_row, out_row = source.in_w * source.in_c, result.out_w * result.out_c
    return max((written * out_row - later * in_row for written, later in plan.progress), default=0)


def part(w: Window, first: int, stop: int) -> Window:
    """The window of output rows [first, stop), as `compute` in cascade.c calls the kernel."""
    top = first * w.stride[0] - w.padding[0]
    row = max(top, 0)
    read = (stop - 1) * w.stride[0] + w.span - w.padding[0]  # rows below are never looked at: equal pieces look equal
    return replace(w, in_h=min(w.in_h, max(read, row)) - row, out_h=stop - first, padding=(row - top, w.padding[1]))


@lru_cache(maxsize=4096)
def pieces(w: Window, plan: Replay, stage: int) -> tuple[tuple[Window, int], ...]:
    """The different windows that a stage is called with, and how often."""
    return tuple(Counter(part(w, first, stop) for s, first, stop in plan.runs if s == stage).items())
