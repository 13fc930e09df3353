"""How quantized ONNX spells the operations that move bytes: exactly, as floats that are dequantized bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from thumbnet.exporters.onnx_float import resize_factors
from thumbnet.exporters.onnx_qdq_writer import QdqWriter, file_axis
from thumbnet.integer import resize
from thumbnet.integer.arithmetic import Ints
from thumbnet.integer.graph import IntegerNode
from thumbnet.integer.moves import mirrored, pad_channels, pad_value

_BEFORE_ALL = -(1 << 31)  # the end of a slice that runs backwards to the first element


def _concat(w: QdqWriter, node: IntegerNode) -> None:
    axis = file_axis(int(node.attrs["axis"]), len(w.tensor(node).shape))
    inputs = [w.real(node, k) for k in range(len(node.inputs))]
    w.done(node, w.step(node, "Concat", inputs, "real", axis=axis))


def _pad(w: QdqWriter, node: IntegerNode) -> None:
    out, (top, left, bottom, right), (first, last) = w.tensor(node), node.attrs["padding"], pad_channels(node)
    amounts = w.model.integers(f"{node.name}/amounts", [0, first, top, left, 0, last, bottom, right])
    inputs = [w.real(node), amounts]
    value = pad_value(node, out) - out.zero_point
    if value:
        inputs.append(w.model.constant(f"{node.name}/value", np.float32(value) * np.float32(out.scale)))
    w.done(node, w.step(node, "Pad", inputs, "real"))


def _mirror_pad(w: QdqWriter, node: IntegerNode) -> None:
    """ONNX has no symmetric padding in this opset: rows and columns are picked by their indices instead."""
    if node.attrs["mode"] == "reflect":
        top, left, bottom, right = node.attrs["padding"]
        amounts = w.model.integers(f"{node.name}/amounts", [0, 0, top, left, 0, 0, bottom, right])
        w.done(node, w.step(node, "Pad", [w.real(node), amounts], "real", mode="reflect"))
    else:
        _picked(w, node, *mirrored(node, w.source(node).shape))


def _picked(w: QdqWriter, node: IntegerNode, *indices: Ints) -> None:
    """Rows and columns by their indices."""
    value = w.real(node)
    for axis, (name, chosen) in enumerate(zip(("rows", "columns"), indices, strict=True)):
        constant = w.model.integers(f"{node.name}/{name}_taken", [int(i) for i in chosen])
        value = w.step(node, "Gather", [value, constant], name, axis=file_axis(axis, 3))
    w.done(node, value)


def _transpose(w: QdqWriter, node: IntegerNode) -> None:
    perm = [int(a) for a in node.attrs["perm"]]
    order = [0] * len(perm)
    for axis, source in enumerate(perm):
        order[file_axis(axis, len(perm)) - 1] = file_axis(source, len(perm))
    w.done(node, w.step(node, "Transpose", [w.real(node)], "real", perm=[0, *order]))


def _cut(w: QdqWriter, node: IntegerNode, bounds: Sequence[tuple[int, int, int, int]]) -> None:
    """Slices (axis of the graph, first, end, step)."""
    rank = len(w.source(node).shape)
    columns = {
        "starts": [b[1] for b in bounds],
        "ends": [b[2] if b[2] >= 0 else _BEFORE_ALL for b in bounds],
        "axes": [file_axis(b[0], rank) for b in bounds],
        "steps": [b[3] for b in bounds],
    }
    inputs = [w.model.integers(f"{node.name}/{k}", v) for k, v in columns.items()]
    w.done(node, w.step(node, "Slice", [w.real(node), *inputs], "real"))


def _slice(w: QdqWriter, node: IntegerNode) -> None:
    axis, start, stop = (int(node.attrs[k]) for k in ("axis", "start", "stop"))
    _cut(w, node, [(axis, start, stop, 1)])


def _strided_slice(w: QdqWriter, node: IntegerNode) -> None:
    counts = w.tensor(node).shape
    begin, step = ([int(v) for v in node.attrs[k]] for k in ("begin", "step"))
    _cut(w, node, [(k, b, b + s * n, s) for k, (b, s, n) in enumerate(zip(begin, step, counts, strict=True))])


def _space_to_depth(w: QdqWriter, node: IntegerNode) -> None:
    block = int(node.attrs["block"])
    w.done(node, w.step(node, "SpaceToDepth", [w.real(node)], "real", blocksize=block))


def _depth_to_space(w: QdqWriter, node: IntegerNode) -> None:
    block = int(node.attrs["block"])
    w.done(node, w.step(node, "DepthToSpace", [w.real(node)], "real", blocksize=block, mode="DCR"))


def _reshape(w: QdqWriter, node: IntegerNode) -> None:
    """Where the output reads the same bytes by another scale and zero point, that is a factor and an offset."""
    x, out = w.source(node), w.tensor(node)
    value = w.reshaped(node, w.real(node), x.shape, out.shape)
    if x.scale != out.scale:
        factor = w.model.constant(f"{node.name}/factor", np.float32(out.scale / x.scale))
        value = w.step(node, "Mul", [value, factor], "scaled")
    if x.zero_point != out.zero_point:
        offset = np.float32((x.zero_point - out.zero_point) * out.scale)
        value = w.step(node, "Add", [value, w.model.constant(f"{node.name}/offset", offset)], "shifted")
    w.done(node, value)


# --- resizing


def _resize_nearest(w: QdqWriter, node: IntegerNode) -> None:
    """By Resize for enlargements by whole factors, on which all runtimes agree; else by the indices themselves."""
    before, after = w.source(node).shape[:2], w.tensor(node).shape[:2]
    whole = all(m % n == 0 and resize.plain(node.attrs, n, m) for n, m in zip(before, after, strict=True))
    if not whole:
        _picked(w, node, *(resize.nearest(node.attrs, n, m) for n, m in zip(before, after, strict=True)))
        return
    kind = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    w.done(node, w.step(node, "Resize", [w.real(node), "", _factors(w, node)], "real", **kind))


def _resize_bilinear(w: QdqWriter, node: IntegerNode) -> None:
    kind = "align_corners" if node.attrs.get("align_corners") else "asymmetric"
    kind = "half_pixel" if node.attrs.get("half_pixel_centers") else kind
    attributes = {"mode": "linear", "coordinate_transformation_mode": kind}
    w.done(node, w.step(node, "Resize", [w.real(node), "", _factors(w, node)], "real", **attributes))


def _factors(w: QdqWriter, node: IntegerNode) -> str:
    factors = resize_factors(w.source(node).shape[:2], w.tensor(node).shape[:2])
    return w.model.constant(f"{node.name}/factors", factors, np.float32)


MOVES: Mapping[str, Callable[[QdqWriter, IntegerNode], None]] = {
    "concat": _concat,
    "pad": _pad,
    "mirror_pad": _mirror_pad,
    "transpose": _transpose,
    "strided_slice": _strided_slice,
    "space_to_depth": _space_to_depth,
    "depth_to_space": _depth_to_space,
    "reshape": _reshape,
    "resize_nearest": _resize_nearest,
    "resize_bilinear": _resize_bilinear,
    "slice": _slice,
}
