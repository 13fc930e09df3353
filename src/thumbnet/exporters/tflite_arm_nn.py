"""An integer graph as Arm NN's TFLite parser computes it rightly: the same function, other nodes.

Arm NN 20.08, the version of Debian 12, pads with the byte 0 instead of the zero point, takes a grouped convolution for
an ordinary one, and aborts at dense layers with a scale for each output. So padding that TFLite's SAME does not give
goes into the kernel, as rows and columns of zeros; groups become zeros among the weights of all channels; such dense
layers become 1×1 convolutions. Every byte stays; weights and multiplications become more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.errors import UnsupportedOpError
from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor
from thumbnet.integer.moves import pad_value

Int8s = npt.NDArray[np.int8]
Part = tuple[IntegerNode, QTensor]

_SAME = "Give it the padding that TFLite calls SAME, or none."


def for_arm_nn(graph: IntegerGraph) -> IntegerGraph:
    """The graph to export. Raises `UnsupportedOpError` for padding that has no other spelling."""
    made: list[Part] = []
    for node in graph.nodes:
        rewrite = _REWRITES.get(node.op)
        made += rewrite(graph, node) if rewrite else [(node, graph.tensors[node.name])]
    tensors = {v: graph.tensors[v] for v in graph.inputs} | {tensor.name: tensor for _, tensor in made}
    return replace(graph, tensors=tensors, nodes=tuple(node for node, _ in made))


def _convolution(graph: IntegerGraph, node: IntegerNode) -> list[Part]:
    x, out = graph.tensors[node.inputs[0]], graph.tensors[node.name]
    depthwise = node.op == "depthwise_conv2d"
    weight, attrs = node.arrays["weight"], dict(node.attrs)
    if not depthwise and int(attrs["groups"]) > 1:
        weight, attrs["groups"] = _ungrouped(weight, int(attrs["groups"])), 1
    if any(attrs["padding"]) and x.zero_point != 0:
        first = 0 if depthwise else 1
        kernel = weight.shape[first : first + 2]
        rows, columns = (
            _zeros(node, k, x.shape[k], out.shape[k], kernel[k], attrs["padding"][k], attrs) for k in (0, 1)
        )
        amounts = [(0, 0)] * weight.ndim
        amounts[first : first + 2] = [rows, columns]
        weight = np.pad(weight, amounts)
        attrs["padding"] = _same(x.shape, out.shape, weight.shape[first : first + 2], attrs)
    return [(replace(node, attrs=attrs, arrays={**node.arrays, "weight": weight}), out)]


def _ungrouped(weight: Int8s, groups: int) -> Int8s:
    """[O, kh, kw, I/groups] as [O, kh, kw, I], with zeros for the channels of other groups."""
    outputs, kh, kw, depth = weight.shape
    whole = np.zeros((outputs, kh, kw, groups * depth), np.int8)
    for g in range(groups):
        own = slice(g * outputs // groups, (g + 1) * outputs // groups)
        whole[own, ..., g * depth : (g + 1) * depth] = weight[own]
    return whole


def _total(before: int, after: int, kernel: int, stride: int, dilation: int) -> int:
    """Rows that SAME adds in all."""
    return max((after - 1) * stride + dilation * (kernel - 1) + 1 - before, 0)


def _zeros(
    node: IntegerNode, axis: int, before: int, after: int, kernel: int, padding: int, attrs: dict[str, Any]
) -> tuple[int, int]:
    """Rows of zeros before and after the kernel's own, the fewest with which SAME sees what `padding` rows gave."""
    stride, dilation = int(attrs["stride"][axis]), int(attrs["dilation"][axis])
    if after != -(-before // stride):
        raise UnsupportedOpError(node.op, node.name, f"Arm NN has no such padding. {_SAME}")
    for extra in range(2 * (kernel + padding) + 2 * stride + 2):
        total = _total(before, after, kernel + extra, stride, dilation)
        lead, rest = divmod(total // 2 - padding, dilation)
        if rest == 0 and 0 <= lead <= extra:
            return lead, extra - lead
    raise UnsupportedOpError(node.op, node.name, f"Arm NN has no such padding. {_SAME}")


def _same(x: Sequence[int], out: Sequence[int], kernel: Sequence[int], attrs: dict[str, Any]) -> list[int]:
    """SAME's padding (top, left, bottom, right)."""
    totals = [_total(x[k], out[k], kernel[k], int(attrs["stride"][k]), int(attrs["dilation"][k])) for k in (0, 1)]
    return [*(t // 2 for t in totals), *(t - t // 2 for t in totals)]


def _dense(graph: IntegerGraph, node: IntegerNode) -> list[Part]:
    x, out = graph.tensors[node.inputs[0]], graph.tensors[node.name]
    if len(set(node.weight_scale)) < 2 or len(x.shape) != 1:
        return [(node, out)]
    weight = node.arrays["weight"]
    image = replace(x, name=f"{node.name}/image", shape=(1, 1, x.bytes))
    pixel = replace(out, name=f"{node.name}/pixel", shape=(1, 1, out.bytes))
    attrs = {"stride": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1], "groups": 1}
    attrs |= {k: v for k, v in node.attrs.items() if k == "weight_bits"}
    arrays = {**node.arrays, "weight": weight.reshape(len(weight), 1, 1, -1)}
    wide = replace(node, name=pixel.name, op="conv2d", inputs=(image.name,), attrs=attrs, arrays=arrays)
    return [
        (IntegerNode(image.name, "reshape", (x.name,), {"shape": list(image.shape)}), image),
        (wide, pixel),
        (IntegerNode(out.name, "reshape", (pixel.name,), {"shape": list(out.shape)}), out),
    ]


def _pad(graph: IntegerGraph, node: IntegerNode) -> list[Part]:
    out = graph.tensors[node.name]
    if out.zero_point != 0 or pad_value(node, out) != 0:
        raise UnsupportedOpError(
            node.op, node.name, "Arm NN pads with the byte 0; leave the padding to the convolution behind it."
        )
    return [(node, out)]


def _max_pool(graph: IntegerGraph, node: IntegerNode) -> list[Part]:
    x, out = graph.tensors[node.inputs[0]], graph.tensors[node.name]
    padding = [int(p) for p in node.attrs["padding"]]
    attrs = {**node.attrs, "dilation": (1, 1)}
    strided = all(out.shape[k] == -(-x.shape[k] // int(node.attrs["stride"][k])) for k in (0, 1))
    if any(padding) and not (strided and padding[:2] == _same(x.shape, out.shape, node.attrs["kernel"], attrs)[:2]):
        raise UnsupportedOpError(node.op, node.name, f"Arm NN has no such padding. {_SAME}")
    return [(node, out)]


_REWRITES: dict[str, Callable[[IntegerGraph, IntegerNode], list[Part]]] = {
    "conv2d": _convolution,
    "depthwise_conv2d": _convolution,
    "dense": _dense,
    "pad": _pad,
    "max_pool2d": _max_pool,
}
