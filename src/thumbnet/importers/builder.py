"""What importers of float networks share: a graph in the making, told in the axes of the source.

A framework's tensor becomes a `Value`: the graph's value that holds its numbers, and the layout that says which axis of
the source lies where in it. Transposing and reshaping therefore cost no nodes; what needs its numbers in a certain
order (a convolution an image, a dense layer a vector) asks for it, and only then are nodes made that move them.
Channels-last sources (Keras, TFLite), channels-first ones (PyTorch, ONNX) and signals without a height all take this
path.

Axes are counted without the batch, which importers leave out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.errors import ModelError, UnsupportedOpError
from thumbnet.graph.graph import Graph, Input, Node, Shape
from thumbnet.graph.layout import Layout, LayoutError, Parts, order_of, parts_of, size_of
from thumbnet.graph.ops import op_of

Floats = npt.NDArray[np.float32]

MAX_NUMBERS = 1 << 27  # of a value


@dataclass(frozen=True)
class Origin:
    """An operation of the source: what the source calls the kind, and the occurrence."""

    op: str
    name: str

    def node_name(self, op: str) -> str:
        """What the graph's node for the operation `op` is called."""
        return self.name or op

    def refuse(self, why: str) -> UnsupportedOpError:
        return UnsupportedOpError(self.op, self.name, why)


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the source, less its batch axis: `ref` holds its numbers, in the order that `layout` tells."""

    ref: str
    layout: Layout

    @property
    def shape(self) -> Shape:
        """In the axes of the source."""
        return self.layout.shape


class Builder:
    """Nodes collected so far. `channels_last` is where the source has its channels."""

    def __init__(self, name: str, *, channels_last: bool) -> None:
        self.name = name
        self.channels_last = channels_last
        self.inputs: list[Input] = []
        self.nodes: dict[str, Node] = {}
        self.shapes: dict[str, Shape] = {}  # of the graph's values
        self._moved: dict[tuple[str, str, tuple[int, ...]], str] = {}
        self._taken: dict[str, int] = {}  # how often a name was asked for

    # --- in and out

    def input(self, name: str, shape: Shape, channels_last: bool | None = None) -> Value:
        """A graph input: images are (C, H, W) whatever the source does, signals of two axes (C, 1, L)."""
        name = self._free(name)
        layout = Layout.row_major(shape)
        axes: tuple[Parts, ...] = layout.axes
        if len(shape) in (2, 3):
            axes = (*self._image_axes(layout, channels_last),)
        own = tuple(size_of(a) for a in axes) or (1,)
        _bounded(name, own)
        self.inputs.append(Input(name, own))
        self.shapes[name] = own
        return Value(name, Layout(layout.axes, tuple(chain(*axes))))

    def output(self, origin: Origin, x: Value, channels_last: bool | None = None) -> Value:
        """The value as the graph gives it out: images as (C, H, W), everything else in the order of the source."""
        last = self.channels_last if channels_last is None else channels_last
        axes: tuple[Parts, ...] = x.layout.axes
        if len(x.shape) == 3 or (len(x.shape) == 2 and self.is_image(x, last)):
            axes = self._image_axes(x.layout, last)
        ref = self.arranged(origin, x, axes)
        if ref not in self.nodes:
            raise origin.refuse("An output of the network must be computed from its input.")
        return Value(ref, Layout(x.layout.axes, tuple(chain(*axes))))

    def graph(self, outputs: Sequence[Value]) -> Graph:
        return Graph(self.name, tuple(self.inputs), tuple(self.nodes.values()), tuple(v.ref for v in outputs))

    def add(
        self,
        origin: Origin,
        op: str,
        inputs: Sequence[str],
        attrs: Mapping[str, Any] | None = None,
        weights: Mapping[str, Floats] | None = None,
    ) -> str:
        """Appends a node named after its origin; the name of its value. Raises `ModelError` where shapes do not fit."""
        node = Node(self._free(origin.node_name(op)), op, tuple(inputs), dict(attrs or {}), dict(weights or {}))
        made = op_of(node).infer_shape(node, [self.shapes[v] for v in inputs])
        _bounded(node.name, made)
        self.shapes[node.name] = made
        self.nodes[node.name] = node
        return node.name

    def _free(self, name: str) -> str:
        made, k = name, self._taken.get(name, 1)
        while made in self.shapes:
            k += 1
            made = f"{name}_{k}"
        self._taken[name] = k
        return made

    # --- the order of numbers

    def image(self, origin: Origin, x: Value, channels_last: bool | None = None) -> str:
        """The graph's value (C, H, W) of an image, or of a signal, which gets a height of 1."""
        if len(x.shape) not in (2, 3):
            raise origin.refuse(f"It works on images or signals, not on a value of shape {_told(x.shape)}.")
        return self.arranged(origin, x, self._image_axes(x.layout, channels_last))

    def from_image(self, ref: str, rank: int, channels_last: bool | None = None) -> Value:
        """A graph's value (C, H, W) as a tensor of the source with `rank` axes, 2 or 3."""
        c, h, w = (parts_of(s) for s in self.shapes[ref])
        last = self.channels_last if channels_last is None else channels_last
        space = (h, w) if rank == 3 else (w,)
        return Value(ref, Layout((*space, c) if last else (c, *space), (*c, *h, *w)))

    def plain(self, origin: Origin, x: Value) -> str:
        """The graph's value whose axes are those of the source."""
        return self.arranged(origin, x, x.layout.axes)

    def vector(self, origin: Origin, x: Value) -> str:
        """The numbers as they lie, as a vector."""
        return self.moved(origin, "flatten", x.ref, (size_of(x.layout.stored),))

    def arranged(self, origin: Origin, x: Value, axes: Sequence[Parts]) -> str:
        """The graph's value whose axes are made of these parts of `x`; nodes that move numbers where there must be."""
        shape, wanted = tuple(size_of(a) for a in axes) or (1,), tuple(chain(*axes))
        if x.layout.stored == wanted:
            return self.moved(origin, "reshape", x.ref, shape)
        runs = _runs(x.layout.stored, self.shapes[x.ref])
        if runs is not None and len(runs) == len(axes) and all(a in runs for a in axes) and () not in axes:
            return self.moved(origin, "transpose", x.ref, tuple(runs.index(a) for a in axes))
        flat = Layout((wanted,), x.layout.stored).merged()
        source = self.moved(origin, "reshape", x.ref, tuple(p.size for p in flat.stored))
        order = tuple(flat.stored.index(p) for p in flat.axes[0])
        return self.moved(origin, "reshape", self.moved(origin, "transpose", source, order), shape)

    def moved(self, origin: Origin, op: str, ref: str, numbers: tuple[int, ...]) -> str:
        """A graph's value reshaped to the shape `numbers`, or transposed by them; one node for all that ask for it."""
        if op != "transpose" and self.shapes[ref] == numbers:
            return ref
        key = (op, ref, numbers)
        if key not in self._moved:
            if op == "reshape" and len(numbers) == 1:
                op = "flatten"
            attrs = {"reshape": {"shape": list(numbers)}, "transpose": {"perm": list(numbers)}, "flatten": {}}[op]
            self._moved[key] = self.add(Origin(origin.op, f"{origin.name}.{op}".strip(".")), op, [ref], attrs)
        return self._moved[key]

    def _image_axes(self, layout: Layout, channels_last: bool | None = None) -> tuple[Parts, Parts, Parts]:
        """The parts of channels, height and width."""
        last = self.channels_last if channels_last is None else channels_last
        channels, space = (layout.axes[-1], layout.axes[:-1]) if last else (layout.axes[0], layout.axes[1:])
        return (channels, space[0], space[1]) if len(space) == 2 else (channels, (), space[0])

    def is_image(self, x: Value, channels_last: bool | None = None) -> bool:
        """Whether the graph's value is that of an image already; `channels_last` None: wherever its channels are."""
        if len(x.shape) not in (2, 3):
            return False
        if channels_last is None:
            return self.is_image(x, self.convention(x))
        axes = self._image_axes(x.layout, channels_last)
        return x.layout.stored == tuple(chain(*axes)) and self.shapes[x.ref] == tuple(size_of(a) for a in axes)

    def convention(self, x: Value) -> bool:
        """Whether the channels of an image or signal are its last axis: as it lies, or else as the source has them.

        What transposes images on its way (a channels-first file made of a channels-last network, say) has both kinds.
        """
        own = self.channels_last
        return not own if not self.is_image(x, own) and self.is_image(x, not own) else own

    # --- axes only

    def permute(self, x: Value, order: Sequence[int]) -> Value:
        return Value(x.ref, x.layout.transposed(order))

    def reshape(self, origin: Origin, x: Value, shape: Sequence[int]) -> Value:
        try:
            return Value(x.ref, x.layout.reshaped(shape))
        except LayoutError:
            return Value(self.plain(origin, x), Layout.row_major(shape))

    # --- numbers for each channel

    def by_channel(
        self, origin: Origin, x: Value, axis: int | None, *arrays: Floats
    ) -> tuple[str, Value, list[Floats]]:
        """For an operation with one number for each position along a source axis, or one for all (`axis` None): the
        graph's value with that axis first, the tensor it stands for, and the numbers in its order.
        """
        if axis is None:
            return x.ref, x, [np.full(self.shapes[x.ref][0], a.reshape(-1)[0], np.float32) for a in arrays]
        parts = x.layout.axes[axis]
        first = self.shapes[x.ref][0]
        leading = x.layout.stored[: len(parts)]
        if not (set(leading) == set(parts) and size_of(parts) == first):
            if len(x.shape) == 1:
                x = Value(self.vector(origin, x), x.layout)
            elif len(x.shape) == 2:
                x = self.from_image(self.image(origin, x, axis == 1), 2, axis == 1)
            else:
                rest = [k for k in range(len(x.shape)) if k != axis]
                axes = [x.layout.axes[k] for k in (axis, *rest)]
                x = Value(self.arranged(origin, x, axes), Layout(x.layout.axes, tuple(chain(*axes))))
            parts = x.layout.axes[axis]
            leading = x.layout.stored[: len(parts)]
        order = order_of(parts, leading)
        return x.ref, x, [np.ascontiguousarray(a.reshape(-1)[order], np.float32) for a in arrays]


def _runs(stored: Parts, shape: Shape) -> list[Parts] | None:
    """The parts of each axis of a graph's value; None where its shape tears one."""
    runs, at = [], 0
    for size in shape:
        start, got = at, 1
        while got < size and at < len(stored):
            got *= stored[at].size
            at += 1
        if got != size:
            return None
        runs.append(tuple(stored[start:at]))
    return runs


def _bounded(name: str, shape: Shape) -> None:
    """Raises `ModelError` for a value that would take memory without bounds: files come from strangers."""
    if prod(shape) > MAX_NUMBERS:
        raise ModelError(f"'{name}' has the shape {_told(shape)}.", "No microcontroller runs networks of that size.")


def _told(shape: Shape) -> str:
    return "(" + ", ".join(str(s) for s in shape) + ")"
