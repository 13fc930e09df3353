"""Weights rearranged offline into the order in which the Helium kernels read them (`kernels/mve/*.S`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Int32s = npt.NDArray[np.int32]
Int8s = npt.NDArray[np.int8]


def pack_narrow(weight: Int8s, bias: Int32s, multiplier: Int32s, shift: Int32s) -> Int32s:
    """`packed` of narrow.S for weights [channels, values], at most 16 of them."""
    groups = _blocks(weight)[:, [0, 2, 1, 3]]
    return _words(groups, *_parameters(bias, multiplier, shift)).ravel()


def pack_triples(weight: Int8s, bias: Int32s, multiplier: Int32s, shift: Int32s) -> Int32s:
    """`packed` of triples.S for weights [channels, runs, values of a run]."""
    channels, runs, values = weight.shape
    whole = np.pad(weight, ((0, 0), (0, 0), (0, -values % 16)))
    blocks = _blocks(whole.reshape(channels, -1))
    forth = blocks[:, 0::2].transpose(0, 2, 1, 3)
    back = blocks[:, 1::2, ::-1].transpose(0, 2, 1, 3)
    words = _words(forth, back, *_parameters(bias, multiplier, shift))
    return np.concatenate([np.array([runs], np.int32), words.ravel()])


def pack_planes(weight: Int8s, bias: Int32s, multiplier: Int32s, shift: Int32s) -> Int32s:
    """`constants` of the depthwise kernels for weights [channels, taps]."""
    parameters = _words(*_parameters(bias, multiplier, shift))
    return np.concatenate([_words(_groups(weight)).ravel(), parameters.ravel()])


def pack_dense(weight: Int8s, bias: Int32s) -> Int32s:
    """`packed` of dense.S for weights [channels, inputs]."""
    return _words(_blocks(weight).transpose(0, 2, 1, 3), _groups(bias.astype(np.int32))).ravel()


def _groups(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """[groups, 4, ...], filled up with zeros."""
    padded = np.pad(values, ((0, -len(values) % 4), *((0, 0),) * (values.ndim - 1)))
    return padded.reshape(-1, 4, *values.shape[1:])


def _blocks(weight: Int8s) -> Int8s:
    """[groups, 4, blocks, 16], filled up with zeros."""
    groups = _groups(np.pad(weight, ((0, 0), (0, -weight.shape[1] % 16))))
    return groups.reshape(len(groups), 4, -1, 16)


def _parameters(bias: Int32s, multiplier: Int32s, shift: Int32s) -> tuple[npt.NDArray[Any], ...]:
    """Bias, multiplier and shift by groups. Shifts of channels whose multiplier is 0 do not matter and are 0."""
    shifts = np.where(multiplier == 0, 0, shift).astype(np.int8)
    return tuple(_groups(v) for v in (bias.astype(np.int32), multiplier.astype(np.int32), shifts))


def _words(*parts: npt.NDArray[Any]) -> Int32s:
    """[groups, words]: what the parts hold for each group, one after the other, little-endian."""
    rows = [np.ascontiguousarray(p).astype(p.dtype.newbyteorder("<")).view(np.uint8).reshape(len(p), -1) for p in parts]
    return np.concatenate(rows, 1).view("<i4").astype(np.int32)
