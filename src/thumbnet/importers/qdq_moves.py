"""Operators of a quantized ONNX file that copy values: joining, cutting, padding, nearest-neighbour resizing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from thumbnet.graph.layout import Layout, LayoutError, Part, Parts, parts_of, size_of
from thumbnet.importers.onnx_node import MAX_WINDOW
from thumbnet.importers.qdq_operands import Operands
from thumbnet.importers.qdq_values import Made, Pending, Quantization, Stored
from thumbnet.integer import build
from thumbnet.integer.graph import IntegerNode, QTensor

# --- joining and cutting


def _frame(before: Parts, after: Parts) -> tuple[list[int], list[int]]:
    """Sizes of a tensor before and after an axis along which it is joined or cut, at most three axes in all."""
    sizes = [p.size for p in before], [p.size for p in after]
    if len(before) + len(after) > 2:
        sizes = [size_of(before)], [size_of(after)]
    return ([1, *sizes[0]], sizes[1]) if len(sizes[0]) + len(sizes[1]) == 1 else sizes


def _concat(o: Operands) -> None:
    inputs = [o.computed(k) for k in range(len(o.node.inputs))]
    axis = o.axis(o.integer("axis"), len(inputs[0].layout.axes))
    sizes = [x.layout.shape[axis] if len(x.layout.axes) > axis else 0 for x in inputs]
    rest = {(*x.layout.shape[:axis], *x.layout.shape[axis + 1 :]) for x in inputs}
    if len(rest) != 1 or axis == 0:
        raise o.broken(f"joins the shapes {[list(x.layout.shape) for x in inputs]} along axis {axis}")
    layouts = [x.layout.merged() for x in inputs]
    model = next((v for v in layouts if v.axes[axis]), layouts[0])
    if any(len(v.axes[axis]) > 1 or _without(v, axis).key() != _without(model, axis).key() for v in layouts):
        raise LayoutError("The values of its inputs lie in different orders.")
    joined = Part(sum(sizes))
    at = _place(model, axis)
    kept = _without(model, axis)
    axes = tuple((joined,) if k == axis else parts for k, parts in enumerate(kept.axes))
    layout = Layout(axes, (*kept.stored[:at], joined, *kept.stored[at:]))
    before, after = _frame(kept.stored[:at], kept.stored[at:])

    def join(tensors: Sequence[QTensor]) -> QTensor:
        shaped = [
            o.builder.reshape(f"{o.name}/input{k}", t, (*before, size, *after))
            for k, (t, size) in enumerate(zip(tensors, sizes, strict=True))
        ]
        out = o.builder.like(o.name, shaped[0], (*before, joined.size, *after))
        return o.builder.add(IntegerNode(out.name, "concat", tuple(t.name for t in shaped), {"axis": len(before)}))

    def make(q: Quantization) -> QTensor:
        return join([o.tensor_of(x, q) for x in inputs])

    held = [x for x in inputs if isinstance(x, Stored)]
    if any(isinstance(x, Pending) and x.integers for x in inputs):
        raise o.refuse("Give its inputs a DequantizeLinear first.")
    if len(held) == len(inputs) and len({(x.tensor.scale, x.tensor.zero_point, x.real) for x in held}) == 1:
        o.done(Stored(join([x.tensor for x in held]), layout, held[0].real, held[0].unsigned))
    elif any(not x.real for x in held):
        raise o.broken("joins integers of different quantization")
    else:
        o.done(Made(layout, make))


def _without(x: Layout, axis: int) -> Layout:
    """Less the parts of an axis, which has size 1 then."""
    gone = x.axes[axis]
    axes = tuple(() if k == axis else parts for k, parts in enumerate(x.axes))
    return Layout(axes, tuple(p for p in x.stored if p not in gone))


def _place(x: Layout, axis: int) -> int:
    """Where in memory an axis lies; channels of size 1 lie last."""
    if x.axes[axis]:
        return x.stored.index(x.axes[axis][0])
    if axis == 1 and len(x.axes) in (3, 4):
        return len(x.stored)
    earlier = [p for parts in x.axes[:axis] for p in parts]
    return max((x.stored.index(p) + 1 for p in earlier), default=0)


def _cut(o: Operands, x: Stored | Pending, axis: int, start: int, stop: int) -> Stored | Pending:
    """Values `start` to `stop` along an axis."""
    layout = x.layout
    size = layout.shape[axis]
    if not 0 <= start < stop <= size:
        raise o.broken(f"cuts {start} to {stop} from {size}")
    if axis == 0 and size > 1:
        raise o.refuse("The batch axis must stay as it is.")
    if stop - start == size:
        return x
    layout = layout.merged()
    first, inner = layout.axes[axis][0], size_of(layout.axes[axis][1:])
    if start % inner or stop % inner:
        raise LayoutError("It cuts through shuffled channels.")
    start, stop = start // inner, stop // inner
    at = layout.stored.index(first)
    before, after = _frame(layout.stored[:at], layout.stored[at + 1 :])

    def cut(t: QTensor) -> QTensor:
        t = o.builder.reshape(f"{o.name}/input", t, (*before, first.size, *after))
        out = o.builder.like(o.name, t, (*before, stop - start, *after))
        return o.builder.add(
            IntegerNode(out.name, "slice", (t.name,), {"axis": len(before), "start": start, "stop": stop})
        )

    return o.moved(x, layout.replaced(first, parts_of(stop - start)), cut)


def _slice(o: Operands) -> None:
    x = o.computed()
    shape = x.layout.shape
    starts, ends = o.listed(1, "starts"), o.listed(2, "ends")
    axes = [o.axis(a, len(shape)) for a in o.listed(3, "axes", range(len(starts)))]
    steps = o.listed(4, "steps", [1] * len(starts))
    if not len(starts) == len(ends) == len(axes) == len(steps) or len(set(axes)) != len(axes):
        raise o.broken("cuts along other axes than it has bounds for")
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step < 1:
            raise o.refuse("Only positive steps are supported.")
        start, end = (min(max(v + shape[axis] if v < 0 else v, 0), shape[axis]) for v in (start, end))
        x = _cut(o, x, axis, start, end)
        if step > 1:
            x = _every(o, x, axis, min(step, MAX_WINDOW))
    o.done(x)


def _every(o: Operands, x: Stored | Pending, axis: int, step: int) -> Stored | Pending:
    """Every `step`-th row or column: a pool of one pixel."""
    if axis < 2:
        raise o.refuse("Steps are supported along height and width only.")
    size, channels = x.layout.space(), x.layout.shape[1]
    stride = [step, 1] if axis == 2 and len(x.layout.axes) == 4 else [1, step]
    made = -(-size[0] // stride[0]), -(-size[1] // stride[1])

    def pick(t: QTensor) -> QTensor:
        t = o.builder.reshape(f"{o.name}/image", t, (*size, channels))
        out = o.builder.like(o.name, t, (*made, channels))
        return o.builder.add(build.pool(out.name, "max_pool2d", t, [1, 1], stride, [0, 0, 0, 0]))

    return o.moved(x, x.layout.with_space(*made), pick)


def _split(o: Operands) -> None:
    x, count = o.computed(), len(o.node.outputs)
    axis = o.axis(o.integer("axis", 0), len(x.layout.shape))
    size = x.layout.shape[axis]
    if o.has(1) or "split" in o.node.attributes:
        sizes = o.listed(1, "split")
    else:
        if o.integer("num_outputs", count) != count:
            raise o.broken(f"has {count} outputs")
        sizes = [min(-(-size // count), size - k * -(-size // count)) for k in range(count)]
    if len(sizes) != count or min(sizes) < 1 or sum(sizes) != size:
        raise o.broken(f"splits {size} into {sizes}")
    start = 0
    for k, part in enumerate(sizes):
        if o.node.outputs[k]:
            o.done(_cut(o, x, axis, start, start + part), k)
        start += part


# --- padding and resizing


def _pad(o: Operands) -> None:
    x = o.computed()
    shape, pads = x.layout.shape, o.listed(1, "pads")
    axes = [o.axis(a, len(shape)) for a in o.listed(3, "axes", range(len(shape)))]
    if o.text("mode", "constant") != "constant" or o.scalar(2, o.number("value", 0.0)) != 0:
        raise o.refuse("Pad with zeros; a padding of −inf can be given to the MaxPool behind it.")
    if len(pads) != 2 * len(axes) or len(set(axes)) != len(axes) or not all(0 <= p <= MAX_WINDOW for p in pads):
        raise o.broken(f"has the paddings {pads} for the axes {axes}")
    around = {a: (pads[k], pads[k + len(axes)]) for k, a in enumerate(axes) if pads[k] or pads[k + len(axes)]}
    if 0 in around:
        raise o.refuse("The batch axis must stay as it is.")
    if isinstance(x, Stored) and not x.real:
        raise o.broken("pads integers")
    if set(around) <= {2, 3} and len(shape) in (3, 4):
        top, bottom = around.get(2, (0, 0)) if len(shape) == 4 else (0, 0)
        left, right = around.get(len(shape) - 1, (0, 0))
        o.done(_pad_space(o, x, [top, left, bottom, right]) if around else x)
        return
    for axis in around:
        x = _pad_axis(o, x, axis, around[axis])
    o.done(x)


def _padded(
    o: Operands, x: Stored | Pending, layout: Layout, shape: Sequence[int], padding: list[int]
) -> Stored | Pending:
    """`padding` (top, left, bottom, right) around a view of three axes."""

    def pad(t: QTensor) -> QTensor:
        t = o.builder.reshape(f"{o.name}/input", t, shape)
        size = (shape[0] + padding[0] + padding[2], shape[1] + padding[1] + padding[3], shape[2])
        out = o.builder.like(o.name, t, size)
        return o.builder.add(IntegerNode(out.name, "pad", (t.name,), {"padding": padding}))

    def make(q: Quantization) -> QTensor:
        if not q.low <= q.zero_point <= q.high:
            raise o.refuse("A Clip behind it takes its zeros away; put the Clip first.")
        return pad(o.tensor_of(x, q))

    return Made(layout, make, x.own) if isinstance(x, Pending) else o.moved(x, layout, pad)


def _pad_space(o: Operands, x: Stored | Pending, padding: list[int]) -> Stored | Pending:
    height, width = x.layout.space()
    layout = x.layout.with_space(height + padding[0] + padding[2], width + padding[1] + padding[3])
    return _padded(o, x, layout, (height, width, x.layout.shape[1]), padding)


def _pad_axis(o: Operands, x: Stored | Pending, axis: int, pair: tuple[int, int]) -> Stored | Pending:
    """Along any axis, seen as the width of an image."""
    layout = x.layout.merged()
    if len(layout.axes[axis]) != 1:
        raise LayoutError("It pads an axis that is shuffled, or of size 1.")
    (part,) = layout.axes[axis]
    at = layout.stored.index(part)
    shape = (size_of(layout.stored[:at]), part.size, size_of(layout.stored[at + 1 :]))
    return _padded(o, x, layout.replaced(part, parts_of(part.size + sum(pair))), shape, [0, pair[0], 0, pair[1]])


def _resize(o: Operands) -> None:
    x = o.computed()
    shape, before = x.layout.shape, x.layout.space()
    if o.text("mode", "nearest") != "nearest" or o.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise o.refuse("Use nearest-neighbour interpolation instead, without a policy of aspect ratios.")
    scales = o.reals(2).reshape(-1) if o.has(2) else np.zeros(0, np.float32)
    axes = [o.axis(a, len(shape)) for a in o.integers("axes", range(len(shape)))]
    after, factors = list(shape), [1.0] * len(shape)
    if scales.size == len(axes) and np.all((scales > 0) & (scales < 1e4)):
        for a, s in zip(axes, scales.tolist(), strict=True):
            after[a], factors[a] = int(np.floor(shape[a] * np.float32(s))), s
    elif o.has(3) and len(sizes := o.listed(3, "sizes")) == len(axes):
        for a, made in zip(axes, sizes, strict=True):
            after[a], factors[a] = made, made / shape[a]
    else:
        raise o.broken("has no usable sizes")
    if factors[:2] != [1.0, 1.0] or not all(0 < d <= 65535 for d in after):
        raise o.refuse("Only height and width can be resized.")
    for a in range(2, len(shape)):
        if not np.array_equal(_sources(o, shape[a], after[a], factors[a]), np.arange(after[a]) * shape[a] // after[a]):
            raise o.refuse(f"From {shape[a]} to {after[a]} it must read pixel i · {shape[a]} // {after[a]}.")
    size = (after[2] if len(shape) == 4 else 1, after[-1])

    def resize(t: QTensor) -> QTensor:
        t = o.builder.reshape(f"{o.name}/input", t, (*before, shape[1]))
        out = o.builder.like(o.name, t, (*size, shape[1]))
        return o.builder.add(IntegerNode(out.name, "resize_nearest", (t.name,), {"size": list(size)}))

    o.done(o.moved(x, x.layout.with_space(*size), resize))


def _sources(o: Operands, before: int, after: int, factor: float) -> npt.NDArray[np.int64]:
    """Which pixel is read for each output, by ONNX's rules."""
    i, scale = np.arange(after, dtype=np.float32), np.float32(factor)
    kind = o.text("coordinate_transformation_mode", "half_pixel")
    if kind == "asymmetric":
        x = i / scale
    elif kind == "align_corners":
        x = i * np.float32(before - 1) / np.float32(max(after - 1, 1))
    elif kind == "half_pixel" or (kind == "pytorch_half_pixel" and after > 1):
        x = (i + np.float32(0.5)) / scale - np.float32(0.5)
    else:
        raise o.refuse("Use the coordinate_transformation_mode 'asymmetric' or 'half_pixel'.")
    rounding = o.text("nearest_mode", "round_prefer_floor")
    if rounding == "floor":
        x = np.floor(x)
    elif rounding == "ceil":
        x = np.ceil(x)
    else:
        x = np.ceil(x - np.float32(0.5)) if rounding == "round_prefer_floor" else np.floor(x + np.float32(0.5))
    sources: npt.NDArray[np.int64] = np.clip(x, 0, before - 1).astype(np.int64)
    return sources


MOVES: dict[str, Callable[[Operands], None]] = {
    "Concat": _concat,
    "Slice": _slice,
    "Split": _split,
    "Pad": _pad,
    "Resize": _resize,
}
