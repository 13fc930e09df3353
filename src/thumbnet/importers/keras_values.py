"""Layers of Keras without weights: sums and products, and all that moves numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import prod

import numpy as np

from thumbnet.importers import values
from thumbnet.importers.builder import Value
from thumbnet.importers.keras_call import Call, Handler, pair
from thumbnet.importers.patterns import product


def _merge(op: str) -> Handler:
    def convert(c: Call) -> Value:
        given = c.values
        if len({len(v.shape) for v in given}) != 1:
            raise c.origin.refuse("Its inputs must have equally many axes; reshape them before it.")
        if op == "mul":
            return reduce(lambda a, v: product(c.b, c.origin, a, v), given)
        return reduce(lambda a, v: values.binary(c.b, c.origin, op, a, v), given)

    return convert


def _average(c: Call) -> Value:
    total = _merge("add")(Call(c.b, c.part("sum"), c.op, c.args, c.kwargs, c.shapes))
    assert isinstance(total, Value)
    count = np.float32(1 / len(c.values))
    return values.with_constant(c.b, c.origin, "mul", total, count)


def _concatenate(c: Call) -> Value:
    given = c.values
    return values.concat(c.b, c.origin, given, c.axis(int(c.op.axis), len(given[0].shape)))


def _flatten(c: Call) -> Value:
    """Channels go last first."""
    x = c.x
    if c.op.data_format == "channels_first" and len(x.shape) > 1:
        x = c.b.permute(x, [*range(1, len(x.shape)), 0])
    return c.b.reshape(c.origin, x, (prod(x.shape),))


def _reshape(c: Call) -> Value:
    return c.b.reshape(c.origin, c.x, c.shapes[0])


def _permute(c: Call) -> Value:
    return c.b.permute(c.x, [int(d) - 1 for d in c.op.dims])


def _pairs(found: Sequence[object], rank: int) -> list[tuple[int, int]]:
    """((before, after), …) over height and width, or (before, after) over the length of a signal."""
    pairs = found if rank == 3 else [found]
    return [(int(p[0]), int(p[1])) for p in pairs]  # type: ignore[index]


def _zero_padding(c: Call) -> Value:
    x = c.x
    space = _pairs(c.op.padding, len(x.shape))
    first = getattr(c.op, "data_format", "channels_last") == "channels_first"
    return values.pad(c.b, c.origin, x, [(0, 0), *space] if first else [*space, (0, 0)])


def _cropping(c: Call) -> Value:
    x, first = c.x, getattr(c.op, "data_format", "channels_last") == "channels_first"
    for k, (before, after) in enumerate(_pairs(c.op.cropping, len(x.shape))):
        axis = k + first
        x = values.cut(c.b, c.origin, x, axis, before, x.shape[axis] - after)
    return x


def _up_sampling(c: Call) -> Value:
    factor, mode = pair(c.op.size), getattr(c.op, "interpolation", "nearest")
    if mode not in ("nearest", "bilinear"):
        raise c.origin.refuse("Only nearest and bilinear interpolation are supported.")

    def work(x: Value) -> Value:
        _, height, width = c.b.shapes[c.b.image(c.origin, x)]
        size = (height * factor[0], width * factor[1])
        return values.resize(c.b, c.origin, x, size, mode, half_pixel_centers=mode == "bilinear")

    return c.windowed(c.x, work)


def _same(c: Call) -> Value:
    return c.x


VALUES: dict[str, Handler] = {
    "Add": _merge("add"),
    "Subtract": _merge("sub"),
    "Multiply": _merge("mul"),
    "Maximum": _merge("maximum"),
    "Minimum": _merge("minimum"),
    "Average": _average,
    "Concatenate": _concatenate,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Permute": _permute,
    **dict.fromkeys(("ZeroPadding1D", "ZeroPadding2D"), _zero_padding),
    **dict.fromkeys(("Cropping1D", "Cropping2D"), _cropping),
    **dict.fromkeys(("UpSampling1D", "UpSampling2D"), _up_sampling),
    **dict.fromkeys(
        (
            *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "AlphaDropout", "GaussianDropout", "GaussianNoise"),
            *("ActivityRegularization", "Identity", "RandomFlip", "RandomRotation", "RandomZoom"),
            *("RandomTranslation", "RandomContrast", "RandomBrightness"),
        ),
        _same,
    ),
}
