"""Graphs for Arm NN: the same bytes, without what its parser gets wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from finished_runs import lowered
from integer_cases import Draw, assert_equals_tflm, graph_of, stimuli

from thumbnet.errors import UnsupportedOpError
from thumbnet.exporters.tflite import to_tflite
from thumbnet.exporters.tflite_arm_nn import for_arm_nn
from thumbnet.integer import build, simulate
from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor
from thumbnet.integer.passes import validate


def convolution(op: str, seed: int, zero_point: int = -128, **attrs: Any) -> IntegerGraph:
    """3×3 over 8×10 pixels of 4 channels."""
    d = Draw(seed)
    x = d.tensor("x", (8, 10, 4), 0.02, zero_point)
    padding, stride, dilation = (
        attrs.get(k, v) for k, v in (("padding", [1] * 4), ("stride", [2, 2]), ("dilation", [1, 1]))
    )
    size = [(x.shape[k] + padding[k] + padding[k + 2] - 2 * dilation[k] - 1) // stride[k] + 1 for k in (0, 1)]
    groups = attrs.get("groups", 1)
    y = d.tensor("y", (*size, 8), 0.05, -20)
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    if op == "depthwise_conv2d":
        node = build.depthwise_conv2d("y", x, y, d.weight(3, 3, 8), d.bias(8), **options)
    else:
        node = build.conv2d("y", x, y, d.weight(8, 3, 3, 4 // groups), d.bias(8), groups=groups, **options)
    return graph_of([x, y], [x], [node])


def rewritten(graph: IntegerGraph) -> IntegerGraph:
    """The rewritten graph, once it is known to be valid and to compute the same bytes, in TFLM too."""
    found, feeds = for_arm_nn(graph), stimuli(graph, 0)
    validate(found)
    before, after = (simulate.run(g, feeds)[g.outputs[0]] for g in (graph, found))
    np.testing.assert_array_equal(after, before)
    assert_equals_tflm(found)
    return found


@pytest.mark.parametrize("op", ["conv2d", "depthwise_conv2d"])
@pytest.mark.parametrize(
    ("attrs", "kernel"),
    [
        ({}, (4, 4)),  # as PyTorch pads before a stride of 2
        ({"stride": [1, 2]}, (3, 4)),
        ({"stride": [2, 2], "padding": [0, 0, 1, 1]}, (3, 3)),  # SAME already
        ({"stride": [1, 1], "padding": [2, 1, 0, 1]}, (5, 3)),
        ({"stride": [2, 2], "padding": [2, 2, 2, 2], "dilation": [2, 2]}, (4, 4)),
    ],
)
def test_padding_becomes_part_of_the_kernel(op: str, attrs: dict[str, Any], kernel: tuple[int, int]) -> None:
    found = rewritten(convolution(op, 1, **attrs))
    weight = found.nodes[0].arrays["weight"]
    assert (weight.shape[:2] if op == "depthwise_conv2d" else weight.shape[1:3]) == kernel
    assert b"/pad" not in to_tflite(found)


def test_groups_become_zeros() -> None:
    (node,) = rewritten(convolution("conv2d", 2, groups=2)).nodes
    assert node.attrs["groups"] == 1
    assert node.arrays["weight"].shape[-1] == 4


def test_dense_layers_with_a_scale_for_each_output_become_convolutions() -> None:
    d = Draw(3)
    x, y = d.tensor("x", (12,), 0.02), d.tensor("y", (5,), 0.05)
    plain = build.dense("y", x, y, d.weight(5, 12), d.bias(5))
    wide = build.conv2d("y", x, y, d.weight(5, 1, 1, 12), d.bias(5))
    node = IntegerNode(
        "y",
        "dense",
        ("x",),
        {},
        {**wide.arrays, "weight": wide.arrays["weight"].reshape(5, 12)},
        weight_scale=wide.weight_scale,
    )
    assert len(set(node.weight_scale)) == 5
    found = rewritten(graph_of([x, y], [x], [node]))
    assert [n.op for n in found.nodes] == ["reshape", "conv2d", "reshape"]
    assert [n.op for n in rewritten(graph_of([x, y], [x], [plain])).nodes] == ["dense"]


def test_what_has_no_other_spelling_is_refused() -> None:
    x, y = QTensor("x", (6, 6, 2), 0.1, 3), QTensor("y", (3, 3, 2), 0.1, 3)
    pool = graph_of([x, y], [x], [build.pool("y", "max_pool2d", x, [3, 3], [2, 2], [1, 1, 1, 1])])
    wide = QTensor("y", (8, 8, 2), 0.1, 3)
    pad = graph_of([x, wide], [x], [IntegerNode("y", "pad", ("x",), {"padding": [1, 1, 1, 1]})])
    larger = convolution("conv2d", 0, stride=[1, 1], padding=[2, 2, 2, 2])
    for graph in (pool, pad, larger):
        with pytest.raises(UnsupportedOpError, match="Arm NN"):
            for_arm_nn(graph)
    zero = convolution("conv2d", 0, zero_point=0, stride=[1, 1], padding=[2, 2, 2, 2])
    assert rewritten(zero).nodes[0].attrs["padding"] == [2, 2, 2, 2]  # the byte 0 is right there


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet8b", "grouped"])
def test_networks(name: str) -> None:
    rewritten(lowered(name)[1])
