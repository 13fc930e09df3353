"""The graph itself: validation, cost, identity, files."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest

from tests.networks import SHAPE, network
from thumbnet.errors import ModelError, ThumbnetError
from thumbnet.graph.evaluate import evaluate_graph
from thumbnet.graph.graph import Graph, Input, Node
from thumbnet.importers.torch import import_torch

X = Input("x", (2, 4, 4))


def dense(name: str, value: str, size: tuple[int, int]) -> Node:
    return Node(name, "dense", (value,), {}, {"weight": np.ones(size, np.float32)})


@pytest.mark.parametrize(
    ("nodes", "outputs", "message"),
    [
        ((Node("y", "relu", ("z",)),), ("y",), "reads 'z'"),
        ((Node("y", "relu", ("x",)), Node("y", "relu", ("x",))), ("y",), "Two values"),
        ((Node("x", "relu", ("x",)),), ("x",), "Two values"),
        ((Node("y", "relu", ("x",)),), ("z",), "Output 'z'"),
        ((dense("y", "x", (3, 2)),), ("y",), "'y' \\(dense\\)"),
        ((Node("y", "frobnicate", ("x",)),), ("y",), "'frobnicate'"),
    ],
)
def test_broken_graphs_are_refused(nodes: tuple[Node, ...], outputs: tuple[str, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Graph("g", (X,), nodes, outputs).validate()


@pytest.mark.parametrize("shape", [(), (0, 4, 4), (3, -1, 4), (1 << 20, 1 << 10, 1 << 10)])
def test_impossible_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="impossible shape"):
        Graph("g", (Input("v", shape),), (Node("y", "relu", ("v",)),), ("y",)).validate()


def test_two_inputs_of_one_name_are_refused() -> None:
    with pytest.raises(ModelError, match="two inputs"):
        Graph("g", (X, X), (), ("x",)).validate()


def test_costs_of_a_known_network() -> None:
    graph = import_torch(network("vgg"), SHAPE)
    expected = 8 * 27 * 256 + 12 * 72 * 64 + 192 * 10 + 50
    assert graph.macs == expected
    module = network("vgg")
    trained = sum(p.numel() for p in module.parameters())
    statistics = sum(b.numel() for n, b in module.named_buffers() if "num_batches" not in n)
    assert graph.parameters == trained + statistics


def test_files_give_back_the_same_graph(tmp_path: Path) -> None:
    graph = import_torch(network("mobilenet_v2"), SHAPE)
    graph.save(tmp_path / "model.json")
    again = Graph.load(tmp_path / "model.json")
    assert again.digest == graph.digest
    x = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    np.testing.assert_array_equal(evaluate_graph(again, x), evaluate_graph(graph, x))
    first = (tmp_path / "model.json").read_bytes(), (tmp_path / "model.safetensors").read_bytes()
    graph.save(tmp_path / "model.json")
    assert ((tmp_path / "model.json").read_bytes(), (tmp_path / "model.safetensors").read_bytes()) == first


def test_files_of_another_format_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"format": 99}))
    with pytest.raises(ModelError, match="not a Thumbnet graph"):
        Graph.load(path)
    path.write_text("{")
    with pytest.raises(ThumbnetError, match="not valid JSON"):
        Graph.load(path)


def test_the_digest_sees_weights_and_structure() -> None:
    graph = Graph("g", (Input("v", (2,)),), (dense("y", "v", (3, 2)),), ("y",))
    node = graph.nodes[0]
    others = [
        graph.with_nodes([node.with_weights(weight=node.weights["weight"] * 2)]),
        graph.with_nodes([node.with_attrs(activation="relu")]),
        Graph("g", (Input("v", (2,)),), (dense("z", "v", (3, 2)),), ("z",)),
    ]
    assert len({graph.digest, *(g.digest for g in others)}) == 4


def test_copies_share_what_cannot_change() -> None:
    graph = import_torch(network("vgg"), SHAPE)
    assert copy.deepcopy(graph) is graph


def test_the_printed_form_is_short() -> None:
    text = repr(import_torch(network("vgg"), SHAPE))
    assert "classifier.4 = dense(classifier.2)" in text
    assert len(text) < 3000


class TestEvaluate:
    def test_batches_do_not_matter(self) -> None:
        graph = import_torch(network("vgg"), SHAPE)
        x = np.random.default_rng(0).normal(size=(7, *SHAPE)).astype(np.float32)
        np.testing.assert_allclose(evaluate_graph(graph, x, batch=3), evaluate_graph(graph, x), rtol=1e-5, atol=1e-6)
        assert evaluate_graph(graph, x[:0]).shape == (0, 5)

    def test_wrong_shapes_are_refused(self) -> None:
        graph = import_torch(network("vgg"), SHAPE)
        with pytest.raises(ModelError, match=r"takes inputs \(N, 3, 16, 16\), not \(2, 16, 16, 3\)"):
            evaluate_graph(graph, np.zeros((2, 16, 16, 3), np.float32))

    def test_several_inputs_are_refused(self) -> None:
        graph = Graph("g", (X, Input("z", X.shape)), (Node("y", "add", ("x", "z")),), ("y",))
        with pytest.raises(ModelError, match="2 inputs"):
            evaluate_graph(graph, np.zeros((1, 2, 4, 4), np.float32))
