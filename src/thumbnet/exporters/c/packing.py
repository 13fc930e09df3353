"""Weights rearranged offline into the order in which the DSP kernels read them (`kernels/dsp/pairs.S`, `dense.S`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Int32s = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]

_TAILS = {0: (), 1: ((0, -1),), 2: ((0, 1),), 3: ((0, 2), (1, -1))}  # values in lanes after the last whole four


def right_shifts(multiplier: Int32s, shift: Int32s) -> npt.NDArray[np.int8]:
    """Right shift - 1 per channel; channels whose multiplier is 0 have any."""
    return np.where(multiplier == 0, 0, -shift.astype(np.int64) - 1).astype(np.int8)


def run_lanes(run: int) -> Ints:
    """Which values of a run share a word: [twos, 2], -1 where a lane is empty."""
    whole = run // 4 * 4
    pairs = [(k + i, k + i + 2) for k in range(0, whole, 4) for i in (0, 1)]
    tail = [tuple(whole + i if i >= 0 else -1 for i in pair) for pair in _TAILS[run % 4]]
    return np.array(pairs + tail, np.int64).reshape(-1, 2)


def dual_lane(weight: npt.NDArray[np.int8], bias: Int32s, lanes: Ints) -> tuple[Ints, Ints]:
    """Initial accumulators [groups, 4] and weight words [groups, 2 * lanes] of weights [channels, values].

    `lanes`: [words per channel, 2], indices of values. Channels are filled up to a multiple of 4 with zeros.
    """
    channels, values = weight.shape
    groups = -(-channels // 4)
    w = np.zeros((groups * 4, values + 1), np.int64)  # the last value, index -1, stays 0
    w[:channels, :values] = weight
    b = np.zeros(groups * 4, np.int64)
    b[:channels] = bias
    b = b.reshape(groups, 4)
    start = np.stack([b[:, 0], b[:, 0] + 256 * b[:, 1], b[:, 2], b[:, 2] + 256 * b[:, 3]], 1)
    w = w[:, lanes].reshape(groups, 2, 2, len(lanes), 2)  # [group, pair of channels, channel in pair, word, lane]
    both = w[:, :, 0] + 256 * w[:, :, 1]
    words = (both[..., 0] & 0xFFFF) | ((both[..., 1] & 0xFFFF) << 16)
    return start, words.transpose(0, 2, 1).reshape(groups, -1)


def pack_pairs(
    weight: npt.NDArray[np.int8], bias: Int32s, multiplier: Int32s, shift: Int32s, positive_at: int | None
) -> Int32s:
    """`packed` of pairs.S for weights [channels, runs, values of a run].

    `positive_at`: the output's zero point where the tail is that for positive outputs.
    """
    channels, runs, run = weight.shape
    used = multiplier != 0  # sums of the others are 0, so that the tail need not know multipliers of 0
    weight, bias = weight * used[:, None, None], bias * used
    one = run_lanes(run)
    lanes = np.concatenate([np.where(one < 0, -1, one + k * run) for k in range(runs)])
    start, words = dual_lane(weight.reshape(channels, -1), bias, lanes)
    factors, right = np.zeros((2, 4 * len(start)), np.int64)
    factors[:channels], right[:channels] = multiplier, np.where(used, -shift.astype(np.int64), 1)
    tail = _tail(factors, right) if positive_at is None else _positive_tail(factors, right, positive_at)
    return _words(start, words, *tail)


def _tail(multiplier: Ints, right: Ints) -> tuple[Ints, Ints]:
    """What tn_tail_dsp reads, for multipliers and right shifts of all channels."""
    doubled = np.where(np.arange(len(multiplier)) % 2 == 0, 2 * multiplier - (1 << 32), multiplier)
    return _bytes(np.maximum(right, 1) - 1), doubled.reshape(-1, 4)


def _positive_tail(multiplier: Ints, right: Ints, zero_point: int) -> tuple[Ints, Ints]:
    """What tn_tail_positive_dsp reads, likewise."""
    even = np.arange(len(multiplier)) % 2 == 0
    scale = np.where(even, 17 - right, 8)
    rounding = (1 << scale - 2) + (1 + 2 * zero_point) * (1 << scale + right - 2)
    pairs = np.stack([multiplier, rounding], 1).reshape(-1, 8)
    return _bytes(np.where(even, scale, right + 7)), pairs


def _bytes(values: Ints) -> Ints:
    """Words of four bytes each: [words, 1]."""
    return (values.reshape(-1, 4) @ (1 << np.arange(0, 32, 8)))[:, None]


def pack_dense(weight: npt.NDArray[np.int8], bias: Int32s) -> Int32s:
    """`packed` of dense.S for weights [channels, inputs]."""
    inputs = weight.shape[1]
    lanes = run_lanes(-(-inputs // 8) * 8)
    return _words(*dual_lane(weight, bias, np.where(lanes < inputs, lanes, -1)))


def _words(*parts: npt.NDArray[Any]) -> Int32s:
    return np.concatenate(parts, 1).astype(np.uint32).view(np.int32)
