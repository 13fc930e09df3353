"""Arm's CMSIS-NN in place of our kernels: which node it computes, and the working memory it asks for.

The library is the user's own; nothing of it is in this package. Its functions keep their input apart from their
output, except for elementwise ones, and know no cascades, so the arena is larger than with our kernels.
"""

from __future__ import annotations

import math

from thumbnet.cost.kernel import Kernel, Overlap, window_of
from thumbnet.cost.kernels import choose
from thumbnet.cost.schedule import Unit, single
from thumbnet.integer.graph import IntegerGraph, IntegerNode
from thumbnet.targets.target import Isa

_HEADER = "cmsis_nn/tn_cmsis_nn.h"
_HELIUM_DEPTHWISE_CHANNELS = 124  # CH_IN_BLOCK_MVE
_HELIUM_IM2COL_COLUMNS, _HELIUM_LANES = 4, 16


def units(ig: IntegerGraph, isa: Isa) -> tuple[Unit, ...]:
    """Every node on its own, in order. What the library has no exact function for runs on our kernels."""
    return tuple(single(step, kernel_of(node, ig, isa)) for step, node in enumerate(ig.nodes))


def kernel_of(node: IntegerNode, ig: IntegerGraph, isa: Isa) -> Kernel:
    """The library's function for a node, or ours, as for weights of 4 bits."""
    if node.weight_bits == 4:
        return choose(node, ig, isa)
    match node.op:
        case "conv2d" | "depthwise_conv2d" | "dense" | "max_pool2d" | "avg_pool2d":
            sources = (_HEADER, f"cmsis_nn/{node.op}.c")
            return Kernel(f"tn_cmsis_{node.op}", sources, scratch_bytes(node, ig, isa), (None,))
        case "add" | "mul" if not _repeats(node, ig):
            in_place = Overlap(0, exact=True)
            return Kernel(f"arm_elementwise_{node.op}_s8", (_HEADER,), 0, (in_place, in_place))
        case "softmax":
            return Kernel("arm_softmax_s8", (_HEADER,), 0, (Overlap(0, exact=True),))
    return choose(node, ig, isa)


def scratch_bytes(node: IntegerNode, ig: IntegerGraph, isa: Isa) -> int:
    """Working memory of the node, in bytes: the library's `..._get_buffer_size` functions, whatever the compiler.

    The firmware asks the library again before each layer and stops where this was too little.
    """
    if node.op == "dense":
        return 4 * int(node.arrays["weight"].shape[0]) if isa == "mve" else 0
    w = window_of(node, ig)
    if node.op == "avg_pool2d":
        return 4 * w.in_c if isa == "dsp" else 0
    if node.op == "max_pool2d":
        return 0
    if node.op == "depthwise_conv2d":
        return _depthwise(w.taps, w.in_c, w.out_c, w.dilation, isa, small=w.kernel == (3, 3) and max(w.padding) <= 1)
    whole = int(node.attrs["groups"]) == 1
    if w.kernel == (1, 1) and w.padding == (0, 0) and w.dilation == (1, 1) and whole:
        return 4 * w.in_c if isa == "dsp" and w.stride == (1, 1) else 0
    return _im2col(w.taps * w.in_c, isa)


def _im2col(values: int, isa: Isa) -> int:
    """Columns of `values` activations each: two of int16, or four of int8 with Helium."""
    if isa == "mve":
        return _HELIUM_IM2COL_COLUMNS * _HELIUM_LANES * math.ceil(values / _HELIUM_LANES)
    return 2 * 2 * math.ceil(values / 4) * 4


def _depthwise(taps: int, in_c: int, out_c: int, dilation: tuple[int, int], isa: Isa, small: bool) -> int:
    if isa == "mve" and in_c == 1 and out_c > 1:  # as a convolution, with its weights rearranged
        return _im2col(taps, isa) + taps * out_c
    if in_c != out_c or dilation != (1, 1):
        return 0
    if isa == "mve":
        return 4 * _HELIUM_DEPTHWISE_CHANNELS * taps
    return 2 * taps * in_c if isa == "dsp" and not small else 0


def _repeats(node: IntegerNode, ig: IntegerGraph) -> bool:
    return len(node.inputs) < 2 or len({ig.tensors[v].bytes for v in (*node.inputs, node.name)}) > 1
