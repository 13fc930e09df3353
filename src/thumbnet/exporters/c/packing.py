"""Weights rearranged offline into the order in which the DSP kernels read them (`kernels/dsp/dot2.S`)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int32s = npt.NDArray[np.int32]


def right_shifts(multiplier: Int32s, shift: Int32s) -> npt.NDArray[np.int8]:
    """Right shift - 1 per channel; channels whose multiplier is 0 have any."""
    return np.where(multiplier == 0, 0, -shift.astype(np.int64) - 1).astype(np.int8)


def dual_lane(weight: npt.NDArray[np.int8], bias: Int32s, multiplier: Int32s, shift: Int32s) -> Int32s:
    """`packed` of `tn_dot2_dsp` for weights [channels, values]; both are filled up to multiples of 4 with zeros."""
    channels, values = weight.shape
    groups, fours = -(-channels // 4), -(-values // 4)
    w = np.zeros((groups * 4, fours * 4), np.int64)
    w[:channels, :values] = weight
    per_channel = np.zeros((3, groups * 4), np.int64)
    per_channel[:, :channels] = bias, multiplier, right_shifts(multiplier, shift)
    b, m, s = (v.reshape(groups, 4) for v in per_channel)
    start = np.stack([b[:, 0], b[:, 0] + 256 * b[:, 1], b[:, 2], b[:, 2] + 256 * b[:, 3]], 1)
    # [group, pair of channels, channel in pair, four, lane, half]: k = 4 four + 2 lane + half
    w = w.reshape(groups, 2, 2, fours, 2, 2)
    lanes = w[:, :, 0] + 256 * w[:, :, 1]
    words = (lanes[..., 0, :] & 0xFFFF) | ((lanes[..., 1, :] & 0xFFFF) << 16)  # [group, pair, four, half]
    stream = words.transpose(0, 2, 3, 1).reshape(groups, -1)
    shifts = s @ np.array([1, 1 << 8, 1 << 16, 1 << 24])
    return np.concatenate([start, stream, shifts[:, None], m], 1).astype(np.uint32).view(np.int32)
