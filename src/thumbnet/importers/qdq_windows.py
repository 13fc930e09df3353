"""Sliding windows of convolutions and pools, by ONNX's rules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from thumbnet.importers.onnx_node import MAX_WINDOW, NodeView

MAX_TAPS = 1 << 16  # of a pool's window


@dataclass(frozen=True)
class Window:
    """Heights and widths; signals have a height of 1. `padding` is top, left, bottom, right."""

    kernel: list[int]
    stride: list[int]
    dilation: list[int]
    padding: list[int]
    beyond: list[int]  # rows below and columns to the right that only ceil_mode reaches; not in `padding`
    size: tuple[int, int]  # of the output

    @property
    def reached(self) -> list[int]:
        """The padding with what is beyond it."""
        return [*self.padding[:2], self.padding[2] + self.beyond[0], self.padding[3] + self.beyond[1]]


def window(o: NodeView[Any], size: Sequence[int], kernel: Sequence[int], *, flat: bool, pool: bool = False) -> Window:
    """The window of a node over an image of `size`. `flat`: its attributes have one number each, for the width.

    Raises `ModelError` for what does not fit; a pool's window must always see a pixel.
    """
    count = 1 if flat else 2
    given = o.sizes("kernel_shape", kernel[2 - count :])
    stride, dilation = o.sizes("strides", [1] * count), o.sizes("dilations", [1] * count)
    before, after = _pads(o, count)
    if given != list(kernel)[2 - count :]:
        raise o.broken(f"has a kernel {given} but weights of {list(kernel)}")
    lead = [0] * (2 - count)
    ones = [1] * (2 - count)
    stride, dilation, before, after = ones + stride, ones + dilation, lead + before, lead + after
    auto = o.text("auto_pad", "NOTSET") or "NOTSET"
    ceil, beyond, out = o.flag("ceil_mode"), [0, 0], [0, 0]
    for i in (0, 1):
        reach = dilation[i] * (kernel[i] - 1) + 1
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            out[i] = -(-size[i] // stride[i])
            total = max((out[i] - 1) * stride[i] + reach - size[i], 0)
            small, large = total // 2, total - total // 2
            before[i], after[i] = (small, large) if auto == "SAME_UPPER" else (large, small)
        elif auto == "VALID":
            before[i] = after[i] = 0
        elif auto != "NOTSET":
            raise o.broken(f"has auto_pad '{auto}'")
        room = size[i] + before[i] + after[i] - reach
        if room < 0 or (pool and math.prod(kernel) > MAX_TAPS) or (pool and max(before[i], after[i]) >= reach):
            raise o.broken(f"has a kernel reaching over {reach} for {size[i]} pixels padded by {before[i]}, {after[i]}")
        out[i] = room // stride[i] + 1
        if ceil and room % stride[i] and out[i] * stride[i] < size[i] + before[i]:
            out[i] += 1
            beyond[i] = (out[i] - 1) * stride[i] - room
    return Window(list(kernel), stride, dilation, [*before, *after], beyond, (out[0], out[1]))


def _pads(o: NodeView[Any], count: int) -> tuple[list[int], list[int]]:
    found = o.integers("pads", [0] * 2 * count)
    if len(found) != 2 * count or not all(abs(v) <= MAX_WINDOW for v in found):
        raise o.broken(f"has the padding {found}")
    if min(found) < 0:
        raise o.refuse("Cut the image with a Slice instead of negative padding.")
    return found[:count], found[count:]
