"""Lowering of operations that move numbers: joining, cutting, padding, resizing, other axes."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Any

from thumbnet.errors import UnsupportedOpError
from thumbnet.graph.graph import Node
from thumbnet.graph.layout import Layout, LayoutError
from thumbnet.integer.graph import IntegerNode, QTensor
from thumbnet.integer.lowering import Lowerer, Work, canonical_axes, requantized
from thumbnet.integer.resize import reads_inside


def _concat(work: Work, node: Node) -> None:
    inputs, out = work.inputs(node), work.out(node)
    names = tuple(requantized(work, node, x, out).name for x in inputs)
    work.nodes.append(IntegerNode(node.name, "concat", names, {"axis": _stored_axis(work, node)}))


def _slice(work: Work, node: Node) -> None:
    (x,) = work.inputs(node)
    work.out(node)
    attrs = {
        "axis": _stored_axis(work, node),
        "start": int(node.attrs["start"]),
        "stop": int(node.attrs["stop"]),
    }
    work.nodes.append(IntegerNode(node.name, "slice", (x.name,), attrs))


def _stored_axis(work: Work, node: Node) -> int:
    """The node's axis in the canonical order."""
    axis, rank = int(node.attrs["axis"]), len(work.graph.shapes[node.name])
    return (axis - 1) % 3 if rank == 3 else axis


def _pad(work: Work, node: Node) -> None:
    (x,) = work.inputs(node)
    work.out(node)
    padding, mode = list(node.attrs["padding"]), str(node.attrs.get("mode", "constant"))
    if mode == "constant":
        work.nodes.append(IntegerNode(node.name, "pad", (x.name,), {"padding": padding}))
    else:
        work.nodes.append(IntegerNode(node.name, "mirror_pad", (x.name,), {"padding": padding, "mode": mode}))


def _resize(work: Work, node: Node) -> None:
    (x,) = work.inputs(node)
    options = {k: True for k in ("align_corners", "half_pixel_centers") if node.attrs.get(k)}
    attrs: dict[str, Any] = {"size": list(work.out(node).shape[:2]), **options}
    op = f"resize_{node.attrs.get('mode', 'nearest')}"
    if op == "resize_bilinear" and not all(
        reads_inside(attrs, a, b) for a, b in zip(x.shape[:2], attrs["size"], strict=True)
    ):
        raise UnsupportedOpError(node.op, node.name, f"It enlarges {x.shape[:2]} too far; resize in two steps.")
    work.nodes.append(IntegerNode(node.name, op, (x.name,), attrs))


def _axes_only(work: Work, node: Node) -> None:
    """flatten, reshape, transpose: other axes for the same bytes, unless an axis would be torn."""
    (source,) = node.inputs
    x, layout, shape = work.tensors[source], work.layouts[source], work.graph.shapes[node.name]
    if node.op == "transpose":
        made = layout.transposed([int(a) for a in node.attrs["perm"]])
    else:
        try:
            made = layout.reshaped(shape)
        except LayoutError:
            x, made = _by_axes(work, source), Layout.row_major(shape)
    ordered = made.stored == tuple(chain(*canonical_axes(made.axes)))
    stored = canonical_axes(shape) if ordered else (x.bytes,)
    work.layouts[node.name] = made
    work.tensors[node.name] = replace(x, name=node.name, shape=stored)
    work.nodes.append(IntegerNode(node.name, "reshape", (x.name,), {"shape": list(stored)}))


def _by_axes(work: Work, value: str) -> QTensor:
    """The value's numbers in the order of its axes, moved there from the canonical order of images."""
    x = work.canonical(value)
    if len(x.shape) == 3 and x.shape[2] > 1 and x.shape[0] * x.shape[1] > 1:
        return work.moved(x, "transpose", f"{value}.by_axes", (2, 0, 1))
    return x


MOVES: dict[str, Lowerer] = {
    "concat": _concat,
    "slice": _slice,
    "pad": _pad,
    "resize": _resize,
    **dict.fromkeys(("flatten", "reshape", "transpose"), _axes_only),
}
