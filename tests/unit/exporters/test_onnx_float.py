"""Float ONNX files in ONNX Runtime, against the graph's own evaluation."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from contracts.test_ops import CASES, Case
from networks import NETWORKS, SHAPE, network
from onnx_runs import run_onnx

from thumbnet.errors import ToolchainError, UnsupportedOpError
from thumbnet.exporters.onnx_float import SPELLINGS, to_onnx
from thumbnet.graph.evaluate import evaluate_graph, evaluate_values
from thumbnet.graph.graph import Graph, Input, Node
from thumbnet.graph.ops import OPS
from thumbnet.importers import load

pytest.importorskip("onnx", reason="the extra 'onnx' is optional")
pytest.importorskip("onnxruntime", reason="the runtime is a package for developers")

TOLERANCE = 1e-4  # of the largest output; what is seen is 3e-7


def single(case: Case) -> Graph:
    node = case.node()
    return Graph("case", tuple(Input(f"x{k}", tuple(s)) for k, s in enumerate(case.inputs)), (node,), ("n",))


def feeds(graph: Graph, count: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {i.name: rng.normal(0, 2, (count, *i.shape)).astype(np.float32) for i in graph.inputs}


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * max(1e-6, float(np.abs(expected).max())))


def test_every_operation_has_a_spelling() -> None:
    assert set(OPS) - set(SPELLINGS) == set()


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.op)
def test_operations(case: Case) -> None:
    graph = single(case)
    x = feeds(graph)
    expected = evaluate_values(graph, {k: torch.from_numpy(v) for k, v in x.items()})["n"].numpy()
    assert_close(run_onnx(to_onnx(graph), x)[0], expected)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("count", [1, 7])
def test_networks_take_any_batch(name: str, count: int) -> None:
    graph = load(network(name), input_shape=SHAPE)
    x = feeds(graph, count)
    (given,) = x.values()
    assert_close(run_onnx(to_onnx(graph), x)[0], evaluate_graph(graph, given))


@pytest.mark.parametrize(("before", "after"), [((5, 7), (3, 20)), ((6, 6), (7, 5)), ((3, 4), (6, 12))])
def test_resizing_by_any_factor(before: tuple[int, int], after: tuple[int, int]) -> None:
    graph = single(Case("resize", [(2, *before)], {"size": list(after)}))
    x = feeds(graph)
    assert_close(run_onnx(to_onnx(graph), x)[0], evaluate_graph(graph, x["x0"]))


def test_padding_wider_than_the_window() -> None:
    attrs = {"kernel": [2, 2], "stride": [1, 1], "padding": [3, 0, 0, 2]}
    for op, more in (("max_pool2d", {}), ("avg_pool2d", {"count_include_pad": True})):
        graph = single(Case(op, [(2, 5, 5)], {**attrs, **more}))
        x = feeds(graph)
        assert_close(
            np.nan_to_num(run_onnx(to_onnx(graph), x)[0], neginf=0),
            np.nan_to_num(evaluate_graph(graph, x["x0"]), neginf=0),
        )
    with pytest.raises(UnsupportedOpError, match="smaller than the window"):
        to_onnx(single(Case("avg_pool2d", [(2, 5, 5)], attrs)))


def test_an_input_that_is_an_output_and_outputs_that_repeat() -> None:
    nodes = (Node("n", "relu", ("x0",)),)
    graph = Graph("case", (Input("x0", (3,)),), nodes, ("x0", "n", "n"))
    x = feeds(graph)
    first, second, third = run_onnx(to_onnx(graph), x)
    np.testing.assert_array_equal(first, x["x0"])
    np.testing.assert_array_equal(second, np.maximum(x["x0"], 0))
    np.testing.assert_array_equal(third, second)


def test_equal_graphs_give_equal_files() -> None:
    graph = load(network("unet"), input_shape=SHAPE)
    assert to_onnx(graph) == to_onnx(graph)


def test_operations_without_a_spelling_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thumbnet.exporters.onnx_float.SPELLINGS", {})
    with pytest.raises(UnsupportedOpError, match="as ONNX"):
        to_onnx(single(Case("relu", [(3,)])))


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ToolchainError, match=r"thumbnet\[onnx\]"):
        to_onnx(single(Case("relu", [(3,)])))
