"""The operations of the float graph, in one visible table."""

from __future__ import annotations

from difflib import get_close_matches

from thumbnet.errors import UnsupportedOpError
from thumbnet.graph.graph import Node
from thumbnet.graph.ops.activation import ELEMENTWISE, Clip, LeakyRelu, LogSoftmax, PRelu, Softmax
from thumbnet.graph.ops.arithmetic import Add, Maximum, Minimum, Mul, Sub
from thumbnet.graph.ops.base import Op
from thumbnet.graph.ops.batch_norm import BatchNorm
from thumbnet.graph.ops.concat import Concat, Slice
from thumbnet.graph.ops.convolution import Conv2d, ConvTranspose2d, DepthwiseConv2d
from thumbnet.graph.ops.dense import Dense
from thumbnet.graph.ops.pool import REDUCTIONS, AvgPool2d, GlobalAvgPool, MaxPool2d
from thumbnet.graph.ops.shape import Flatten, Pad, Reshape, Resize, Transpose

OPS: dict[str, Op] = {
    op.name: op
    for op in (
        Conv2d(),
        DepthwiseConv2d(),
        ConvTranspose2d(),
        Dense(),
        BatchNorm(),
        Add(),
        Sub(),
        Mul(),
        Maximum(),
        Minimum(),
        Concat(),
        Slice(),
        MaxPool2d(),
        AvgPool2d(),
        GlobalAvgPool(),
        *REDUCTIONS,
        *ELEMENTWISE,
        LeakyRelu(),
        Clip(),
        PRelu(),
        Softmax(),
        LogSoftmax(),
        Pad(),
        Flatten(),
        Reshape(),
        Transpose(),
        Resize(),
    )
}


def op_of(node: Node) -> Op:
    """The operation of a node. Raises `UnsupportedOpError` for one that is not in `OPS`."""
    op = OPS.get(node.op)
    if op is None:
        close = get_close_matches(node.op, OPS, 1)
        raise UnsupportedOpError(node.op, node.name, f"Did you mean '{close[0]}'?" if close else "")
    return op


__all__ = ["OPS", "Op", "op_of"]
