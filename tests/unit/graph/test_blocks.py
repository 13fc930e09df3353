"""Blocks that can be skipped, and places where a network can end."""

from __future__ import annotations

import numpy as np
import pytest

from tests.networks import NETWORKS, SHAPE, network
from thumbnet.errors import ModelError
from thumbnet.graph.blocks import cut_points, skip_block, skippable_blocks, truncate
from thumbnet.graph.evaluate import evaluate_graph
from thumbnet.graph.graph import Graph, Input, Node
from thumbnet.graph.passes import clean
from thumbnet.importers.torch import import_torch


def cleaned(name: str) -> Graph:
    return clean(import_torch(network(name), SHAPE))


def images() -> np.ndarray:
    return np.random.default_rng(2).normal(size=(3, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "exits"),
    [
        ("vgg", []),
        ("resnet8a", ["stages.0.add"]),
        ("resnet8b", ["stages.0.add"]),
        ("mobilenet_v2", ["blocks.0.add", "blocks.2.add"]),
        ("densenet", []),
        ("unet", []),
        ("squeeze_excite", ["mul"]),
    ],
)
def test_residual_branches_over_the_identity_can_be_skipped(name: str, exits: list[str]) -> None:
    assert [b.name for b in skippable_blocks(cleaned(name))] == exits


def test_blocks_are_found_with_batch_norms_too() -> None:
    graph = import_torch(network("resnet8b"), SHAPE)
    (block,) = skippable_blocks(graph)
    assert (block.entry, block.exit) == ("stem.2", "stages.0.add")
    assert "stages.0.norm" in block.nodes


@pytest.mark.parametrize("name", NETWORKS)
def test_a_skipped_block_is_the_identity(name: str) -> None:
    graph = cleaned(name)
    for block in skippable_blocks(graph):
        if graph.by_name[block.exit].op != "add":
            continue
        after = skip_block(graph, block)
        assert after.parameters < graph.parameters
        # The oracle: the same graph whose branch computes zero, so that the addition adds nothing.
        branch = [n for n in graph.nodes if n.name in block.nodes and n.op != "add"]
        silent = {n.name: n.with_weights(**{k: np.zeros_like(w) for k, w in n.weights.items()}) for n in branch}
        muted = graph.with_nodes(silent.get(n.name, n) for n in graph.nodes)
        np.testing.assert_allclose(evaluate_graph(after, images()), evaluate_graph(muted, images()), atol=1e-5)


def test_a_chain_of_equal_shape_can_be_skipped() -> None:
    attrs = {"stride": [1, 1], "padding": [1] * 4, "dilation": [1, 1], "activation": "relu"}
    rng = np.random.default_rng(0)

    def conv(name: str, value: str, shape: tuple[int, ...]) -> Node:
        op = "depthwise_conv2d" if shape[1] == 1 else "conv2d"
        more = {} if shape[1] == 1 else {"groups": 1}
        pad = [shape[2] // 2] * 4
        weight = {"weight": rng.normal(size=shape).astype(np.float32)}
        return Node(name, op, (value,), {**attrs, **more, "padding": pad}, weight)

    nodes = (
        conv("stem", "x", (8, 3, 3, 3)),
        conv("dw1", "stem", (8, 1, 3, 3)),
        conv("pw1", "dw1", (8, 8, 1, 1)),
        conv("dw2", "pw1", (8, 1, 3, 3)),
        conv("pw2", "dw2", (8, 8, 1, 1)),
        conv("last", "pw2", (12, 8, 1, 1)),
    )
    graph = Graph("mobilenet_v1", (Input("x", SHAPE),), nodes, ("last",))
    blocks = skippable_blocks(graph)
    assert [(b.entry, b.exit) for b in blocks] == [("stem", "pw1"), ("pw1", "pw2")]
    assert skip_block(graph, blocks[0]).by_name["dw2"].inputs == ("stem",)
    twice = skip_block(skip_block(graph, blocks[1]), blocks[0])
    assert [n.name for n in twice.nodes] == ["stem", "last"]


@pytest.mark.parametrize(
    ("name", "points"),
    [
        ("vgg", ["features.0.0", "features.1"]),
        ("resnet8b", ["stem.0", "stages.0.add", "stages.1.add"]),
        ("unet", ["down.0", "concat"]),
    ],
)
def test_everything_passes_through_a_cut_point(name: str, points: list[str]) -> None:
    graph = cleaned(name)
    assert list(cut_points(graph)) == points


def test_the_inside_of_a_residual_is_no_cut_point() -> None:
    assert not {"blocks.0.layers.0", "blocks.0.layers.3"} & set(cut_points(cleaned("mobilenet_v2")))


def test_an_expression_between_convolution_and_activation_is_no_cut_point() -> None:
    points = cut_points(import_torch(network("vgg"), SHAPE))
    assert list(points) == ["features.0.2", "features.1"]


@pytest.mark.parametrize("name", NETWORKS)
def test_truncation_keeps_what_lies_before(name: str) -> None:
    graph = cleaned(name)
    for value in cut_points(graph):
        short = truncate(graph, value)
        assert short.outputs == graph.outputs
        assert short.shapes[short.outputs[0]] == graph.shapes[graph.outputs[0]]
        x = images()
        head = Graph("head", graph.inputs, graph.nodes, (value,))
        tap = Graph("tap", short.inputs, short.nodes, (value,))
        np.testing.assert_array_equal(evaluate_graph(tap, x), evaluate_graph(head, x))
        pooled = Graph("pooled", short.inputs, short.nodes, (f"{value}.pool",))
        np.testing.assert_allclose(evaluate_graph(pooled, x), evaluate_graph(head, x).mean((2, 3)), atol=1e-5)
        assert not evaluate_graph(short, x).any()


def test_truncation_can_change_the_number_of_classes() -> None:
    assert truncate(cleaned("vgg"), "features.1", 2).shapes["classifier.4"] == (2,)


@pytest.mark.parametrize("value", ["nowhere", "classifier.1", "x"])
def test_truncation_needs_an_image(value: str) -> None:
    with pytest.raises(ModelError, match="no image"):
        truncate(cleaned("vgg"), value)
