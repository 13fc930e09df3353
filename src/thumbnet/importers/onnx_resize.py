"""Resize of float ONNX files: which of the graph's resizes, if any, computes the same, position by position."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from thumbnet.importers import values
from thumbnet.importers.builder import Value
from thumbnet.importers.onnx_operands import BATCH, Handler, Operation

Places = npt.NDArray[np.float64]

MAX_SIZE = 8192  # of a height or width
_OPTIONS = ((False, False), (False, True), (True, False))  # align_corners, half_pixel_centers
_SAME = 1e-6  # of a position
_ROUNDINGS: dict[str, Callable[[Places], Places]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda v: np.ceil(v - 0.5),
    "round_prefer_ceil": lambda v: np.floor(v + 0.5),
}


def _resize(o: Operation) -> Value:
    x = o.image()
    scales, sizes = _wanted(o, x)
    mode = o.text("mode", "nearest")
    if mode not in ("nearest", "linear"):
        raise o.refuse("Only nearest and linear interpolation are supported.")
    if len(sizes) == 3 and sizes[2] == x.shape[2] and sizes[0] != x.shape[0]:  # channels last
        order, back = [2, 0, 1], [1, 2, 0]
    else:
        order = back = list(range(len(sizes)))
    moved, sizes, scales = o.builder.permute(x, order), [sizes[a] for a in order], [scales[a] for a in order]
    if sizes[0] != moved.shape[0]:
        raise o.refuse("Only height and width can be resized.")
    spaces = list(zip(moved.shape[1:], sizes[1:], scales[1:], strict=True))
    if mode == "linear" and o.flag("antialias") and any(made < n for n, made, _ in spaces):
        raise o.refuse("Smoothing while reducing (antialias) is not supported; use an average pool.")
    align, half = _options(o, mode, spaces)
    size = (1, sizes[1]) if len(sizes) == 2 else (sizes[1], sizes[2])
    name = "bilinear" if mode == "linear" else mode
    made = values.resize(o.builder, o.origin, moved, size, name, align_corners=align, half_pixel_centers=half)
    return o.builder.permute(made, back)


def _wanted(o: Operation, x: Value) -> tuple[list[float], list[int]]:
    """Scales and sizes along all axes but the batch's."""
    shape = [1, *x.shape]
    axes = [o.axis(a, len(shape)) for a in o.integers("axes", range(len(shape)))]
    scales, sizes = [1.0] * len(shape), list(shape)
    if o.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise o.refuse("Only sizes that are taken as they are (stretch) are supported.")
    given = o.constant(3) if o.has(3) else np.zeros(0)
    if given.size:
        wanted = [int(v) for v in given.reshape(-1)]
        if len(wanted) != len(axes):
            raise o.broken(f"has sizes {wanted}")
        for a, n in zip(axes, wanted, strict=True):
            sizes[a] = 1 if a == 0 and n in (BATCH, o.batch) else n
            scales[a] = sizes[a] / shape[a]
    else:
        factors = [float(v) for v in o.reals(2).reshape(-1)]
        if len(factors) != len(axes) or min(factors) <= 0:
            raise o.broken(f"has scales {factors}")
        for a, f in zip(axes, factors, strict=True):
            scales[a], sizes[a] = f, int(np.floor(shape[a] * np.float32(f)))
    if sizes[0] != 1:
        raise o.mixes()
    if not all(1 <= s <= MAX_SIZE for s in sizes[1:]):
        raise o.broken(f"makes images of the size {sizes[1:]}")
    return scales[1:], sizes[1:]


def _options(o: Operation, mode: str, spaces: Sequence[tuple[int, int, float]]) -> tuple[bool, bool]:
    """align_corners and half_pixel_centers with which every position is read as the file says."""
    asked = []
    for n, made, scale in spaces:
        at = _positions(o, n, made, scale)
        asked.append(_rounded(o, at, n) if mode == "nearest" else at.clip(0, n - 1))
    for align, half in _OPTIONS:
        own = [_own(n, made, mode, align, half) for n, made, _ in spaces]
        if all(np.abs(a - b).max() < _SAME for a, b in zip(own, asked, strict=True)):
            return align, half
    how = f"{o.text('coordinate_transformation_mode', 'half_pixel')}, {o.text('nearest_mode', 'round_prefer_floor')}"
    raise o.refuse(
        f"Interpolation with {how} at these sizes is not supported; "
        "use asymmetric with floor, or half_pixel with linear interpolation."
    )


def _positions(o: Operation, n: int, made: int, scale: float) -> Places:
    """Where each of `made` positions lies among `n`, as ONNX defines it."""
    at = np.arange(made, dtype=np.float64)
    mode = o.text("coordinate_transformation_mode", "half_pixel")
    if mode == "asymmetric":
        return at / scale
    if mode == "align_corners":
        return at * (n - 1) / (made - 1) if made > 1 else at * 0
    if mode == "pytorch_half_pixel" and made == 1:
        return at * 0
    if mode in ("half_pixel", "pytorch_half_pixel"):
        return (at + 0.5) / scale - 0.5
    if mode == "half_pixel_symmetric":
        center, adjusted = n / 2, made / (n * scale)
        return center * (1 - adjusted) + (at + 0.5) / scale - 0.5
    raise o.refuse(f"The coordinates '{mode}' are not supported.")


def _rounded(o: Operation, at: Places, n: int) -> Places:
    mode = o.text("nearest_mode", "round_prefer_floor")
    if mode not in _ROUNDINGS:
        raise o.broken(f"has the nearest_mode '{mode}'")
    return _ROUNDINGS[mode](at).clip(0, n - 1)


def _own(n: int, made: int, mode: str, align: bool, half: bool) -> Places:
    """Where the graph's resize reads (see `graph.ops.shape.Resize`)."""
    at = np.arange(made, dtype=np.float64)
    if align:
        found = at * ((n - 1) / (made - 1)) if made > 1 else at * 0
        return (np.floor(found + 0.5) if mode == "nearest" else found).clip(0, n - 1)
    scale = n / made
    if mode == "nearest":
        return np.floor((at + 0.5) * scale if half else at * scale).clip(0, n - 1)
    return ((at + 0.5) * scale - 0.5 if half else at * scale).clip(0, n - 1)


RESIZE: dict[str, Handler] = {"Resize": _resize}
