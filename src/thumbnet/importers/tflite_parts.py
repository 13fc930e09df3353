"""TFLite's operators that join tensors and cut them."""

from __future__ import annotations

from collections.abc import Sequence

from thumbnet.importers.tflite_operands import Operands, Supported
from thumbnet.integer.graph import IntegerNode, QTensor


def _concat(o: Operands) -> None:
    inputs = [o.input(k) for k in range(len(o.operator.inputs))]
    if not inputs or o.activation_name != "none":
        raise o.refuse("It must have inputs and no fused activation.")
    _join(o, inputs, o.stored_axis(int(o.option("Axis"))))


def _join(o: Operands, inputs: Sequence[QTensor], axis: int) -> None:
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
    if not rank == len(end) == len(step) or rank > len(shape) or not all(step):
        raise o.broken(f"cuts {begin} to {end} by {step} from {list(shape)}")
    if o.option("EllipsisMask") or o.option("NewAxisMask") or o.option("Offset"):
        raise o.refuse("Write all axes out.")
    ranges = [range(n) for n in shape]
    for i in range(rank):
        first, last = (None if o.option(m) >> i & 1 else v[i] for m, v in (("BeginMask", begin), ("EndMask", end)))
        if o.option("ShrinkAxisMask") >> i & 1:
            ranges[i] = ranges[i][first or 0 :][:1]
        else:
            ranges[i] = ranges[i][first : last : step[i]]
    if not all(ranges):
        raise o.broken(f"cuts {begin} to {end} by {step} from {list(shape)}, which leaves nothing")
    if all(r.step == 1 or len(r) == 1 for r in ranges):
        _cut(o, [r[0] for r in ranges], [r[-1] + 1 for r in ranges])
    else:
        _stride(o, ranges)


def _stride(o: Operands, ranges: Sequence[range]) -> None:
    if len(ranges[0]) != 1:
        raise o.refuse("The batch axis must stay as it is.")
    x = o.input()
    own = ranges[-len(x.shape) :]
    out = o.output([len(r) for r in own])
    o.same_quantization(out, x)
    attrs = {"begin": [r[0] for r in own], "step": [r.step for r in own]}
    o.done(o.builder.add(IntegerNode(out.name, "strided_slice", (x.name,), attrs)))


def _cut(o: Operands, begin: Sequence[int], stop: Sequence[int], k: int | None = None, which: int = 0) -> None:
    """Output `k` (None: the only one) is input `which` from `begin` to `stop`: by a slice for each axis cut."""
    shape, x = o.required(which).shape, o.input(which)
    if any(not 0 <= b < s <= d for b, s, d in zip(begin, stop, shape, strict=True)):
        raise o.broken(f"cuts {list(begin)} to {list(stop)} from {list(shape)}")
    axes = [i for i in range(len(shape)) if stop[i] - begin[i] < shape[i]]
    for i in axes:
        axis = o.stored_axis(i, which)
        cut = (*x.shape[:axis], stop[i] - begin[i], *x.shape[axis + 1 :])
        out = o.output(cut, k=k) if i == axes[-1] else o.builder.like(f"{o.name}/axis{axis}", x, cut)
        o.same_quantization(out, x)
        attrs = {"axis": axis, "start": begin[i], "stop": stop[i]}
        x = o.builder.add(IntegerNode(out.name, "slice", (x.name,), attrs))
    if not axes:
        out = o.output(x.shape, k=k)
        o.same_quantization(out, x)
        x = o.builder.add(IntegerNode(out.name, "reshape", (x.name,), {"shape": list(x.shape)}))
    o.done(x, k or 0)


def _split(o: Operands) -> None:
    axis, size = o.integers(0), len(o.required(1).shape)
    count = len(o.operator.outputs)
    total = o.required(1).shape[axis[0]] if len(axis) == 1 and -size <= axis[0] < size else 0
    if not total or total % count or count != o.option("NumSplits"):
        raise o.broken(f"cuts {list(o.required(1).shape)} along {axis} in {count}")
    _cut_along(o, axis[0], [total // count] * count, which=1)


def _split_v(o: Operands) -> None:
    sizes, axis, shape = o.integers(1), o.integers(2), o.required(0).shape
    if len(axis) != 1 or not -len(shape) <= axis[0] < len(shape) or len(sizes) != len(o.operator.outputs):
        raise o.broken(f"cuts {list(shape)} along {axis} in {sizes}")
    rest = shape[axis[0]] - sum(s for s in sizes if s != -1)
    _cut_along(o, axis[0], [rest if s == -1 else s for s in sizes])


def _unpack(o: Operands) -> None:
    axis, shape = int(o.option("Axis")), o.required(0).shape
    count = len(o.operator.outputs)
    if not -len(shape) <= axis < len(shape) or shape[axis] != count:
        raise o.broken(f"takes {list(shape)} apart along {axis} in {count}")
    _cut_along(o, axis, [1] * count)


def _cut_along(o: Operands, axis: int, sizes: Sequence[int], which: int = 0) -> None:
    shape, at = o.required(which).shape, 0
    axis %= len(shape)
    for k, size in enumerate(sizes):
        begin, stop = [0] * len(shape), list(shape)
        begin[axis], stop[axis] = at, at + size
        _cut(o, begin, stop, k, which)
        at += size


def _pack(o: Operands) -> None:
    """Each input gets the new axis, of size 1, and all are joined along it."""
    inputs = [o.input(k) for k in range(len(o.operator.inputs))]
    rank = len(o.required(0).shape) + 1
    axis = int(o.option("Axis")) % rank if -rank <= int(o.option("Axis")) < rank else 0
    if axis == 0 or rank > 5 or any(x.shape != inputs[0].shape for x in inputs):
        raise o.refuse("It must join tensors of one shape along a new axis behind the batch axis.")
    file = o.required(0).shape
    shape = (1, *file[1:axis], 1, *file[axis:])
    whole = rank == 3  # [1, time, channels] is stored (1, time, channels)
    parts = [o.builder.reshape(f"{o.name}/{k}", t, shape if whole else shape[1:]) for k, t in enumerate(inputs)]
    _join(o, parts, axis if whole else axis - 1)


PARTS: dict[str, Supported] = {
    "CONCATENATION": Supported(_concat, "Any axis; inputs and output share their quantization, as in TFLM."),
    "PACK": Supported(_pack, "Along any axis behind the batch axis."),
    "UNPACK": Supported(_unpack, "Along any axis behind the batch axis."),
    "SPLIT": Supported(_split, "Along any axis behind the batch axis."),
    "SPLIT_V": Supported(_split_v, "Along any axis behind the batch axis."),
    "SLICE": Supported(_slice),
    "STRIDED_SLICE": Supported(_strided_slice, "Any steps; no ellipsis, no new axes."),
}
