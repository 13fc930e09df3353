"""A transposed convolution as ordinary ones, so that every kernel of convolutions computes transposed ones too.

Of the output rows, each `stride`-th sees the same taps: they are a phase. A phase is a convolution of stride 1 over the
input whose output channels are the `stride` columns that share a window, one after the other; a row of its output is a
row of the real one, byte for byte. The kernel `tn_conv_transpose2d` computes the rows in order, each by its phase.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor


@dataclass(frozen=True, eq=False)
class Phase:
    """Output rows r, r + stride, …, where r is the phase's place among all. `ig` holds nothing but `node`."""

    node: IntegerNode  # a conv2d; its first rows, above `first`, are computed by no one
    ig: IntegerGraph
    first: int  # the input row at which the window of the phase's first row starts; negative: padding
    rows: int
    reads: int  # rows of its input that one row sees, padding included

    def part(self, index: int) -> tuple[int, int, int]:
        """(first input row that exists, rows of padding above, input rows from there) for the phase's row `index`."""
        height = self.ig.tensors[self.node.inputs[0]].shape[0]
        top = self.first + index
        if top >= height:
            return 0, self.reads, height  # all padding
        return max(top, 0), max(-top, 0), height - max(top, 0)


@dataclass(frozen=True, eq=False)
class Phases:
    """All phases of a node, by output row modulo their number."""

    node: IntegerNode
    ig: IntegerGraph
    all: tuple[Phase, ...]

    @property
    def row_bytes(self) -> int:
        _, width, channels = self.ig.tensors[self.node.name].shape
        return int(width * channels)

    @cached_property
    def written_bytes(self) -> int:
        """Of a row as a phase computes it: columns beyond the last one spill into the next rows, which come later."""
        _, width, channels = self.all[0].ig.tensors[self.all[0].node.name].shape
        return int(width * channels)

    @property
    def spills(self) -> bool:
        return self.written_bytes > self.row_bytes

    @property
    def distance(self) -> int:
        """How many bytes the input must start behind the output so that no row lands on one that is yet to be read."""
        x, height = self.ig.tensors[self.node.inputs[0]].shape, self.ig.tensors[self.node.name].shape[0]
        place = [divmod(y, len(self.all)) for y in range(height)]
        first = np.array([self.all[r].part(q)[0] for q, r in place]) * x[1] * x[2]
        later = np.minimum.accumulate(first[::-1])[::-1]
        start = np.arange(height) * self.row_bytes
        inside = start + self.written_bytes <= height * self.row_bytes  # else by way of the scratch memory
        return int(np.max(start + np.where(inside, self.written_bytes, self.row_bytes) - later))


@lru_cache(maxsize=32)
def phases(node: IntegerNode, ig: IntegerGraph) -> Phases:
    """The phases of a conv_transpose2d."""
    height = ig.tensors[node.name].shape[0]
    count = min(int(node.attrs["stride"][0]), height)
    return Phases(node, ig, tuple(_phase(node, ig, r) for r in range(count)))


def _phase(node: IntegerNode, ig: IntegerGraph, r: int) -> Phase:
    x, out = ig.tensors[node.inputs[0]], ig.tensors[node.name]
    weight, (sh, sw) = node.arrays["weight"], node.attrs["stride"]
    top, left = node.attrs["padding"]
    channels, kh = weight.shape[:2]
    taps = np.arange((r + top) % sh, kh, sh)[::-1]  # of the rows that meet this phase, in the order of the input
    reads = max(1, len(taps))
    first = (r + top) // sh - (reads - 1)
    columns, before = _columns(weight[:, taps] if len(taps) else np.zeros_like(weight[:, :1]), int(sw), int(left))
    rows = -(-(out.shape[0] - r) // sh)
    wide = -(-out.shape[1] // sw)
    high = rows + max(first, 0)
    pads = [max(-first, 0), before, max(first + rows - 1 + reads - x.shape[0], 0)]
    pads.append(max(wide + columns.shape[2] - 1 - before - x.shape[1], 0))
    attrs = {"stride": [1, 1], "padding": pads, "dilation": [1, 1], "groups": 1}
    tiled = {k: np.tile(node.arrays[k], sw) for k in ("bias", "multiplier", "shift")}
    name = f"{node.name}/phase{r}"
    y = QTensor(name, (high, wide, sw * channels), out.scale, out.zero_point)
    made = replace(node, name=name, op="conv2d", attrs=attrs, arrays={"weight": columns, **tiled})
    graph = IntegerGraph(name, {x.name: x, name: y}, (x.name,), (made,), (name,))
    return Phase(made, graph, first, rows, reads)


def _columns(weight: npt.NDArray[np.int8], stride: int, left: int) -> tuple[npt.NDArray[np.int8], int]:
    """Weights [stride · O, kh, width, I] of all columns that share a window, and how far it starts before the pixel.

    `weight`: [O, kh, kw, I]. Column c of `stride` sees, for each of its taps j ≡ c + left, input column
    (c + left − j) / stride, counted from that of the window.
    """
    channels, kh, kw, depth = weight.shape
    seen = [{(c + left - j) // stride: j for j in range(kw) if (c + left - j) % stride == 0} for c in range(stride)]
    places = [at for column in seen for at in column] or [0]
    low = min(min(places), 0)
    wide = np.zeros((stride, channels, kh, max(places) - low + 1, depth), np.int8)
    for c, column in enumerate(seen):
        for at, j in column.items():
            wide[c, :, :, at - low] = weight[:, :, j]
    return wide.reshape(stride * channels, kh, -1, depth), -low
