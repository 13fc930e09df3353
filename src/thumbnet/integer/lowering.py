"""What lowering works with: tensors and nodes made so far, and the order in which each tensor holds its numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TypeVar

import numpy as np

from thumbnet.graph.graph import Graph, Node, Shape
from thumbnet.graph.layout import Layout, parts_of
from thumbnet.integer import build
from thumbnet.integer.graph import IntegerNode, QTensor
from thumbnet.integer.quantization import QParams

_T = TypeVar("_T")


@dataclass(eq=False)
class Work:
    """What has been lowered so far. A value's tensor may hold its numbers in any order, which its layout tells; most
    operations ask for the canonical one: images as height, width, channels, everything else by its axes.
    """

    graph: Graph
    qparams: dict[str, QParams]
    tensors: dict[str, QTensor] = field(default_factory=dict)
    nodes: list[IntegerNode] = field(default_factory=list)
    layouts: dict[str, Layout] = field(default_factory=dict)
    _ordered: dict[str, QTensor] = field(default_factory=dict)

    def tensor(self, name: str, shape: Shape, qparams: QParams | None = None) -> QTensor:
        """Registers a tensor for a value of this shape, in canonical order."""
        axes = tuple(parts_of(s) for s in shape)
        return self.register(name, canonical_axes(shape), Layout(axes, tuple(chain(*canonical_axes(axes)))), qparams)

    def alike(self, name: str, source: str, qparams: QParams | None = None) -> QTensor:
        """Registers a tensor whose numbers lie as those of the value `source` do."""
        return self.register(name, self.tensors[source].shape, self.layouts[source], qparams)

    def register(self, name: str, stored: Shape, layout: Layout, qparams: QParams | None = None) -> QTensor:
        """Registers a tensor by the shape and order in which it is stored."""
        self.layouts[name] = layout
        scale, zero_point = qparams or self.qparams[name]
        self.tensors[name] = QTensor(name, stored, float(np.float32(scale)), int(zero_point))
        return self.tensors[name]

    def out(self, node: Node) -> QTensor:
        return self.tensor(node.name, self.graph.shapes[node.name])

    def inputs(self, node: Node) -> list[QTensor]:
        return [self.canonical(v) for v in node.inputs]

    def canonical(self, value: str) -> QTensor:
        """The value's numbers in canonical order; moved there where they lie in another."""
        layout, x = self.layouts[value], self.tensors[value]
        shape, wanted = canonical_axes(layout.shape), tuple(chain(*canonical_axes(layout.axes)))
        if layout.stored == wanted and x.shape == shape:
            return x
        if value not in self._ordered:
            flat = Layout((wanted,), layout.stored).merged()
            if len(flat.stored) > 1:
                x = self.moved(x, "reshape", f"{value}.parts", tuple(p.size for p in flat.stored))
                order = tuple(flat.stored.index(p) for p in flat.axes[0])
                x = self.moved(x, "transpose", f"{value}.ordered", order)
            self._ordered[value] = self.moved(x, "reshape", f"{value}.whole", shape)
        return self._ordered[value]

    def moved(self, x: QTensor, op: str, name: str, numbers: Shape) -> QTensor:
        shape = tuple(x.shape[a] for a in numbers) if op == "transpose" else numbers
        if shape == x.shape and op == "reshape":
            return x
        self.tensors[name] = replace(x, name=name, shape=shape)
        key = "perm" if op == "transpose" else "shape"
        self.nodes.append(IntegerNode(name, op, (x.name,), {key: list(numbers)}))
        return self.tensors[name]


def canonical_axes(axes: tuple[_T, ...]) -> tuple[_T, ...]:
    """Channels last, of images; other ranks as they are."""
    return (axes[1], axes[2], axes[0]) if len(axes) == 3 else axes


def requantized(work: Work, node: Node, x: QTensor, out: QTensor) -> QTensor:
    """An input of `node` in the quantization of its output."""
    if (x.scale, x.zero_point) == (out.scale, out.zero_point):
        return x
    same = replace(out, name=f"{node.name}.{x.name}", shape=x.shape)
    if same.name in work.tensors:  # it is an input twice
        return same
    work.tensors[same.name] = same
    work.nodes.append(build.requantize(same.name, x, same))
    return same


Lowerer = Callable[[Work, Node], None]
"""Appends the integer form of a node."""
