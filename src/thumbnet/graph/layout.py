"""In which order the numbers of a tensor lie in memory, or in the value of a graph that stands for it.

Frameworks differ in where they put channels, and so do the two graphs. Nothing is moved for that: an axis of a tensor
is a product of parts, and a layout says in which order the parts of all axes are stored. Transposing and reshaping
change the axes and leave the parts where they are; what has weights, or reads along an axis, follows the order that it
finds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

Shape = tuple[int, ...]
Order = npt.NDArray[np.intp]


class LayoutError(Exception):
    """Values would have to be moved in memory. The text says what to do instead."""


@dataclass(frozen=True, eq=False)
class Part:
    """A factor of an axis, larger than 1; one object is one factor."""

    size: int


Parts = tuple[Part, ...]


def parts_of(size: int) -> Parts:
    return (Part(size),) if size > 1 else ()


def size_of(parts: Iterable[Part]) -> int:
    return math.prod(p.size for p in parts)


@dataclass(frozen=True, eq=False)
class Layout:
    """`axes`: for each axis of the ONNX tensor its parts, the slowest first; axes of size 1 have none. `stored`: all
    parts, the slowest in memory first.
    """

    axes: tuple[Parts, ...]
    stored: Parts

    @staticmethod
    def row_major(shape: Sequence[int]) -> Layout:
        axes = tuple(parts_of(d) for d in shape)
        return Layout(axes, tuple(chain(*axes)))

    @staticmethod
    def channels_last(shape: Sequence[int]) -> Layout:
        """Of [1, C, H, W] or [1, C, W]; of other ranks as `row_major`."""
        plain = Layout.row_major(shape)
        if len(shape) < 3:
            return plain
        batch, channels, *space = plain.axes
        return Layout(plain.axes, (*batch, *chain(*space), *channels))

    @property
    def shape(self) -> Shape:
        return tuple(size_of(axis) for axis in self.axes)

    @property
    def is_channels_last(self) -> bool:
        if len(self.axes) not in (3, 4):
            return False
        batch, channels, *space = self.axes
        return self.stored == (*batch, *chain(*space), *channels)

    @property
    def memory_shape(self) -> Shape:
        """The shape in the order of memory, less a batch axis of 1: (height, width, channels), (1, time, channels) or
        (features,). Raises `LayoutError` where memory is neither in the order of the axes nor has channels last.
        """
        shape = self.shape
        if self.is_channels_last:
            axes = (*shape[2:], shape[1])
        elif self.stored == tuple(chain(*self.axes)):
            axes = shape[1:] if len(shape) > 1 and shape[0] == 1 else shape
        else:
            raise LayoutError("Its values lie in another order; leave out the Flatten, Reshape or Transpose before it.")
        if len(axes) > 3:
            raise LayoutError(f"It has the shape {list(shape)}; at most three axes besides the batch are supported.")
        return (1, *axes) if len(axes) == 2 else axes or (1,)

    # --- other axes, the same memory

    def transposed(self, order: Sequence[int]) -> Layout:
        return Layout(tuple(self.axes[a] for a in order), self.stored)

    def reshaped(self, shape: Sequence[int]) -> Layout:
        """The axes of `shape`, which must have as many elements. Raises `LayoutError` where parts would be torn."""
        flat = Layout((tuple(chain(*self.axes)),), self.stored).merged()
        at, spans = 0, []
        for size in shape:
            start, got = at, 1
            while got < size:
                missing = size // got
                if size % got == 0 and flat.axes[0][at].size % missing == 0:
                    part = flat.axes[0][at]
                    flat = flat.replaced(part, (*parts_of(missing), *parts_of(part.size // missing)))
                got *= flat.axes[0][at].size
                at += 1
            if got != size:
                raise LayoutError("Keep channels, height and width apart when reshaping.")
            spans.append(slice(start, at))
        return Layout(tuple(flat.axes[0][span] for span in spans), flat.stored)

    def replaced(self, old: Part, new: Parts) -> Layout:
        """`new` in place of the part `old`, in its axis and in memory."""

        def put(parts: Parts) -> Parts:
            return tuple(chain(*(new if p is old else (p,) for p in parts)))

        return Layout(tuple(put(axis) for axis in self.axes), put(self.stored))

    def merged(self) -> Layout:
        """Parts of an axis that also lie side by side in memory, made one."""
        made = self
        for axis in self.axes:
            done = axis[:1]
            for part in axis[1:]:
                before = done[-1]
                if made.stored.index(part) == made.stored.index(before) + 1:
                    joined = Part(before.size * part.size)
                    made = made.replaced(before, (joined,)).replaced(part, ())
                    done = (*done[:-1], joined)
                else:
                    done = (*done, part)
        return made

    # --- what operations ask for

    def key(self) -> tuple[tuple[int, int, int], ...]:
        """Equal for tensors of equal shapes whose values lie in the same order."""
        made = self.merged()
        place = {p: (a, k) for a, axis in enumerate(made.axes) for k, p in enumerate(axis)}
        return tuple((*place[p], p.size) for p in made.stored)

    def trailing(self, *axes: int) -> Parts:
        """The last parts in memory, which must be those of `axes`, in any order. Raises `LayoutError` else."""
        wanted = set(chain(*(self.axes[a] for a in axes)))
        found = self.stored[len(self.stored) - len(wanted) :]
        if set(found) != wanted:
            raise LayoutError("Keep one order of axes (batch, channels, height, width) throughout the network.")
        return found

    def space(self) -> tuple[int, int]:
        """(height, width) of [1, C, H, W]; of [1, C, W] with a height of 1. Raises `LayoutError` for others."""
        if len(self.axes) not in (3, 4) or self.axes[0]:
            raise LayoutError("It works on [1, channels, height, width] or [1, channels, width] only.")
        self.trailing(1)
        space = tuple(chain(*self.axes[2:]))
        if self.stored[: len(space)] != space:
            raise LayoutError("Keep one order of axes (batch, channels, height, width) throughout the network.")
        height = size_of(self.axes[2]) if len(self.axes) == 4 else 1
        return height, size_of(self.axes[-1])

    def with_space(self, height: int, width: int) -> Layout:
        """The same channels in the same order, at another size."""
        space = [parts_of(s) for s in ((height, width) if len(self.axes) == 4 else (width,))]
        return Layout((self.axes[0], self.axes[1], *space), (*chain(*space), *self.trailing(1)))


def order_of(axis: Parts, stored: Parts) -> Order:
    """For each place in memory the index along the axis; `stored` are the parts of `axis` in their order there."""
    places = np.arange(size_of(axis)).reshape([p.size for p in axis])
    return places.transpose([axis.index(p) for p in stored]).reshape(-1)
