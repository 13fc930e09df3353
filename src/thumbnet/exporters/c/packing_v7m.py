"""Weights rearranged offline into the order in which the Armv7-M kernels read them (`kernels/v7m`)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from thumbnet.exporters.c.packing import right_shifts

Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]
# what sums start at, so that they are never negative
LANE = 1 << 22
DENSE_LANE = 1 << 23


def offsets(bias: Int32s, start: int = LANE) -> Int32s:
    """Twice the biases, less twice what sums start at, modulo 2^32."""
    doubled: Int32s = (2 * (bias.astype(np.int64) - start)).astype(np.uint32).view(np.int32)
    return doubled


def pack_quads(weight: Int8s, bias: Int32s, multiplier: Int32s, shift: Int32s) -> Int32s:
    """`packed` of quads.S for weights [channels, values]; an odd last channel is joined by one of zeros."""
    channels, values = weight.shape
    pairs = -(-channels // 2)
    w = np.zeros((2 * pairs, values), np.int8)
    w[:channels] = weight
    stream = np.zeros((pairs, -(-values // 2) * 2, 2), np.int8)
    stream[:, :values] = w.reshape(pairs, 2, values).transpose(0, 2, 1)
    scaling = np.zeros((pairs, 2, 2), np.int32)  # offset, multiplier of each channel
    scaling.reshape(-1, 2)[:channels] = np.stack([offsets(bias), multiplier], 1)
    shifts = np.zeros((pairs, 4), np.int8)
    shifts[:, :2] = np.pad(right_shifts(multiplier, shift), (0, channels % 2)).reshape(pairs, 2)
    parts = [stream.reshape(pairs, -1).view(np.int32), scaling.reshape(pairs, 4), shifts.view(np.int32)]
    return np.concatenate(parts, 1)


def pack_dense(weight: Int8s, bias: Int32s) -> Int32s:
    """`packed` of dense.S for weights [channels, inputs]; zeros fill the channels up to a multiple of 4."""
    channels, inputs = weight.shape
    groups = -(-channels // 4)
    w = np.zeros((4 * groups, inputs), np.int64)
    w[:channels] = weight
    w[::2] += 128  # the lower halves are unsigned
    stream = w.reshape(groups, 4, inputs)[:, [1, 0, 3, 2]].transpose(0, 2, 1).astype(np.uint8)
    biases = np.pad(offsets(bias, DENSE_LANE), (0, 4 * groups - channels)).reshape(groups, 4)
    words = np.ascontiguousarray(stream).reshape(groups, -1).view(np.int32)
    return np.concatenate([words, biases], 1)
