"""One call of a layer or operation of Keras, in terms of the graph in the making."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from thumbnet.graph.graph import Shape
from thumbnet.importers.builder import Builder, Floats, Origin, Value

Result = Value | list[Value]


@dataclass(frozen=True, eq=False)
class Call:
    """`op` is the layer or operation; `args` and `kwargs` have values in place of Keras's tensors. `shapes` are those
    of the outputs, without the batch."""

    b: Builder
    origin: Origin
    op: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    shapes: tuple[Shape, ...]

    @property
    def x(self) -> Value:
        """The first argument, which must be computed."""
        found = self.args[0] if self.args else next(iter(self.kwargs.values()), None)
        if isinstance(found, list | tuple) and len(found) == 1:
            found = found[0]
        if not isinstance(found, Value):
            raise self.origin.refuse("Its first input must be computed from the network's input.")
        return found

    @property
    def values(self) -> list[Value]:
        """The list of inputs that a merging layer takes."""
        found = self.args[0] if self.args else next(iter(self.kwargs.values()), None)
        found = list(found) if isinstance(found, list | tuple) else [found]
        if not found or not all(isinstance(v, Value) for v in found):
            raise self.origin.refuse("All its inputs must be computed from the network's input.")
        return found

    def arguments(self, *names: str) -> list[Any]:
        """Arguments by place or by name; None for those left out."""
        given = dict(zip(names, self.args, strict=False)) | dict(self.kwargs)
        return [given.get(n) for n in names]

    def part(self, what: str) -> Origin:
        """A node that is part of this operation."""
        return replace(self.origin, name=f"{self.origin.name}.{what}")

    def axis(self, axis: int, rank: int) -> int:
        """An axis of Keras's, which counts the batch, among `rank` axes without it."""
        found = axis + rank if axis < 0 else axis - 1
        if not 0 <= found < rank:
            raise self.origin.refuse(f"It works along axis {axis}; the batch axis must stay as it is.")
        return found

    def axes(self, axes: Any, rank: int) -> list[int]:
        """Several; None stands for all but the batch."""
        if axes is None:
            raise self.origin.refuse("It mixes the samples of a batch; name the axes it works along.")
        found = [axes] if isinstance(axes, int) else list(axes)
        return sorted({self.axis(int(a), rank) for a in found})

    def windowed(self, x: Value, work: Callable[[Value], Value]) -> Value:
        """`work` on an image or signal whose channels are where the builder expects them."""
        first = getattr(self.op, "data_format", "channels_last") == "channels_first"
        rank = len(x.shape)
        if first != self.b.channels_last or rank < 2:
            return work(x)
        there, back = ([*range(1, rank), 0], [rank - 1, *range(rank - 1)]) if first else ([], [])
        if not first:
            there, back = [rank - 1, *range(rank - 1)], [*range(1, rank), 0]
        return self.b.permute(work(self.b.permute(x, there)), back)


Handler = Callable[[Call], Result]


def numbers(weight: Any) -> Floats:
    """A weight of Keras, whatever its backend."""
    from thumbnet.importers.keras_backend import keras_module

    value = getattr(weight, "value", weight)
    value = value() if callable(value) else value
    return np.array(keras_module().ops.convert_to_numpy(value), np.float32)


def pair(found: Any) -> tuple[int, int]:
    """(height, width) of a setting: of signals, which have no height, (1, length)."""
    sizes: Sequence[Any] = found if isinstance(found, list | tuple) else [found]
    return (1, int(sizes[0])) if len(sizes) == 1 else (int(sizes[0]), int(sizes[1]))


def constant(found: Any) -> Floats:
    """A number, list or tensor among a call's arguments."""
    if isinstance(found, int | float | bool | list | tuple | np.ndarray | np.generic):
        return np.asarray(found, np.float32)
    return numbers(found)
