"""Weights rearranged offline into the order in which the kernels read them.

The DSP kernels' lanes of 16 bits hold a value's weights of two channels (`pairs.S`, `dense.S`), with 4 bits of four
(`pairs_int4.S`, `dense_int4.S`). Half words of the generic kernels for 4 bits hold those of four values (`tn_int4.h`).
"""

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


def pack_halves(weight: npt.NDArray[np.int8]) -> Int32s:
    """Words of tn_int4.h, [groups, pairs of channels, fours of values], for weights [groups, channels, values]."""
    groups, channels, values = weight.shape
    w = np.zeros((groups, -(-channels // 2) * 2, -(-values // 4) * 4), np.int64)
    w[:, :channels, :values] = weight + np.int64(8)
    halves = (w.reshape(*w.shape[:2], -1, 4) << np.array([0, 4, 8, 12])).sum(-1)
    words: Int32s = (halves[:, ::2] | halves[:, 1::2] << 16).astype(np.uint32).view(np.int32)
    return words


def dual_lane(weight: npt.NDArray[np.int8], bias: Int32s, lanes: Ints) -> tuple[Ints, Ints]:
    """Initial accumulators [groups, 4] and weight words [groups, 2 * lanes] of weights [channels, values].

    `lanes`: [words per channel, 2], indices of values. Channels are filled up to a multiple of 4 with zeros.
    """
    w, b = _groups(weight, bias, lanes)
    start = np.stack([b[:, 0], b[:, 0] + 256 * b[:, 1], b[:, 2], b[:, 2] + 256 * b[:, 3]], 1)
    w = w.reshape(len(w), 2, 2, len(lanes), 2)  # [group, pair of channels, channel in pair, word, lane]
    words = _two_lanes(w[:, :, 0] + 256 * w[:, :, 1])
    return start, words.transpose(0, 2, 1).reshape(len(w), -1)


def quad_lane(weight: npt.NDArray[np.int8], bias: Int32s, lanes: Ints) -> tuple[Ints, Ints]:
    """As `dual_lane` for weights of 4 bits, with four channels in a lane: words [groups, lanes]."""
    w, b = _groups(weight, bias, lanes)
    place = np.array([1, 16, 256, 4096])
    lane = ((w + np.array([8, 8, 8, 0])[:, None, None]) * place[:, None, None]).sum(1)
    return np.cumsum(b * place, axis=1), _two_lanes(lane)


def _groups(weight: npt.NDArray[np.int8], bias: Int32s, lanes: Ints) -> tuple[Ints, Ints]:
    """Weights [groups, 4, words, 2] and biases [groups, 4], filled up with channels of zeros."""
    channels, values = weight.shape
    groups = -(-channels // 4)
    w = np.zeros((groups * 4, values + 1), np.int64)  # the last value, index -1, stays 0
    w[:channels, :values] = weight
    b = np.zeros(groups * 4, np.int64)
    b[:channels] = bias
    return w[:, lanes].reshape(groups, 4, len(lanes), 2), b.reshape(groups, 4)


def _two_lanes(values: Ints) -> Ints:
    """[..., 2] lanes of 16 bits as words."""
    words: Ints = (values[..., 0] & 0xFFFF) | ((values[..., 1] & 0xFFFF) << 16)
    return words


def pack_pairs(
    weight: npt.NDArray[np.int8],
    bias: Int32s,
    multiplier: Int32s,
    shift: Int32s,
    positive_at: int | None,
    bits: int,
) -> Int32s:
    """`packed` of pairs.S, with 4 bits of pairs_int4.S, for weights [channels, runs, values of a run].

    `positive_at`: the output's zero point where the tail is that for positive outputs.
    """
    channels, runs, run = weight.shape
    used = multiplier != 0  # sums of the others are 0, so that the tail need not know multipliers of 0
    weight, bias = weight * used[:, None, None], bias * used
    one = run_lanes(run)
    lanes = np.concatenate([np.where(one < 0, -1, one + k * run) for k in range(runs)])
    if bits == 4:
        lanes = np.pad(lanes, ((0, len(lanes) % 2), (0, 0)), constant_values=-1)
    start, words = (quad_lane if bits == 4 else dual_lane)(weight.reshape(channels, -1), bias, lanes)
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


def pack_dense(weight: npt.NDArray[np.int8], bias: Int32s, bits: int) -> Int32s:
    """`packed` of dense.S, with 4 bits of dense_int4.S, for weights [channels, inputs]."""
    inputs = weight.shape[1]
    lanes = run_lanes(-(-inputs // 8) * 8)
    pack = quad_lane if bits == 4 else dual_lane
    return _words(*pack(weight, bias, np.where(lanes < inputs, lanes, -1)))


def _words(*parts: npt.NDArray[Any]) -> Int32s:
    return np.concatenate(parts, 1).astype(np.uint32).view(np.int32)
