"""Which taps of a sliding window lie inside the image: all that differs between border and interior."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from thumbnet.integer.graph import IntegerNode, QTensor

Mask = npt.NDArray[np.bool_]


def kernel_of(node: IntegerNode) -> tuple[int, int]:
    """(height, width) of the window of a convolution or pool."""
    if "kernel" in node.attrs:
        kernel: Sequence[int] = node.attrs["kernel"]
    else:
        shape = node.arrays["weight"].shape
        kernel = shape[:2] if node.op == "depthwise_conv2d" else shape[1:3]
    return int(kernel[0]), int(kernel[1])


def tap_patterns(node: IntegerNode, x: QTensor, out: QTensor) -> Mask:
    """Every set of taps that lies inside the image at some output pixel: bool [patterns, kernel height · width].

    Row and column patterns combine freely, because every output row meets every output column.
    """
    rows, columns = (_axis_patterns(node, x, out, axis) for axis in (0, 1))
    both = rows[:, None, :, None] & columns[None, :, None, :]
    return np.asarray(both.reshape(len(rows) * len(columns), -1))


def _axis_patterns(node: IntegerNode, x: QTensor, out: QTensor, axis: int) -> Mask:
    taps = np.arange(kernel_of(node)[axis]) * int(node.attrs.get("dilation", (1, 1))[axis])
    first = np.arange(out.shape[axis]) * int(node.attrs["stride"][axis]) - int(node.attrs["padding"][axis])
    position = first[:, None] + taps
    return np.unique((position >= 0) & (position < x.shape[axis]), axis=0)
