"""Broken graphs are refused with the node's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from integer_cases import graph_of
from integer_pass_cases import random_weights, weighted
from random_integer_graphs import integer_graphs

from thumbnet.errors import ModelError
from thumbnet.integer import build
from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor
from thumbnet.integer.passes import lossless, validate


@given(integer_graphs())
@settings(max_examples=30, deadline=None)
def test_sound_graphs_pass(ig: IntegerGraph) -> None:
    validate(ig)


def sound() -> IntegerGraph:
    shapes = {"x": (4, 4, 2), "h": (4, 4, 3), "d": (4, 4, 3), "f": (48,), "y": (2,)}
    x, h, d, f, y = (QTensor(n, s, 0.05, 0) for n, s in shapes.items())
    nodes = [
        weighted("conv2d", x, h, random_weights(1, 3, 3, 3, 2), padding=[1] * 4),
        weighted("depthwise_conv2d", h, d, random_weights(1, 1, 1, 3)),
        IntegerNode("f", "reshape", ("d",), {"shape": [48]}),
        weighted("dense", f, y, random_weights(1, 2, 48)),
    ]
    return graph_of([x, h, d, f, y], [x], nodes)


def with_node(ig: IntegerGraph, at: int, node: IntegerNode) -> IntegerGraph:
    return replace(ig, nodes=(*ig.nodes[:at], node, *ig.nodes[at + 1 :]))


def cut(key: str, at: int) -> Callable[[IntegerGraph], IntegerGraph]:
    def broken(ig: IntegerGraph) -> IntegerGraph:
        node = ig.nodes[at]
        return with_node(ig, at, replace(node, arrays={**node.arrays, key: node.arrays[key][..., :-1]}))

    return broken


BREAKS: list[tuple[Callable[[IntegerGraph], IntegerGraph], str]] = [
    (lambda g: replace(g, nodes=g.nodes[::-1]), "dense node 'y' reads what is not written"),
    (lambda g: replace(g, nodes=(g.nodes[0], *g.nodes)), "'h' writes a tensor that exists"),
    (lambda g: replace(g, nodes=g.nodes[:-1]), "do not match"),
    (lambda g: replace(g, outputs=("nothing",)), "do not match"),
    (lambda g: replace(g, outputs=()), "do not match"),
    (lambda g: replace(g, tensors={k: v for k, v in g.tensors.items() if k != "d"}), "'d' writes a tensor without"),
    (
        lambda g: with_node(g, 0, replace(g.nodes[0], attrs={**g.nodes[0].attrs, "weight_bits": 4})),
        "'h' has weights from",
    ),
    (lambda g: with_node(g, 3, replace(g.nodes[3], attrs={"weight_bits": 8})), "'y' has weights of 8 bits, not 4"),
    (lambda g: with_node(g, 2, replace(g.nodes[2], attrs={**g.nodes[2].attrs, "weight_bits": 4})), "but no weights"),
    (cut("weight", 0), "'h' has weights for other input channels"),
    (cut("weight", 1), "'d' has weights for other input channels"),
    (cut("weight", 3), "'y' has weights for another number"),
    (cut("bias", 0), "'h' has a bias of shape"),
    (cut("shift", 3), "'y' has a shift of shape"),
    (lambda g: with_node(g, 0, replace(g.nodes[0], clamp=(3, 2))), "'h' clamps to"),
    (lambda g: with_node(g, 0, replace(g.nodes[0], attrs={**g.nodes[0].attrs, "stride": [2, 1]})), "'h' writes"),
    (lambda g: with_node(g, 2, replace(g.nodes[2], attrs={"shape": [47]})), r"'f' makes \[47\]"),
]


@pytest.mark.parametrize(("broken", "message"), BREAKS)
def test_broken_graphs_are_refused(broken: Callable[[IntegerGraph], IntegerGraph], message: str) -> None:
    ig = broken(sound())
    with pytest.raises(ModelError, match=message):
        validate(ig)
    with pytest.raises(ModelError, match=message):
        lossless(ig)


@pytest.mark.parametrize(
    ("node", "shape"),
    [
        (IntegerNode("y", "slice", ("x",), {"axis": 2, "start": 1, "stop": 3}), (4, 4, 2)),
        (IntegerNode("y", "concat", ("x", "x"), {"axis": 0}), (4, 8, 2)),
        (IntegerNode("y", "pad", ("x",), {"padding": [1, 0, 0, 0]}), (4, 4, 2)),
        (IntegerNode("y", "resize_nearest", ("x",), {"size": [8, 8]}), (8, 4, 2)),
        (IntegerNode("y", "add", ("x", "z"), {}), (4, 4, 2)),
        (IntegerNode("y", "global_avg_pool", ("x",), {}), (4, 1, 2)),
        (IntegerNode("y", "max_pool2d", ("x",), {"kernel": [2, 2], "stride": [2, 2], "padding": [0] * 4}), (2, 1, 2)),
        (IntegerNode("y", "lut", ("x",), {}, {"table": np.zeros(255, np.int8)}), (4, 4, 2)),
        (IntegerNode("y", "mystery", ("x",)), (0, 4, 2)),
    ],
)
def test_shapes_must_follow(node: IntegerNode, shape: tuple[int, ...]) -> None:
    x, z, y = QTensor("x", (4, 4, 2), 0.05, 0), QTensor("z", (3, 2), 0.05, 0), QTensor("y", shape, 0.05, 0)
    inputs = [x, z] if "z" in node.inputs else [x]
    with pytest.raises(ModelError, match="'y'"):
        validate(graph_of([*inputs, y], inputs, [node]))


def test_broadcasts_and_strangers_pass() -> None:
    x, g, y = QTensor("x", (4, 4, 2), 0.05, 0), QTensor("g", (1, 1, 2), 0.05, 0), QTensor("y", (4, 4, 2), 0.05, 0)
    validate(graph_of([x, g, y], [x, g], [build.multiply("y", x, g, y)]))
    validate(graph_of([x, y], [x], [IntegerNode("y", "mystery", ("x",))]))
