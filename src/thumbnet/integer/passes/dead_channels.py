"""Channels that provably hold one constant, or that nothing reads, taken out and folded into biases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.integer.arithmetic import INT32_MAX, Ints
from thumbnet.integer.binary import BINARY
from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor
from thumbnet.integer.passes.intervals import Bounds, bounds_of, patterns_of, taps_of
from thumbnet.integer.passes.rewrite import with_nodes
from thumbnet.integer.passes.ties import Ties, channel_ties, ends_channels

Mask = npt.NDArray[np.bool_]


def dead_channels(ig: IntegerGraph, multiple: int = 1) -> IntegerGraph:
    """Removes channels that no output depends on, with all their weights.

    Contract: every output byte stays. A channel and those tied to it (see `ties`) go where each weighted sum that reads
    them has no weight for them, or sees a constant that adds the same to every pixel, the border included, and that its
    32-bit bias can take in. Every tensor keeps at least one channel. Inputs and outputs of the graph, and channels of
    grouped convolutions and of operations not known here, stay. With `multiple` above 1, tensors keep dead channels up
    to a multiple of it, for kernels that want such counts.
    """
    bounds, ties = bounds_of(ig), channel_ties(ig)
    readers = [_Reader.of(ig, node, bounds[node.inputs[0]]) for node in ig.nodes if ends_channels(node)]
    dead = _dead_classes(ties, readers, bounds, multiple)
    if not dead.any():
        return ig
    keep = {v: ~dead[labels] for v, labels in ties.classes.items()}
    by_name = {r.node.name: r for r in readers}
    tensors = {v: _thinned(t, keep[v]) for v, t in ig.tensors.items()}
    nodes = [_thin(by_name[n.name].folded(keep) if n.name in by_name else n, keep, tensors) for n in ig.nodes]
    return with_nodes(ig, nodes, tensors)


class _Reader:
    """A node that ends channels: what each of its input channels means to each of its output channels."""

    def __init__(self, node: IntegerNode, used: Mask, foldable: Mask, share: Ints) -> None:
        self.node = node
        self.used = used  # [O, I]: has a weight
        self.foldable = foldable  # [O, I]: adds the same to every pixel for every input ...
        self.share = share  # [O, I]: ... namely this

    @staticmethod
    def of(ig: IntegerGraph, node: IntegerNode, x: Bounds) -> _Reader:
        source, out = ig.tensors[node.inputs[0]], ig.tensors[node.name]
        taps = taps_of(node, len(x.low))
        value = x.low - source.zero_point
        share, foldable = np.zeros((taps.shape[0], taps.shape[2]), np.int64), np.zeros(taps.shape[::2], bool)
        constant = np.flatnonzero(x.constant)
        if len(constant):
            inside = patterns_of(node, source, out).astype(np.int64)
            sums = np.einsum("pt,otk->pok", inside, taps[:, :, constant].astype(np.int64)) * value[constant]
            foldable[:, constant] = (sums == sums[0]).all(axis=0)
            share[:, constant] = sums[0]
        share[~foldable] = 0
        # a bias that leaves room for all products, whatever the order in which a kernel sums them
        largest = np.abs(node.arrays["bias"].astype(np.int64)) + np.abs(share).sum(axis=1)
        largest += 256 * np.abs(taps.astype(np.int64)).sum(axis=(1, 2))
        foldable &= (largest <= INT32_MAX)[:, None] | (share == 0)
        return _Reader(node, np.asarray(taps.any(axis=1)), foldable, share)

    def needs(self, alive: Mask) -> Mask:
        """bool [I]: which input channels the output channels `alive` depend on."""
        return np.asarray((self.used & ~self.foldable)[alive].any(axis=0))

    def folded(self, keep: Mapping[str, Mask]) -> IntegerNode:
        """The node with the shares of the channels that go in its bias."""
        extra = self.share[:, ~keep[self.node.inputs[0]]].sum(axis=1)
        kept = keep[self.node.name]
        bias = self.node.arrays["bias"].astype(np.int64) + np.where(kept, extra, 0)
        return replace(self.node, arrays={**self.node.arrays, "bias": bias.astype(np.int32)})


def _dead_classes(ties: Ties, readers: Iterable[_Reader], bounds: Mapping[str, Bounds], multiple: int) -> Mask:
    """bool [classes]: nothing that stays depends on the class."""
    needed = ties.pinned.copy()
    order = list(readers)[::-1]
    while True:
        before = needed.copy()
        for reader in order:  # last first: one round settles most
            needs = reader.needs(needed[ties.classes[reader.node.name]])
            needed[ties.classes[reader.node.inputs[0]][needs]] = True
        if (needed == before).all():
            spared = _spared(ties, needed, bounds, multiple)
            if spared is None:
                return ~needed
            needed[spared] = True


def _spared(ties: Ties, needed: Mask, bounds: Mapping[str, Bounds], multiple: int) -> int | None:
    """A class that must stay because some tensor would lose all its channels, or too many for the multiple.

    Constant channels come first: they need no inputs themselves.
    """
    for tensor, labels in ties.classes.items():
        alive = needed[labels]
        if not alive.any() or (alive.sum() % multiple and not alive.all()):
            dead = np.flatnonzero(~alive)
            return int(labels[dead[np.argmax(bounds[tensor].constant[dead])]])
    return None


# --- taking channels out


def _thinned(tensor: QTensor, keep: Mask) -> QTensor:
    return replace(tensor, shape=(*tensor.shape[:-1], int(keep.sum())))


def _thin(node: IntegerNode, keep: Mapping[str, Mask], tensors: Mapping[str, QTensor]) -> IntegerNode:
    """The node on tensors that have lost the channels not kept."""
    x, out = (keep[v] for v in (node.inputs[0], node.name))
    if x.all() and out.all():
        return node
    if ends_channels(node):
        return _thin_weights(node, node.arrays["weight"][out][..., x], out)
    if node.op == "depthwise_conv2d":
        return _thin_weights(node, node.arrays["weight"][..., out], out)
    if node.op in BINARY and node.arrays.get("constant", np.empty(0)).shape[-1:] == out.shape:
        return replace(node, arrays={**node.arrays, "constant": node.arrays["constant"][..., out]})
    if node.op == "reshape":
        return replace(node, attrs={**node.attrs, "shape": list(tensors[node.name].shape)})
    if node.op == "slice" and int(node.attrs["axis"]) == len(tensors[node.name].shape) - 1:
        start = int(x[: int(node.attrs["start"])].sum())
        return replace(node, attrs={**node.attrs, "start": start, "stop": start + int(out.sum())})
    return node


def _thin_weights(node: IntegerNode, weight: npt.NDArray[Any], out: Mask) -> IntegerNode:
    arrays = {k: a[out] for k, a in node.arrays.items() if k != "weight"}
    scales = node.weight_scale
    if len(scales) == len(out):
        scales = tuple(s for s, kept in zip(scales, out, strict=True) if kept)
    return replace(node, arrays={**arrays, "weight": np.ascontiguousarray(weight)}, weight_scale=scales)
