"""Pads folded into the windows that read them."""

from __future__ import annotations

from dataclasses import replace

from thumbnet.integer.arithmetic import INT8_MIN
from thumbnet.integer.graph import IntegerGraph, IntegerNode
from thumbnet.integer.moves import pad_channels, pad_value
from thumbnet.integer.passes.intervals import Bounds, bounds_of
from thumbnet.integer.passes.rewrite import consumers, same_numbers, with_nodes
from thumbnet.integer.passes.windows import tap_patterns

_CONVOLUTIONS = ("conv2d", "depthwise_conv2d")


def fold_pad(ig: IntegerGraph) -> IntegerGraph:
    """Adds the padding of a pad node to the convolutions, depthwise convolutions and max pools that read it.

    Contract: every output byte stays. Only where all readers can take it. A convolution pads with the zero point as the
    pad does. A max pool pads with −128, which is the same where the pad does so too, or where no value of the image is
    below what the pad puts around it and every window sees the image.
    """
    bounds = bounds_of(ig)
    for pad in [n for n in ig.nodes if n.op == "pad"]:
        readers = consumers(ig)[pad.name]
        same = same_numbers(ig.tensors[pad.inputs[0]], ig.tensors[pad.name])
        if not readers or pad.name in ig.outputs or not same or any(pad_channels(pad)):
            continue
        folded, value = {n.name: _folded(n, pad) for n in readers}, pad_value(pad, ig.tensors[pad.name])
        if all(_takes(ig, n, folded[n.name], bounds[pad.inputs[0]], value) for n in readers):
            nodes = [folded.get(n.name, n) for n in ig.nodes if n.name != pad.name]
            ig = with_nodes(ig, nodes)
    return ig


def _folded(node: IntegerNode, pad: IntegerNode) -> IntegerNode:
    if node.op not in (*_CONVOLUTIONS, "max_pool2d"):
        return node  # a transposed convolution's padding is cut off
    padding = [int(a) + int(b) for a, b in zip(node.attrs["padding"], pad.attrs["padding"], strict=True)]
    return replace(node, inputs=pad.inputs, attrs={**node.attrs, "padding": padding})


def _takes(ig: IntegerGraph, node: IntegerNode, folded: IntegerNode, x: Bounds, value: int) -> bool:
    """Whether a reader gives the same with the pad's padding as its own."""
    source = ig.tensors[folded.inputs[0]]
    if node.op in _CONVOLUTIONS:
        return value == source.zero_point
    if node.op != "max_pool2d":
        return False
    if value == INT8_MIN:
        return True
    sees_image = tap_patterns(folded, source, ig.tensors[node.name]).any(axis=1).all()
    return x.range[0] >= value and bool(sees_image)
