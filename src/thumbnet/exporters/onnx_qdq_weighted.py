"""How quantized ONNX spells convolutions and dense layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from thumbnet.errors import UnsupportedOpError
from thumbnet.exporters.onnx_qdq_writer import Int8s, QdqWriter
from thumbnet.integer.graph import IntegerNode


def _constants(w: QdqWriter, node: IntegerNode, weight: Int8s, axis: int) -> list[str]:
    """Weights, 4-bit ones too as int8, and the bias, whose scale is that of the sums."""
    scales = np.array(node.weight_scale, np.float32)
    sums = np.float32(w.source(node).scale) * scales
    return [
        w.weights(f"{node.name}/weight", weight, scales, axis),
        w.weights(f"{node.name}/bias", node.arrays["bias"].astype(np.int32), sums, 0),
    ]


def _window(node: IntegerNode) -> dict[str, Any]:
    """Padding (top, left, bottom, right) is ONNX's order too."""
    return {key: [int(v) for v in node.attrs[k]] for key, k in (("strides", "stride"), ("pads", "padding"))}


def _conv2d(w: QdqWriter, node: IntegerNode) -> None:
    _convolution(w, node, node.arrays["weight"].transpose(0, 3, 1, 2), int(node.attrs["groups"]))


def _depthwise_conv2d(w: QdqWriter, node: IntegerNode) -> None:
    _convolution(w, node, node.arrays["weight"].transpose(2, 0, 1)[:, None], w.source(node).shape[-1])


def _convolution(w: QdqWriter, node: IntegerNode, weight: Int8s, groups: int) -> None:
    attributes = {"group": groups, "dilations": [int(d) for d in node.attrs["dilation"]], **_window(node)}
    inputs = [w.real(node), *_constants(w, node, weight, 0)]
    w.done(node, w.step(node, "Conv", inputs, "sums", **attributes))


def _conv_transpose2d(w: QdqWriter, node: IntegerNode) -> None:
    """Where the output reaches beyond the last window, which leaves the bias there, zeros behind the input do that."""
    x, out, weight = w.source(node), w.tensor(node), node.arrays["weight"].transpose(3, 0, 1, 2)
    stride, cut = [int(s) for s in node.attrs["stride"]], [int(p) for p in node.attrs["padding"]]
    more, after = [0, 0], [0, 0]
    for k in (0, 1):
        left = (x.shape[k] - 1) * stride[k] + weight.shape[2 + k] - cut[k] - out.shape[k]
        more[k] = max(0, -(left // stride[k]))
        after[k] = left + more[k] * stride[k]
    value = w.real(node)
    if any(more):
        amounts = w.model.integers(f"{node.name}/padding", [0] * 6 + more)
        value = w.step(node, "Pad", [value, amounts], "padded")
    inputs = [value, *_constants(w, node, weight, 1)]
    w.done(node, w.step(node, "ConvTranspose", inputs, "sums", strides=stride, pads=[*cut, *after]))


def _dense(w: QdqWriter, node: IntegerNode) -> None:
    weight, rank = node.arrays["weight"], len(w.source(node).shape)
    if rank == 1:
        inputs = [w.real(node), *_constants(w, node, weight, 0)]
        w.done(node, w.step(node, "Gemm", inputs, "sums", transB=1))
    elif rank == 3:  # along the channels: a 1×1 convolution
        inputs = [w.real(node), *_constants(w, node, weight[:, :, None, None], 0)]
        w.done(node, w.step(node, "Conv", inputs, "sums"))
    else:
        raise UnsupportedOpError(node.op, node.name, f"As ONNX it takes a vector or an image, not {rank} axes.")


WEIGHTED: Mapping[str, Callable[[QdqWriter, IntegerNode], None]] = {
    "conv2d": _conv2d,
    "depthwise_conv2d": _depthwise_conv2d,
    "conv_transpose2d": _conv_transpose2d,
    "dense": _dense,
}
