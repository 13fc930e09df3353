"""Nodes of float ONNX files that change axes only: reshapes and transposes, in all their spellings."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from thumbnet.importers.builder import Value
from thumbnet.importers.onnx_operands import BATCH, Handler, Operation, Rows

_MAX_BLOCK = 64


def _reshape(o: Operation) -> Value:
    x, dims = o.computed(), o.listed(1, "shape")
    if len(dims) == 2 and _rows(x) > 1 and dims[1] == x.shape[-1] and dims[0] in (-1, _rows(x) * BATCH):
        rows = o.builder.reshape(o.origin, x, (_rows(x), dims[1]))
        return Rows(rows.ref, rows.layout)
    return o.builder.reshape(o.origin, x, target(o, x, dims, o.flag("allowzero")))


def _rows(x: Value) -> int:
    return math.prod(x.shape[:-1])


def target(o: Operation, x: Value, dims: Sequence[int], allow_zero: bool = False) -> tuple[int, ...]:
    """The shape of a sample that a Reshape asks for. Raises `UnsupportedOpError` where it moves the batch axis."""
    full = o.full_shape(x)
    wanted = [full[k] if d == 0 and not allow_zero and k < len(full) else d for k, d in enumerate(dims)]
    total = math.prod(x.shape)
    if wanted.count(-1) > 1 or any(d < -1 or d == 0 for d in wanted):
        raise o.broken(f"has the shape {list(dims)}")
    if wanted[:1] and wanted[0] in (BATCH, o.batch):
        rest = wanted[1:]
        known = math.prod(d for d in rest if d != -1)
        if -1 in rest and total % known == 0:
            rest[rest.index(-1)] = total // known
    elif wanted[:1] == [-1]:
        rest = wanted[1:]
    else:
        raise _mixes(o, x, wanted)
    if math.prod(rest) != total or max((*rest, 1)) > total:
        raise _mixes(o, x, wanted)
    return tuple(rest)


def _mixes(o: Operation, x: Value, wanted: Sequence[int]) -> Exception:
    told = ", ".join("N" if d == BATCH else str(d) for d in wanted)
    hint = "Export it with a batch of 1, or of any size." if o.batch is None else ""
    return o.refuse(f"It makes [{told}] of {o.told(x)}; the batch must stay the first axis, alone. {hint}".strip())


def _flatten(o: Operation) -> Value:
    x = o.computed()
    axis = o.integer("axis", 1)
    rank = len(x.shape) + 1
    if not -rank <= axis <= rank:
        raise o.broken(f"works along axis {axis} of {rank}")
    axis = axis % rank if axis < rank else rank
    if not (axis == 0 and o.batch == 1) and (axis == 0 or math.prod(x.shape[: axis - 1]) != 1):
        raise o.mixes()
    return o.builder.reshape(o.origin, x, (math.prod(x.shape),))


def _squeeze(o: Operation) -> Value:
    x = o.computed()
    if o.has(1) or "axes" in o.node.attributes:
        gone = o.sample_axes(o.listed(1, "axes"), x)
    elif o.batch == 1:
        raise o.mixes()
    else:
        gone = [k for k, d in enumerate(x.shape) if d == 1]
    if any(x.shape[k] != 1 for k in gone):
        raise o.broken(f"takes axes out of {o.told(x)} that are longer than 1")
    return o.builder.reshape(o.origin, x, [d for k, d in enumerate(x.shape) if k not in gone])


def _unsqueeze(o: Operation) -> Value:
    x = o.computed()
    axes = o.listed(1, "axes")
    rank = len(x.shape) + 1 + len(axes)
    new = sorted(o.axis(a, rank) for a in axes)
    if len(set(new)) != len(new) or rank > 8:
        raise o.broken(f"puts in the axes {axes}")
    if 0 in new:
        raise o.mixes()
    shape = list(x.shape)
    for a in new:
        shape.insert(a - 1, 1)
    return o.builder.reshape(o.origin, x, shape)


def _transpose(o: Operation) -> Value:
    x = o.computed()
    rank = len(x.shape) + 1
    order = o.integers("perm", range(rank)[::-1])
    if sorted(order) != list(range(rank)):
        raise o.broken(f"has the order of axes {order}")
    if order[0] != 0:
        raise o.mixes()
    return o.builder.permute(x, [a - 1 for a in order[1:]])


def _expand(o: Operation) -> Value:
    """Which may change nothing here. Raises `UnsupportedOpError` where it repeats numbers."""
    x = o.computed()
    dims, full = [int(d) for d in o.constant(1).reshape(-1)], o.full_shape(x)
    same = len(dims) <= len(full) and all(
        d in (1, f) or (k == 0 and d == o.batch)
        for k, (d, f) in enumerate(zip(dims[::-1], full[::-1], strict=False), len(full) - len(dims))
    )
    if not same and not (len(dims) == len(full) and dims[0] == o.batch and all(map(_fits, dims[1:], x.shape))):
        raise o.refuse("Repeating numbers is not supported; the operations of arithmetic repeat them by themselves.")
    return x


def _fits(wanted: int, own: int) -> bool:
    return wanted in (1, own)


def _tile(o: Operation) -> Value:
    if np.any(o.constant(1) != 1):
        raise o.refuse("Repeating numbers is not supported; use Resize to enlarge images.")
    return o.computed()


# --- between channels and space


def _depth_to_space(o: Operation) -> Value:
    b, x, n = o.builder, o.image(), _block(o)
    mode = o.text("mode", "DCR")
    c, h, w = _image_shape(o, x)
    if mode not in ("DCR", "CRD") or c % (n * n):
        raise o.broken(f"of {mode} does not fit {o.told(x)}")
    deep = c // (n * n)
    shape, order = ((n, n, deep, h, w), (2, 3, 0, 4, 1)) if mode == "DCR" else ((deep, n, n, h, w), (0, 3, 1, 4, 2))
    moved = b.permute(b.reshape(o.origin, x, shape), order)
    return b.reshape(o.origin, moved, (deep, h * n, w * n))


def _space_to_depth(o: Operation) -> Value:
    b, x, n = o.builder, o.image(), _block(o)
    c, h, w = _image_shape(o, x)
    if h % n or w % n:
        raise o.broken(f"does not fit {o.told(x)}")
    moved = b.permute(b.reshape(o.origin, x, (c, h // n, n, w // n, n)), (2, 4, 0, 1, 3))
    return b.reshape(o.origin, moved, (c * n * n, h // n, w // n))


def _block(o: Operation) -> int:
    found = o.integer("blocksize")
    if not 1 <= found <= _MAX_BLOCK:
        raise o.broken(f"has a blocksize of {found}")
    return found


def _image_shape(o: Operation, x: Value) -> tuple[int, int, int]:
    if len(x.shape) != 3:
        raise o.refuse(f"It works on [N, C, H, W], not on {o.told(x)}.")
    return x.shape[0], x.shape[1], x.shape[2]


SHAPES: dict[str, Handler] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Expand": _expand,
    "Tile": _tile,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
