"""Operations that move bytes: what goes where.

The strided ones (`STRIDED`) are views of their input, read in order; that is how the simulator computes them and how
the C kernel's loops are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.integer.arithmetic import Int8s, Ints
from thumbnet.integer.graph import IntegerNode, QTensor

STRIDED = frozenset(("transpose", "strided_slice", "space_to_depth", "depth_to_space"))


def view(node: IntegerNode, x: npt.NDArray[Any], out: Sequence[int]) -> npt.NDArray[Any]:
    """A view [N, …] of x [N, *shape] whose values are, in order, those of the output [N, *out]."""
    if node.op == "transpose":
        return x.transpose(0, *(int(a) + 1 for a in node.attrs["perm"]))
    if node.op == "strided_slice":
        return x[(slice(None), *_slices(node, out))]
    block = int(node.attrs["block"])
    n, h, w, c = x.shape
    if node.op == "space_to_depth":
        return x.reshape(n, h // block, block, w // block, block, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h, w, block, block, c // block**2).transpose(0, 1, 3, 2, 4, 5)


def _slices(node: IntegerNode, out: Sequence[int]) -> list[slice]:
    found = []
    for begin, step, count in zip(node.attrs["begin"], node.attrs["step"], out, strict=True):
        end = begin + step * count
        found.append(slice(begin, end if end >= 0 else None, step))
    return found


@dataclass(frozen=True)
class Copies:
    """Nested loops over `sizes`, the innermost last, that copy `run` bytes each; `steps` apart in the input."""

    start: int
    sizes: tuple[int, ...]
    steps: tuple[int, ...]
    run: int


def copies(node: IntegerNode, shape: Sequence[int], out: Sequence[int]) -> Copies:
    """The loops of a strided operation on an input of this shape; as few as there can be, at most four."""
    positions = np.arange(prod(shape)).reshape(1, *shape)
    seen = view(node, positions, out)[0]
    sizes: list[int] = []
    steps: list[int] = []
    for size, stride in zip(seen.shape, seen.strides, strict=True):
        step = stride // positions.itemsize
        if size == 1:
            continue
        if sizes and steps[-1] == size * step:
            sizes[-1], steps[-1] = sizes[-1] * size, step
        else:
            sizes.append(size)
            steps.append(step)
    run = sizes.pop() if sizes and steps[-1] == 1 else 1
    return Copies(int(seen.flat[0]), tuple(sizes), tuple(steps[: len(sizes)]), run)


def mirrored(node: IntegerNode, shape: Sequence[int]) -> tuple[Ints, Ints]:
    """Which rows and columns of an input of this shape a mirror_pad takes, for each of its own."""
    top, left, bottom, right = (int(p) for p in node.attrs["padding"])
    edge = 1 if node.attrs["mode"] == "reflect" else 0  # whether the edge itself is left out

    def axis(size: int, before: int, after: int) -> Ints:
        first, last = (
            np.arange(before + edge - 1, edge - 1, -1),
            np.arange(size - 1 - edge, size - 1 - edge - after, -1),
        )
        return np.concatenate([first, np.arange(size), last]).astype(np.int64)

    return axis(shape[0], top, bottom), axis(shape[1], left, right)


# --- padding


def pad_value(node: IntegerNode, out: QTensor) -> int:
    """The stored value that a pad puts around its input; `out` is its output."""
    return int(node.attrs.get("value", out.zero_point))


def pad_channels(node: IntegerNode) -> tuple[int, int]:
    """How many channels a pad puts before and after its input's."""
    before, after = node.attrs.get("channels", (0, 0))
    return int(before), int(after)


# --- kernels


def strided(node: IntegerNode, inputs: Sequence[Int8s], tensors: Sequence[QTensor], out: QTensor) -> Int8s:
    return view(node, np.ascontiguousarray(inputs[0]), out.shape).reshape(-1, *out.shape)


def mirror_pad(node: IntegerNode, inputs: Sequence[Int8s], tensors: Sequence[QTensor], out: QTensor) -> Int8s:
    rows, columns = mirrored(node, tensors[0].shape)
    return inputs[0][:, rows][:, :, columns]


def pad(node: IntegerNode, inputs: Sequence[Int8s], tensors: Sequence[QTensor], out: QTensor) -> Int8s:
    top, left, bottom, right = node.attrs["padding"]
    amounts = ((0, 0), (top, bottom), (left, right), pad_channels(node))
    padded: Int8s = np.pad(inputs[0], amounts, constant_values=pad_value(node, out))
    return padded
