"""What every integer graph must satisfy; checked after each pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from thumbnet.errors import ModelError
from thumbnet.integer.arithmetic import INT4_MAX, INT4_MIN
from thumbnet.integer.binary import BINARY, fits
from thumbnet.integer.graph import IntegerGraph, IntegerNode
from thumbnet.integer.moves import STRIDED, pad_channels
from thumbnet.integer.reductions import EXTREMES, SUMS, blocks
from thumbnet.integer.resize import reads_inside

Shape = tuple[int, ...]


def validate(ig: IntegerGraph) -> None:
    """Raises `ModelError` where names, order, shapes or parameters do not fit together.

    Shapes of operations that are not known here are taken as they are.
    """
    written = list(ig.inputs)
    for node in ig.nodes:
        _check(set(node.inputs) <= set(written), node, "reads what is not written before it")
        _check(node.name not in written, node, "writes a tensor that exists already")
        written.append(node.name)
        _check(node.name in ig.tensors, node, "writes a tensor without a description")
        _check_node(ig, node)
    if set(written) != set(ig.tensors) or not set(ig.outputs) <= set(written) or not ig.outputs:
        raise ModelError(f"The tensors of the integer graph '{ig.name}' do not match its nodes.")


def _check(holds: bool, node: IntegerNode, problem: str) -> None:
    if not holds:
        raise ModelError(f"The {node.op} node '{node.name}' {problem}.")


def _check_node(ig: IntegerGraph, node: IntegerNode) -> None:
    out, shapes = ig.tensors[node.name].shape, [ig.tensors[v].shape for v in node.inputs]
    _check(min(out, default=0) > 0, node, f"writes an empty tensor {list(out)}")
    _check(-128 <= node.clamp[0] <= node.clamp[1] <= 127, node, f"clamps to {node.clamp}")
    rule = _SHAPES.get(node.op)
    if rule is not None:
        expected = rule(node, shapes, out)
        _check(tuple(expected) == out, node, f"writes {list(out)} where its inputs give {list(expected)}")
    for key in ("bias", "multiplier", "shift") if "bias" in node.arrays else ():
        _check(node.arrays[key].shape == out[-1:], node, f"has a {key} of shape {list(node.arrays[key].shape)}")
    if "weight_bits" in node.attrs:
        _check_weight_bits(node)
    if node.op == "lut":
        _check(node.arrays["table"].shape == (256,), node, "has a table that is not 256 long")


def _check_weight_bits(node: IntegerNode) -> None:
    _check("weight" in node.arrays, node, "has weight_bits but no weights")
    _check(node.attrs["weight_bits"] == 4, node, f"has weights of {node.attrs['weight_bits']} bits, not 4")
    low, high = int(node.arrays["weight"].min()), int(node.arrays["weight"].max())
    _check(low >= INT4_MIN and high <= INT4_MAX, node, f"has weights from {low} to {high}, beyond 4 bits")


# --- one rule per operation: the output's shape


def _window(node: IntegerNode, x: Shape, kernel: Sequence[int]) -> Shape:
    sizes = []
    for k in (0, 1):
        reach = node.attrs.get("dilation", (1, 1))[k] * (kernel[k] - 1) + 1
        room = x[k] + node.attrs["padding"][k] + node.attrs["padding"][k + 2] - reach
        sizes.append(int(room // node.attrs["stride"][k] + 1))
    return tuple(sizes)


def _conv2d(node: IntegerNode, shapes: Sequence[Shape], out: Shape) -> Shape:
    o, kh, kw, per_group = node.arrays["weight"].shape
    _check(per_group * int(node.attrs["groups"]) == shapes[0][-1], node, "has weights for other input channels")
    return (*_window(node, shapes[0], (kh, kw)), o)


def _depthwise(node: IntegerNode, shapes: Sequence[Shape], out: Shape) -> Shape:
    kh, kw, o = node.arrays["weight"].shape
    _check(o % shapes[0][-1] == 0, node, "has weights for other input channels")
    return (*_window(node, shapes[0], (kh, kw)), o)


def _transposed(node: IntegerNode, shapes: Sequence[Shape], out: Shape) -> Shape:
    o, depth = node.arrays["weight"].shape[0], node.arrays["weight"].shape[-1]
    _check(depth == shapes[0][-1], node, "has weights for other input channels")
    _check(min(node.attrs["stride"]) > 0 and min(node.attrs["padding"]) >= 0, node, "has no such stride or padding")
    return (*out[:-1], o)


def _dense(node: IntegerNode, shapes: Sequence[Shape], out: Shape) -> Shape:
    o, i = node.arrays["weight"].shape
    _check(i == shapes[0][-1], node, "has weights for another number of inputs")
    return (*shapes[0][:-1], o)


def _pool(node: IntegerNode, shapes: Sequence[Shape], out: Shape) -> Shape:
    return (*_window(node, shapes[0], node.attrs["kernel"]), shapes[0][-1])


def _global_avg_pool(node: IntegerNode, shapes: Sequence[Shape], out: Shape) -> Shape:
    channels = shapes[0][-1]
    return (channels,) if len(out) == 1 else (1, 1, channels)


def _reduced(node: IntegerNode, shapes: Sequence[Shape], out: Shape) -> Shape:
    """The axes may stay with size 1 or go."""
    axes = [int(a) for a in node.attrs["axes"]]
    inside = all(0 <= a < len(shapes[0]) for a in axes)
    _check(inside and blocks(axes, shapes[0]) is not None, node, f"reduces the axes {axes} of {list(shapes[0])}")
    kept = [n for k, n in enumerate(shapes[0]) if k not in axes and n > 1]
    _check([n for n in out if n > 1] == kept, node, f"writes {list(out)} of {list(shapes[0])}")
    return out


def _same(node: IntegerNode, shapes: Sequence[Shape], out: Shape) -> Shape:
    return shapes[0]


def _binary(node: IntegerNode, shapes: Sequence[Shape], out: Shape) -> Shape:
    both = [*shapes, node.arrays["constant"].shape] if "constant" in node.arrays else [*shapes]
    _check(
        len(both) == 2 and fits(node.op, both[0], both[-1], out),
        node,
        f"has operands that do not fit: {[list(s) for s in both]}",
    )
    return out


def _concat(node: IntegerNode, shapes: Sequence[Shape], out: Shape) -> Shape:
    axis = int(node.attrs["axis"])
    return (*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])


def _pad(node: IntegerNode, shapes: Sequence[Shape], out: Shape) -> Shape:
    top, left, bottom, right = node.attrs["padding"]
    height, width, channels = shapes[0]
    if node.op == "mirror_pad":
        edge = 1 if node.attrs["mode"] == "reflect" else 0
        fits = max(top, bottom) <= height - edge and max(left, right) <= width - edge
        _check(fits, node, f"mirrors more than there is: {list(node.attrs['padding'])} of {list(shapes[0])}")
    _check(-128 <= int(node.attrs.get("value", 0)) <= 127, node, "pads with what is no int8 value")
    return (height + top + bottom, width + left + right, channels + sum(pad_channels(node)))


def _strided(node: IntegerNode, shapes: Sequence[Shape], out: Shape) -> Shape:
    shape = shapes[0]
    if node.op == "transpose":
        perm = [int(a) for a in node.attrs["perm"]]
        _check(sorted(perm) == list(range(len(shape))), node, f"has the order {perm} of axes")
        return tuple(shape[a] for a in perm)
    if node.op == "strided_slice":
        begin, step = node.attrs["begin"], node.attrs["step"]
        _check(len(begin) == len(step) == len(out) == len(shape), node, "cuts another number of axes")
        ends = [b + s * (n - 1) for b, s, n in zip(begin, step, out, strict=True)]
        inside = all(0 <= v < n for at in (begin, ends) for v, n in zip(at, shape, strict=True))
        _check(inside, node, f"takes more than {list(shape)}")
        return out
    block, (height, width, channels) = int(node.attrs["block"]), shape
    _check(block > 0, node, f"has blocks of {block}")
    if node.op == "space_to_depth":
        _check(height % block == width % block == 0, node, f"has blocks of {block} for {list(shape)}")
        return (height // block, width // block, channels * block**2)
    _check(channels % block**2 == 0, node, f"has blocks of {block} for {list(shape)}")
    return (height * block, width * block, channels // block**2)


def _reshape(node: IntegerNode, shapes: Sequence[Shape], out: Shape) -> Shape:
    shape = tuple(int(s) for s in node.attrs["shape"])
    _check(prod(shape) == prod(shapes[0]), node, f"makes {list(shape)} of {list(shapes[0])}")
    return shape


def _resize(node: IntegerNode, shapes: Sequence[Shape], out: Shape) -> Shape:
    height, width = node.attrs["size"]
    if node.op == "resize_bilinear":
        inside = all(reads_inside(node.attrs, n, m) for n, m in zip(shapes[0], (height, width), strict=False))
        _check(inside, node, f"reads beyond its input {list(shapes[0])}")
    return (int(height), int(width), shapes[0][-1])


def _slice(node: IntegerNode, shapes: Sequence[Shape], out: Shape) -> Shape:
    axis, start, stop = (int(node.attrs[k]) for k in ("axis", "start", "stop"))
    _check(0 <= start < stop <= shapes[0][axis], node, f"takes [{start}, {stop}) of {shapes[0][axis]}")
    return (*shapes[0][:axis], stop - start, *shapes[0][axis + 1 :])


_SHAPES: dict[str, Callable[[IntegerNode, Sequence[Shape], Shape], Shape]] = {
    "conv2d": _conv2d,
    "depthwise_conv2d": _depthwise,
    "conv_transpose2d": _transposed,
    "dense": _dense,
    **dict.fromkeys(("max_pool2d", "avg_pool2d"), _pool),
    "global_avg_pool": _global_avg_pool,
    **dict.fromkeys(BINARY, _binary),
    **dict.fromkeys(("lut", "requantize", "softmax"), _same),
    "concat": _concat,
    **dict.fromkeys(("pad", "mirror_pad"), _pad),
    **dict.fromkeys(STRIDED, _strided),
    "reshape": _reshape,
    **dict.fromkeys((*SUMS, *EXTREMES), _reduced),
    **dict.fromkeys(("resize_nearest", "resize_bilinear"), _resize),
    "slice": _slice,
}
