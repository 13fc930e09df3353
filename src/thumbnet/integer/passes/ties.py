"""Which channels live and die together, from one weighted sum over channels to the next.

A convolution or dense layer reads all its input channels for each output channel, so it ends a channel; every other
operation hands channels on. Classes are the channels connected that way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from thumbnet.integer.binary import BINARY
from thumbnet.integer.graph import IntegerGraph, IntegerNode
from thumbnet.integer.moves import pad_channels
from thumbnet.integer.reductions import EXTREMES, SUMS

Labels = npt.NDArray[np.int64]
_CHANNEL_ARRAYS = {"weight", "bias", "multiplier", "shift"}


@dataclass(frozen=True, eq=False)
class Ties:
    """`classes[tensor]` is the class of each channel; `pinned` tells for each class whether it must stay."""

    classes: dict[str, Labels]
    pinned: npt.NDArray[np.bool_]


def ends_channels(node: IntegerNode) -> bool:
    """Whether the node sums over all input channels for every output channel, with arrays known here."""
    whole = node.op == "dense" or (node.op == "conv2d" and int(node.attrs["groups"]) == 1)
    return whole and set(node.arrays) <= _CHANNEL_ARRAYS


def channel_ties(ig: IntegerGraph) -> Ties:
    """Classes of all channels. Inputs and outputs of the graph are pinned, and what an unknown operation touches."""
    work = _Work(ig)
    for name in (*ig.inputs, *ig.outputs):
        work.pin(name)
    for node in ig.nodes:
        if not ends_channels(node):
            _RULES.get(node.op, _pin_all)(work, node)
    return work.finish()


@dataclass(eq=False)
class _Work:
    ig: IntegerGraph
    first: dict[str, int] = field(default_factory=dict)
    left: list[Labels] = field(default_factory=list)
    right: list[Labels] = field(default_factory=list)
    pins: list[Labels] = field(default_factory=list)

    def __post_init__(self) -> None:
        at = 0
        for name, tensor in self.ig.tensors.items():
            self.first[name] = at
            at += tensor.shape[-1]
        self.total = at

    def channels(self, tensor: str) -> Labels:
        return self.first[tensor] + np.arange(self.ig.tensors[tensor].shape[-1], dtype=np.int64)

    def tie(self, a: Labels, b: Labels) -> None:
        self.left.append(a)
        self.right.append(b)

    def pin(self, tensor: str) -> None:
        self.pins.append(self.channels(tensor))

    def finish(self) -> Ties:
        rows, columns = (np.concatenate([np.empty(0, np.int64), *part]) for part in (self.left, self.right))
        graph = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(self.total, self.total))
        count, labels = connected_components(graph, directed=False)
        pinned = np.zeros(count, bool)
        for part in self.pins:
            pinned[labels[part]] = True
        return Ties({v: labels[self.channels(v)].astype(np.int64) for v in self.ig.tensors}, pinned)


# --- one rule per operation


def _pin_all(work: _Work, node: IntegerNode) -> None:
    for name in (*node.inputs, node.name):
        work.pin(name)


def _same(work: _Work, node: IntegerNode) -> None:
    """Channel by channel; an operand of one channel for all of the output's keeps it."""
    out = work.channels(node.name)
    for v in node.inputs:
        own = work.channels(v)
        if len(own) == len(out):
            work.tie(own, out)
        else:
            work.pin(v)


def _reduced(work: _Work, node: IntegerNode) -> None:
    """Channels pass where the last axis stays."""
    shape = work.ig.tensors[node.inputs[0]].shape
    if len(shape) - 1 in [int(a) for a in node.attrs["axes"]] or shape[-1] != work.ig.tensors[node.name].shape[-1]:
        _pin_all(work, node)
    else:
        _same(work, node)


def _depthwise(work: _Work, node: IntegerNode) -> None:
    x, out = work.channels(node.inputs[0]), work.channels(node.name)
    if set(node.arrays) <= _CHANNEL_ARRAYS:
        work.tie(np.repeat(x, len(out) // len(x)), out)
    else:
        _pin_all(work, node)


def _concat(work: _Work, node: IntegerNode) -> None:
    if int(node.attrs["axis"]) != len(work.ig.tensors[node.name].shape) - 1:
        _same(work, node)
        return
    work.tie(np.concatenate([work.channels(v) for v in node.inputs]), work.channels(node.name))


def _pad(work: _Work, node: IntegerNode) -> None:
    if any(pad_channels(node)):
        _pin_all(work, node)
    else:
        _same(work, node)


def _slice(work: _Work, node: IntegerNode) -> None:
    x, out = work.channels(node.inputs[0]), work.channels(node.name)
    if int(node.attrs["axis"]) == len(work.ig.tensors[node.name].shape) - 1:
        x = x[int(node.attrs["start"]) : int(node.attrs["stop"])]
    work.tie(x, out)


def _reshape(work: _Work, node: IntegerNode) -> None:
    """The finer of both last axes must run through the coarser one a whole number of times."""
    x, out = work.channels(node.inputs[0]), work.channels(node.name)
    longer = max(len(x), len(out))
    if longer % len(x) or longer % len(out):
        _pin_all(work, node)
    else:
        work.tie(np.tile(x, longer // len(x)), np.tile(out, longer // len(out)))


_RULES: dict[str, Callable[[_Work, IntegerNode], None]] = {
    **dict.fromkeys((*BINARY, "max_pool2d", "avg_pool2d", "global_avg_pool"), _same),
    **dict.fromkeys(("lut", "requantize", "mirror_pad", "resize_nearest", "resize_bilinear"), _same),
    **dict.fromkeys((*SUMS, *EXTREMES), _reduced),
    "depthwise_conv2d": _depthwise,
    "pad": _pad,
    "concat": _concat,
    "slice": _slice,
    "reshape": _reshape,
}
