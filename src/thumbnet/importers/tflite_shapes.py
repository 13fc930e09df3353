"""TFLite's operators that move bytes: reshapes, paddings, concatenations, slices, nearest-neighbour resizing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from thumbnet.importers.tflite_operands import Operands
from thumbnet.integer.graph import IntegerNode, QTensor


def _reshape(o: Operands) -> None:
    """RESHAPE, SQUEEZE, EXPAND_DIMS: the output's shape is in the file; the order of bytes stays."""
    x = o.input()
    out = o.output()
    if out.bytes != x.bytes:
        raise o.broken(f"makes {out.bytes} values of {x.bytes}")
    o.done(o.builder.add(IntegerNode(out.name, "reshape", (x.name,), {"shape": list(out.shape)})))


def _transpose(o: Operands) -> None:
    """Only where it moves axes of size 1: then the bytes stay where they are."""
    shape, order = o.required(0).shape, o.integers(1)
    if sorted(order) != list(range(len(shape))):
        raise o.broken(f"has the order {order} of axes")
    moved = [a for a in order if shape[a] > 1]
    if moved != sorted(moved):
        raise o.refuse("Keep one order of axes (height, width, channels) throughout the network.")
    _reshape(o)


# --- padding


def _pad(o: Operands) -> None:
    x = o.input()
    padding = _paddings(o)
    if o.op == "PADV2":
        value = o.constant(2, "int8").reshape(-1)
        if len(value) != 1:
            raise o.broken("pads with more than one value")
        if int(value[0]) != x.zero_point:
            _pad_lowest(o, x, padding, int(value[0]))
            return
    out = o.output((x.shape[0] + padding[0] + padding[2], x.shape[1] + padding[1] + padding[3], x.shape[2]))
    o.same_quantization(out, x)
    o.done(o.builder.add(IntegerNode(out.name, "pad", (x.name,), {"padding": padding})))


def _pad_lowest(o: Operands, x: QTensor, padding: Sequence[int], value: int) -> None:
    """Padding with −128 is left to the max pooling that follows."""
    if value != -128:
        raise o.refuse("Pad with zeros, or with the lowest value in front of MAX_POOL_2D.")
    index = o.operator.outputs[0]
    o.values[index], o.padded[index] = x, tuple(padding)


def _paddings(o: Operands) -> list[int]:
    """[top, left, bottom, right] from the file's constant of (before, after) for each axis."""
    rank, flat = len(o.required(0).shape), o.integers(1)
    if len(flat) != 2 * rank or min(flat) < 0 or max(flat) > 4096:
        raise o.broken(f"has the paddings {flat} for {rank} axes")
    pairs = [(flat[2 * i], flat[2 * i + 1]) for i in range(rank)]
    if rank == 3:  # [1, time, channels]
        pairs = [pairs[0], (0, 0), *pairs[1:]]
    if rank not in (3, 4) or any(pairs[0]) or any(pairs[3]):
        raise o.refuse("Only height and width can be padded.")
    return [pairs[1][0], pairs[2][0], pairs[1][1], pairs[2][1]]


# --- joining and cutting


def _stored_axis(o: Operands, axis: int, k: int = 0) -> int:
    """An axis of the file's tensor (negative ones count from the end) in the graph's shape."""
    rank = len(o.required(k).shape)
    if not -rank <= axis < rank:
        raise o.broken(f"works along axis {axis} of {rank}")
    axis %= rank
    if axis == 0:
        raise o.refuse("The batch axis must stay as it is.")
    return axis if rank == 3 else axis - 1  # [1, time, channels] is stored (1, time, channels)


def _concat(o: Operands) -> None:
    inputs = [o.input(k) for k in range(len(o.operator.inputs))]
    if not inputs or o.activation_name != "none":
        raise o.refuse("It must have inputs and no fused activation.")
    axis = _stored_axis(o, int(o.option("Axis")))
    first = inputs[0].shape
    rest = [x.shape[:axis] + x.shape[axis + 1 :] for x in inputs]
    if any(len(x.shape) != len(first) for x in inputs) or any(r != rest[0] for r in rest):
        raise o.broken(f"joins the shapes {[list(x.shape) for x in inputs]}")
    shape = (*first[:axis], sum(x.shape[axis] for x in inputs), *first[axis + 1 :])
    out = o.output(shape)
    o.same_quantization(out, *inputs)
    o.done(o.builder.add(IntegerNode(out.name, "concat", tuple(x.name for x in inputs), {"axis": axis})))


def _slice(o: Operands) -> None:
    shape = o.required(0).shape
    begin, size = o.integers(1), o.integers(2)
    if len(begin) != len(shape) or len(size) != len(shape):
        raise o.broken(f"cuts {begin} with {size} from {list(shape)}")
    stop = [shape[i] if size[i] == -1 else begin[i] + size[i] for i in range(len(shape))]
    _cut(o, begin, stop)


def _strided_slice(o: Operands) -> None:
    shape = o.required(0).shape
    begin, end, step = o.integers(1), o.integers(2), o.integers(3)
    rank = len(begin)
    if not rank == len(end) == len(step) or rank > len(shape):
        raise o.broken(f"cuts {begin} to {end} by {step} from {list(shape)}")
    if any(s != 1 for s in step):
        raise o.refuse("Only steps of 1 are supported; use a stride in a pooling layer.")
    if o.option("EllipsisMask") or o.option("NewAxisMask") or o.option("Offset"):
        raise o.refuse("Write all axes out.")
    first, stop = [0] * len(shape), list(shape)
    for i in range(rank):
        if not o.option("BeginMask") >> i & 1:
            first[i] = _inside(begin[i], shape[i])
        if o.option("ShrinkAxisMask") >> i & 1:
            stop[i] = first[i] + 1
        elif not o.option("EndMask") >> i & 1:
            stop[i] = _inside(end[i], shape[i])
    _cut(o, first, stop)


def _inside(position: int, size: int) -> int:
    return min(max(position + size if position < 0 else position, 0), size)


def _cut(o: Operands, begin: Sequence[int], stop: Sequence[int]) -> None:
    """One slice for each axis that loses something."""
    shape, x = o.required(0).shape, o.input()
    if any(not 0 <= b < s <= d for b, s, d in zip(begin, stop, shape, strict=True)):
        raise o.broken(f"cuts {list(begin)} to {list(stop)} from {list(shape)}")
    axes = [i for i in range(len(shape)) if stop[i] - begin[i] < shape[i]]
    cuts = [(_stored_axis(o, i), begin[i], stop[i]) for i in axes]
    if not cuts:
        _reshape(o)
        return
    for k, (axis, start, end) in enumerate(cuts):
        cut = (*x.shape[:axis], end - start, *x.shape[axis + 1 :])
        out = o.output(cut) if k == len(cuts) - 1 else o.builder.like(f"{o.name}/axis{axis}", x, cut)
        o.same_quantization(out, x)
        x = o.builder.add(IntegerNode(out.name, "slice", (x.name,), {"axis": axis, "start": start, "stop": end}))
    o.done(x)


# --- resizing


def _resize_nearest(o: Operands) -> None:
    x, size = o.input(), o.integers(1)
    if len(x.shape) != 3 or len(size) != 2 or not all(0 < s <= 65535 for s in size):
        raise o.broken(f"resizes {list(x.shape)} to {size}")
    aligned, centred = bool(o.option("AlignCorners")), bool(o.option("HalfPixelCenters"))
    for before, after in zip(x.shape[:2], size, strict=True):
        if not np.array_equal(_sources(before, after, aligned, centred), np.arange(after) * before // after):
            raise o.refuse(
                f"From {before} to {after} it must read pixel i · {before} // {after} (a whole factor does)."
            )
    out = o.output((*size, x.shape[2]))
    o.same_quantization(out, x)
    o.done(o.builder.add(IntegerNode(out.name, "resize_nearest", (x.name,), {"size": size})))


def _sources(before: int, after: int, aligned: bool, centred: bool) -> npt.NDArray[np.int64]:
    """Which pixel TFLite reads for each output, in its float32."""
    less = 1 if aligned and after > 1 else 0
    scale = np.float32(before - less) / np.float32(after - less)
    positions = (np.arange(after).astype(np.float32) + np.float32(0.5 if centred else 0)) * scale
    rounded = np.floor(positions + np.float32(0.5)) if aligned else np.floor(positions)
    sources: npt.NDArray[np.int64] = np.clip(rounded, 0, before - 1).astype(np.int64)
    return sources


SHAPES: dict[str, Callable[[Operands], None]] = {
    **dict.fromkeys(("RESHAPE", "SQUEEZE", "EXPAND_DIMS"), _reshape),
    "TRANSPOSE": _transpose,
    **dict.fromkeys(("PAD", "PADV2"), _pad),
    "CONCATENATION": _concat,
    "SLICE": _slice,
    "STRIDED_SLICE": _strided_slice,
    "RESIZE_NEAREST_NEIGHBOR": _resize_nearest,
}
