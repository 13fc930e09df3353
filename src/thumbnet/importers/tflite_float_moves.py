"""TFLite's operators that move numbers: reshapes, transpositions, paddings, resizing, joining and cutting."""

from __future__ import annotations

from collections.abc import Sequence

from thumbnet.importers import values
from thumbnet.importers.builder import Value
from thumbnet.importers.tflite_values import Convert, FloatOperator, has_batch, own_shape


def _reshape(o: FloatOperator) -> None:
    """RESHAPE, SQUEEZE, EXPAND_DIMS: the output's shape is in the file, however it was computed."""
    x, shape = o.computed(), own_shape(o.content.tensors[o.operator.outputs[0]], o)
    if x.shape != shape and sorted(d for d in x.shape if d > 1) == sorted(d for d in shape if d > 1) == []:
        o.done(x)
        return
    o.done(o.builder.reshape(o.origin, x, shape) if _count(x.shape) == _count(shape) else x)


def _count(shape: Sequence[int]) -> int:
    made = 1
    for d in shape:
        made *= d
    return made


def _transpose(o: FloatOperator) -> None:
    shape, order = o.required(0).shape, o.integers(1)
    if sorted(order) != list(range(len(shape))):
        raise o.broken(f"has the order {order} of axes")
    if has_batch(shape):
        if order[0] and shape[order[0]] == 1:  # another axis of size 1 stands in for the batch axis
            order[order.index(0)], order[0] = order[0], 0
        if order[0]:
            raise o.refuse("The batch axis must stay the first.")
        order = [a - 1 for a in order[1:]]
    o.done(o.builder.permute(o.computed(), order))


def _blocks(o: FloatOperator) -> None:
    x, r = o.computed(), int(o.option("BlockSize"))
    down = o.op == "SPACE_TO_DEPTH"
    if len(x.shape) != 3 or not 0 < r <= 64:
        raise o.broken(f"has blocks of {r} for {list(x.shape)}")
    h, w, c = x.shape
    if h % r or w % r if down else c % (r * r):
        raise o.broken(f"has blocks of {r} for {list(x.shape)}")
    b, origin = o.builder, o.origin
    if down:
        x = b.permute(b.reshape(origin, x, (h // r, r, w // r, r, c)), (0, 2, 1, 3, 4))
        o.done(b.reshape(origin, x, (h // r, w // r, r * r * c)))
    else:
        x = b.permute(b.reshape(origin, x, (h, w, r, r, c // (r * r))), (0, 2, 1, 3, 4))
        o.done(b.reshape(origin, x, (h * r, w * r, c // (r * r))))


def _pad(o: FloatOperator) -> None:
    shape, flat = o.required(0).shape, o.integers(1)
    if len(flat) != 2 * len(shape) or min(flat, default=0) < 0 or max(flat, default=0) > 4096:
        raise o.broken(f"has the paddings {flat} for {len(shape)} axes")
    pairs = [(flat[2 * k], flat[2 * k + 1]) for k in range(len(shape))]
    if not has_batch(shape) or any(pairs[0]):
        raise o.refuse("The batch axis must stay as it is.")
    mode = "constant"
    if o.op == "MIRROR_PAD":
        if o.option("Mode") != 0:
            raise o.refuse("Only the mode REFLECT is supported.")
        mode = "reflect"
    value = float(o.reals(2).reshape(-1)[0]) if o.op == "PADV2" and o.reals(2).size == 1 else 0.0
    o.done(values.pad(o.builder, o.origin, o.computed(), pairs[1:], value, mode))


def _resize(mode: str) -> Convert:
    def convert(o: FloatOperator) -> None:
        x, out = o.computed(), own_shape(o.content.tensors[o.operator.outputs[0]], o)
        if len(x.shape) != 3 or len(out) != 3:
            raise o.broken(f"resizes {list(x.shape)} to {list(out)}")
        made = values.resize(
            o.builder,
            o.origin,
            x,
            (out[0], out[1]),
            mode,
            align_corners=bool(o.option("AlignCorners")),
            half_pixel_centers=bool(o.option("HalfPixelCenters")),
        )
        o.done(made)

    return convert


# --- joining and cutting


def _concat(o: FloatOperator) -> None:
    if o.activation_name != "none":
        raise o.refuse("It must have no fused activation.")
    given = [o.computed(k) for k in range(len(o.operator.inputs))]
    if not given:
        raise o.broken("joins nothing")
    o.done(values.concat(o.builder, o.origin, given, o.axis(int(o.option("Axis")))))


def _pack(o: FloatOperator) -> None:
    given = [o.computed(k) for k in range(len(o.operator.inputs))]
    shape = o.required(0).shape
    axis = int(o.option("Axis"))
    axis = axis + len(shape) + 1 if axis < 0 else axis
    if not has_batch(shape) or not 0 < axis <= len(shape) or any(v.shape != given[0].shape for v in given):
        raise o.refuse("It must join tensors of one shape along a new axis behind the batch axis.")
    own = given[0].shape
    wider = [o.builder.reshape(o.origin, v, (*own[: axis - 1], 1, *own[axis - 1 :])) for v in given]
    o.done(values.concat(o.builder, o.origin, wider, axis - 1))


def _cut(o: FloatOperator, ranges: Sequence[range], x: Value, shape: Sequence[int]) -> Value:
    """Of each axis in the file the positions that stay."""
    if has_batch(shape):
        if len(ranges[0]) != 1:
            raise o.refuse("The batch axis must stay as it is.")
        ranges = ranges[1:]
    for axis, r in enumerate(ranges):
        step = r.step if len(r) > 1 else 1
        if not r or step < 1:
            raise o.refuse("Every axis must keep something, in its order.")
        x = values.cut(o.builder, o.part(f"axis{axis}"), x, axis, r[0], r[-1] + 1, step)
    return x


def _slice(o: FloatOperator) -> None:
    shape, begin, size = o.required(0).shape, o.integers(1), o.integers(2)
    if not len(begin) == len(size) == len(shape):
        raise o.broken(f"cuts {begin} with {size} from {list(shape)}")
    ranges = [range(n)[b : n if s == -1 else b + s] for n, b, s in zip(shape, begin, size, strict=True)]
    o.done(_cut(o, ranges, o.computed(), shape))


def _strided_slice(o: FloatOperator) -> None:
    shape = o.required(0).shape
    begin, end, step = o.integers(1), o.integers(2), o.integers(3)
    if not len(begin) == len(end) == len(step) <= len(shape) or not all(step):
        raise o.broken(f"cuts {begin} to {end} by {step} from {list(shape)}")
    if o.option("EllipsisMask") or o.option("NewAxisMask") or o.option("Offset"):
        raise o.refuse("Write all axes out.")
    ranges = [range(n) for n in shape]
    for i in range(len(begin)):
        first, last = (None if o.option(m) >> i & 1 else v[i] for m, v in (("BeginMask", begin), ("EndMask", end)))
        if o.option("ShrinkAxisMask") >> i & 1:
            ranges[i] = ranges[i][first or 0 :][:1]
        else:
            ranges[i] = ranges[i][first : last : step[i]]
    o.done(_cut(o, ranges, o.computed(), shape))


def _split(o: FloatOperator) -> None:
    axis = o.integers(0)
    if len(axis) != 1:
        raise o.broken(f"cuts along {axis}")
    own, count = o.axis(axis[0], 1), len(o.operator.outputs)
    size = o.computed(1).shape[own]
    if size % count:
        raise o.broken(f"cuts {size} in {count}")
    _parts(o, own, [size // count] * count, 1)


def _split_v(o: FloatOperator) -> None:
    sizes, axis = o.integers(1), o.integers(2)
    if len(axis) != 1 or len(sizes) != len(o.operator.outputs) or sizes.count(-1) > 1:
        raise o.broken(f"cuts along {axis} in {sizes}")
    own = o.axis(axis[0])
    rest = o.computed().shape[own] - sum(s for s in sizes if s != -1)
    _parts(o, own, [rest if s == -1 else s for s in sizes], 0)


def _unpack(o: FloatOperator) -> None:
    own = o.axis(int(o.option("Axis")))
    _parts(o, own, [1] * len(o.operator.outputs), 0)


def _parts(o: FloatOperator, axis: int, sizes: Sequence[int], which: int) -> None:
    x = o.computed(which)
    if sum(sizes) != x.shape[axis] or min(sizes) < 1:
        raise o.broken(f"cuts {list(x.shape)} along its axis {axis} in {list(sizes)}")
    for k, part in enumerate(values.split(o.builder, o.origin, x, axis, sizes)):
        o.done(part, k)


MOVING: dict[str, Convert] = {
    **dict.fromkeys(("RESHAPE", "SQUEEZE", "EXPAND_DIMS"), _reshape),
    "TRANSPOSE": _transpose,
    **dict.fromkeys(("SPACE_TO_DEPTH", "DEPTH_TO_SPACE"), _blocks),
    **dict.fromkeys(("PAD", "PADV2", "MIRROR_PAD"), _pad),
    "RESIZE_NEAREST_NEIGHBOR": _resize("nearest"),
    "RESIZE_BILINEAR": _resize("bilinear"),
    "CONCATENATION": _concat,
    "PACK": _pack,
    "UNPACK": _unpack,
    "SPLIT": _split,
    "SPLIT_V": _split_v,
    "SLICE": _slice,
    "STRIDED_SLICE": _strided_slice,
}
