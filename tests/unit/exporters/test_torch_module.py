"""Generated PyTorch code: it computes what the graph computes, trains, and holds nothing of a stranger's text."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from contracts.test_ops import CASES, Case
from networks import CLASSES, NETWORKS, SHAPE, network

from thumbnet.errors import UnsupportedOpError
from thumbnet.exporters.torch_module import to_torch
from thumbnet.exporters.torch_spelling import SPELLINGS
from thumbnet.graph.evaluate import evaluate_graph, evaluate_values
from thumbnet.graph.graph import Graph, Input, Node
from thumbnet.graph.ops import OPS
from thumbnet.importers import load


def imported(graph: Graph, folder: Path) -> ModuleType:
    """`model.py`, written and imported as a user would."""
    folder.mkdir(exist_ok=True)
    for name, data in to_torch(graph).files().items():
        (folder / name).write_bytes(data)
    spec = importlib.util.spec_from_file_location("exported_model", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def single(case: Case) -> Graph:
    node = case.node()
    return Graph("case", tuple(Input(f"x{k}", tuple(s)) for k, s in enumerate(case.inputs)), (node,), ("n",))


def test_every_operation_has_a_spelling() -> None:
    assert set(OPS) - set(SPELLINGS) == set()


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.op)
def test_operations(case: Case, tmp_path: Path) -> None:
    graph, rng = single(case), np.random.default_rng(0)
    x = {i.name: torch.from_numpy(rng.normal(0, 2, (3, *i.shape)).astype(np.float32)) for i in graph.inputs}
    with torch.no_grad():
        found = imported(graph, tmp_path).load()(*x.values())
    torch.testing.assert_close(found, evaluate_values(graph, x)["n"])


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_compute_the_same_and_train(name: str, tmp_path: Path) -> None:
    graph = load(network(name), input_shape=SHAPE)
    x = np.random.default_rng(0).normal(size=(6, *SHAPE)).astype(np.float32)
    model = imported(graph, tmp_path).load()
    assert not model.training
    torch.testing.assert_close(model(torch.from_numpy(x)).detach(), torch.from_numpy(evaluate_graph(graph, x)))
    model.train()
    target = torch.arange(6) % CLASSES
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(x)), target)
        loss.backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert min(losses[1:]) < losses[0]


def test_the_source_reads_like_code() -> None:
    source = to_torch(load(network("resnet8b"), input_shape=SHAPE)).source
    assert "thumbnet" not in source.replace("Written by Thumbnet", "")
    assert "class ResNet8(nn.Module):" in source
    assert "nn.Conv2d(8, 12, 3, stride=2, padding=1" in source
    assert "x = F.relu(" in source
    assert max(map(len, source.splitlines())) <= 120
    compile(source, "model.py", "exec")


def test_two_inputs_and_two_outputs(tmp_path: Path) -> None:
    nodes = (Node("sum", "add", ("a", "b")), Node("difference", "sub", ("a", "b"), {"activation": "relu"}))
    graph = Graph("pair", (Input("a", (4,)), Input("b", (4,))), nodes, ("sum", "difference"))
    a, b = torch.randn(2, 4), torch.randn(2, 4)
    first, second = imported(graph, tmp_path).load()(a, b)
    torch.testing.assert_close(first, a + b)
    torch.testing.assert_close(second, torch.relu(a - b))


HOSTILE = ('"""\nimport os\nos.abort()\n"""', "a\\", "{x}", "forward", "lambda", "1", "ünï", "self", "")


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_strangers_do_not_become_code(name: str, tmp_path: Path) -> None:
    node = Node(name or "n", "dense", ("x",), {}, {"weight": np.ones((2, 3), np.float32)})
    again = Node("forward_2", "dense", (node.name,), {}, {"weight": np.ones((2, 2), np.float32)})
    graph = Graph(name, (Input("x", (3,)),), (node, again), ("forward_2",))
    tree = ast.parse(to_torch(graph).source)
    assert [type(n).__name__ for n in tree.body] == [
        *["Expr", "ImportFrom", "ImportFrom", "Import", "Import", "ImportFrom", "ImportFrom", "ClassDef", "FunctionDef"]
    ]
    out = imported(graph, tmp_path).load()(torch.ones(1, 3))
    assert out.tolist() == [[6, 6]]


def test_it_needs_torch_and_safetensors_alone() -> None:
    tree = ast.parse(to_torch(load(network("vgg"), input_shape=SHAPE)).source)
    modules = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    modules |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert modules == {"__future__", "pathlib", "torch", "torch.nn.functional", "safetensors.torch"}


def test_operations_without_a_spelling_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thumbnet.exporters.torch_module.SPELLINGS", {})
    with pytest.raises(UnsupportedOpError, match="as PyTorch code"):
        to_torch(single(Case("relu", [(3,)])))
