"""TFLite's operators that move the bytes of one tensor: reshapes, transpositions, paddings, resizing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from thumbnet.importers.tflite_operands import Operands, Supported
from thumbnet.integer.graph import IntegerNode, QTensor
from thumbnet.integer.resize import reads_inside


def _reshape(o: Operands) -> None:
    """RESHAPE, SQUEEZE, EXPAND_DIMS: the output's shape is in the file; the order of bytes stays."""
    x = o.input()
    out = o.output()
    if out.bytes != x.bytes:
        raise o.broken(f"makes {out.bytes} values of {x.bytes}")
    o.done(o.builder.add(IntegerNode(out.name, "reshape", (x.name,), {"shape": list(out.shape)})))


def _transpose(o: Operands) -> None:
    """Where it moves axes of size 1 only, the bytes stay in place."""
    shape, order = o.required(0).shape, o.integers(1)
    if sorted(order) != list(range(len(shape))):
        raise o.broken(f"has the order {order} of axes")
    moved = [a for a in order if shape[a] > 1]
    if moved == sorted(moved):
        _reshape(o)
        return
    x = o.input()
    if order[0] and shape[order[0]] == 1:  # another axis of size 1 stands in for the batch axis
        order[order.index(0)], order[0] = order[0], 0
    if order[0]:
        raise o.refuse("The batch axis must stay the first.")
    perm = order if len(x.shape) == len(shape) else [a - 1 for a in order[1:]]
    out = o.output([x.shape[a] for a in perm])
    o.same_quantization(out, x)
    o.done(o.builder.add(IntegerNode(out.name, "transpose", (x.name,), {"perm": perm})))


def _blocks(op: str) -> Callable[[Operands], None]:
    def convert(o: Operands) -> None:
        x, block = o.image(), int(o.option("BlockSize"))
        (h, w, c), down = x.shape, op == "space_to_depth"
        if not 0 < block <= 64 or (h % block or w % block if down else c % block**2):
            raise o.broken(f"has blocks of {block} for {list(x.shape)}")
        size = (h // block, w // block, c * block**2) if down else (h * block, w * block, c // block**2)
        out = o.output(size)
        o.same_quantization(out, x)
        o.done(o.builder.add(IntegerNode(out.name, op, (x.name,), {"block": block})))

    return convert


def _reverse(o: Operands) -> None:
    x = o.input()
    axes = {o.stored_axis(a) for a in o.integers(1)}
    out = o.output(x.shape)
    o.same_quantization(out, x)
    begin = [n - 1 if k in axes else 0 for k, n in enumerate(x.shape)]
    step = [-1 if k in axes else 1 for k in range(len(x.shape))]
    o.done(o.builder.add(IntegerNode(out.name, "strided_slice", (x.name,), {"begin": begin, "step": step})))


# --- padding


def _pad(o: Operands) -> None:
    x, (padding, channels) = o.input(), _paddings(o)
    attrs: dict[str, object] = {"padding": padding}
    if any(channels):
        attrs["channels"] = channels
    if o.op == "PADV2":
        value = o.constant(2, "int8").reshape(-1)
        if len(value) != 1:
            raise o.broken("pads with more than one value")
        if int(value[0]) != x.zero_point:
            attrs["value"] = int(value[0])
    x = o.builder.reshape(f"{o.name}/pixel", x, (1, 1, *x.shape)) if len(x.shape) == 1 else x
    out = o.output(_padded(x, padding, channels))
    o.same_quantization(out, x)
    o.done(o.builder.add(IntegerNode(out.name, "pad", (x.name,), attrs)))


def _padded(x: QTensor, padding: Sequence[int], channels: Sequence[int]) -> tuple[int, ...]:
    top, left, bottom, right = padding
    return (x.shape[0] + top + bottom, x.shape[1] + left + right, x.shape[2] + sum(channels))


def _mirror_pad(o: Operands) -> None:
    x, (padding, channels) = o.image(), _paddings(o)
    mode = {0: "reflect", 1: "symmetric"}.get(int(o.option("Mode")))
    if mode is None or any(channels):
        raise o.refuse("Only height and width can be mirrored.")
    edge = 1 if mode == "reflect" else 0
    if max(padding[0], padding[2]) > x.shape[0] - edge or max(padding[1], padding[3]) > x.shape[1] - edge:
        raise o.broken(f"mirrors {padding} of {list(x.shape)}")
    out = o.output(_padded(x, padding, channels))
    o.same_quantization(out, x)
    o.done(o.builder.add(IntegerNode(out.name, "mirror_pad", (x.name,), {"padding": padding, "mode": mode})))


def _paddings(o: Operands) -> tuple[list[int], list[int]]:
    """([top, left, bottom, right], [before, after] of the channels) from the file's (before, after) of each axis."""
    rank, flat = len(o.required(0).shape), o.integers(1)
    if len(flat) != 2 * rank or min(flat, default=0) < 0 or max(flat, default=0) > 4096:
        raise o.broken(f"has the paddings {flat} for {rank} axes")
    pairs = [flat[2 * i : 2 * i + 2] for i in range(rank)]
    if not 2 <= rank <= 4 or any(pairs[0]):
        raise o.refuse("Only height, width and channels can be padded.")
    rows, columns = ([0, 0], [0, 0], *pairs[1:-1])[-2:]  # what is not there is not padded
    return [rows[0], columns[0], rows[1], columns[1]], pairs[-1]


# --- resizing


def _resize(op: str) -> Callable[[Operands], None]:
    def convert(o: Operands) -> None:
        x, size = o.input(), o.integers(1)
        if len(x.shape) != 3 or len(size) != 2 or not all(0 < s <= 65535 for s in size):
            raise o.broken(f"resizes {list(x.shape)} to {size}")
        options = {"align_corners": bool(o.option("AlignCorners"))}
        options["half_pixel_centers"] = bool(o.option("HalfPixelCenters"))
        attrs = {"size": size, **{k: True for k, v in options.items() if v}}
        if op == "resize_bilinear":
            if all(options.values()):
                raise o.broken("asks for both align_corners and half_pixel_centers")
            if not all(reads_inside(attrs, n, m) for n, m in zip(x.shape[:2], size, strict=True)):
                raise o.refuse(f"From {list(x.shape[:2])} to {size} its rounded steps lead beyond the image.")
        out = o.output((*size, x.shape[2]))
        o.same_quantization(out, x)
        o.done(o.builder.add(IntegerNode(out.name, op, (x.name,), attrs)))

    return convert


SHAPES: dict[str, Supported] = {
    **dict.fromkeys(("RESHAPE", "SQUEEZE", "EXPAND_DIMS"), Supported(_reshape, "Nothing is computed.")),
    "TRANSPOSE": Supported(_transpose, "The batch axis stays the first; axes of size 1 move for nothing."),
    "SPACE_TO_DEPTH": Supported(_blocks("space_to_depth")),
    "DEPTH_TO_SPACE": Supported(_blocks("depth_to_space")),
    "REVERSE_V2": Supported(_reverse),
    **dict.fromkeys(("PAD", "PADV2"), Supported(_pad, "Height, width and channels; any value.")),
    "MIRROR_PAD": Supported(_mirror_pad, "Height and width."),
    "RESIZE_NEAREST_NEIGHBOR": Supported(_resize("resize_nearest"), "Both options."),
    "RESIZE_BILINEAR": Supported(_resize("resize_bilinear"), "Both options, one at a time."),
}
