"""Nodes of float ONNX files that put values together, cut them, and pad them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from thumbnet.importers import values
from thumbnet.importers.builder import Value
from thumbnet.importers.onnx_node import MAX_WINDOW
from thumbnet.importers.onnx_operands import Handler, Operation

_MAX_PIECES = 256


def _concat(o: Operation) -> Value:
    parts = o.computed_all()
    if not parts or any(len(p.shape) != len(parts[0].shape) for p in parts):
        raise o.broken("puts together values of different ranks")
    axis = o.sample_axis(o.integer("axis"), parts[0])
    rest = {tuple(d for k, d in enumerate(p.shape) if k != axis) for p in parts}
    if len(rest) != 1:
        raise o.broken(f"puts together {', '.join(o.told(p) for p in parts[:4])}")
    return values.concat(o.builder, o.origin, parts, axis)


def _slice(o: Operation) -> Value:
    x = o.computed()
    starts, ends = o.listed(1, "starts"), o.listed(2, "ends")
    axes = o.listed(3, "axes", range(len(starts)))
    steps = o.listed(4, "steps", [1] * len(starts))
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise o.broken(f"has {len(starts)} starts, {len(ends)} ends, {len(axes)} axes and {len(steps)} steps")
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        x = _cut(o, x, axis, start, end, step)
    return x


def _cut(o: Operation, x: Value, axis: int, start: int, end: int, step: int) -> Value:
    if step < 1:
        raise o.refuse("Reversed axes (negative steps) are not supported.")
    if o.axis(axis, len(x.shape) + 1) == 0 and start == 0 and end >= np.iinfo(np.int32).max and step == 1:
        return x  # the whole batch
    k = o.sample_axis(axis, x)
    size = x.shape[k]
    first, last = (min(max(v + size if v < 0 else v, 0), size) for v in (start, end))
    return values.cut(o.builder, o.origin, x, k, first, last, min(step, size))


def _split(o: Operation) -> Sequence[Value]:
    x, count = o.computed(), len(o.node.outputs)
    axis = o.sample_axis(o.integer("axis", 0), x)
    size = x.shape[axis]
    piece = -(-size // count)
    sizes = o.listed(1, "split", [*[piece] * (count - 1), size - piece * (count - 1)])
    if len(sizes) != count or sum(sizes) != size or min(sizes) < 1:
        raise o.broken(f"splits {size} into {sizes}")
    starts = [sum(sizes[:k]) for k in range(count)]
    return [
        values.cut(o.builder, o.origin, x, axis, start, start + n) if name else x
        for start, n, name in zip(starts, sizes, o.node.outputs, strict=True)
    ]


def _gather(o: Operation) -> Value:
    """Of one position, or of positions in steps."""
    x, index = o.computed(), o.constant(1)
    axis = o.sample_axis(o.integer("axis", 0), x)
    size = x.shape[axis]
    if not np.issubdtype(index.dtype, np.integer) or not index.size or index.size > size:
        raise o.refuse("It looks up a few positions of an axis only, each once.")
    if np.any(index < -size) or np.any(index >= size):
        raise o.broken(f"takes positions beyond the {size} that there are")
    at = [int(v) % size for v in index.reshape(-1)]
    if index.ndim == 0:
        return values.select(o.builder, o.origin, x, axis, at[0])
    if index.ndim != 1:
        raise o.refuse("It looks up positions given as a list only.")
    steps = {b - a for a, b in pairwise(at)} or {1}
    if len(steps) == 1 and min(steps) > 0:
        step = min(steps)
        return values.cut(o.builder, o.origin, x, axis, at[0], at[-1] + 1, step)
    runs = _runs(at)
    if len(runs) > _MAX_PIECES:
        raise o.refuse("Orders of channels with this many pieces are not supported; use a 1×1 convolution.")
    pieces = [values.cut(o.builder, o.origin, x, axis, start, stop) for start, stop in runs]
    return values.concat(o.builder, o.origin, pieces, axis)


def _runs(at: Sequence[int]) -> list[tuple[int, int]]:
    """Positions as ranges of neighbours."""
    made = [(at[0], at[0] + 1)]
    for v in at[1:]:
        start, stop = made[-1]
        made[-1:] = [(start, v + 1)] if v == stop else [(start, stop), (v, v + 1)]
    return made


def _pad(o: Operation) -> Value:
    x = o.computed()
    rank = len(x.shape) + 1
    pads, axes = o.listed(1, "pads"), o.listed(3, "axes", range(rank))
    if len(pads) != 2 * len(axes) or any(abs(p) > MAX_WINDOW for p in pads):
        raise o.broken(f"pads by {pads}")
    by_axis = dict.fromkeys(range(rank), (0, 0))
    for k, axis in enumerate(axes):
        by_axis[o.axis(axis, rank)] = (pads[k], pads[k + len(axes)])
    if any(by_axis.pop(0)):
        raise o.mixes()
    mode = o.text("mode", "constant")
    return values.pad(o.builder, o.origin, x, list(by_axis.values()), o.scalar(2, 0.0), mode)


MOVES: dict[str, Handler] = {
    "Concat": _concat,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Pad": _pad,
}
