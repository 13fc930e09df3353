"""The graph as a torch module: the same function, the same training, and back."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from tests.networks import CLASSES, NETWORKS, SHAPE, network
from thumbnet.errors import ModelError
from thumbnet.graph.evaluate import evaluate_graph
from thumbnet.graph.graph import Graph, Input, Node
from thumbnet.graph.passes import clean
from thumbnet.importers.torch import import_torch
from thumbnet.training.module import GraphModule


def images(count: int = 6) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(4))


def step(module: nn.Module, x: torch.Tensor, optimizer: torch.optim.Optimizer) -> float:
    labels = torch.arange(len(x)) % CLASSES
    loss = nn.functional.cross_entropy(module(x), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


@pytest.mark.parametrize("name", NETWORKS)
def test_inference_equals_the_network_it_came_from(name: str) -> None:
    original = network(name)
    module = GraphModule(import_torch(original, SHAPE)).eval()
    with torch.inference_mode():
        torch.testing.assert_close(module(images()), original(images()), rtol=1e-4, atol=1e-5)


# Option A's zero channels come in as a convolution, whose weights are trained where torch has none.
@pytest.mark.parametrize("name", [n for n in NETWORKS if n != "resnet8a"])
def test_training_equals_that_of_the_network_it_came_from(name: str) -> None:
    original = network(name)
    for m in original.modules():
        if isinstance(m, nn.Dropout):
            m.p = 0.0
    module = GraphModule(import_torch(original, SHAPE)).train()
    original.train()
    ours, theirs = (torch.optim.SGD(m.parameters(), lr=0.05) for m in (module, original))
    for _ in range(3):
        assert step(module, images(), ours) == pytest.approx(step(original, images(), theirs), rel=1e-3)
    original.eval()
    expected = import_torch(original, SHAPE)
    for got, node in zip(module.to_graph().nodes, expected.nodes, strict=True):
        for key, weight in node.weights.items():
            np.testing.assert_allclose(got.weights[key], weight, rtol=1e-2, atol=1e-3, err_msg=f"{node.name} {key}")


def test_a_trained_module_goes_back_to_a_graph() -> None:
    graph = import_torch(network("resnet8b"), SHAPE)
    module = GraphModule(graph).train()
    before = graph.digest
    step(module, images(), torch.optim.SGD(module.parameters(), lr=0.1))
    after = module.eval().to_graph()
    after.validate()
    assert graph.digest == before  # the graph it was made of stays as it was
    assert after.digest != before
    with torch.inference_mode():
        np.testing.assert_allclose(evaluate_graph(after, images().numpy()), module(images()).numpy(), atol=1e-4)


def test_only_weights_are_trained() -> None:
    module = GraphModule(import_torch(network("resnet8b"), SHAPE))
    names = {n.rsplit(".", 1)[1] for n, _ in module.named_parameters()}
    assert names == {"weight", "bias"}
    assert {n.rsplit(".", 1)[1] for n, _ in module.named_buffers()} == {"mean", "var"}
    assert sum(p.numel() for p in module.parameters()) == sum(p.numel() for p in network("resnet8b").parameters())


class TestValues:
    def test_hold_every_value_and_its_gradient(self) -> None:
        graph = clean(import_torch(network("squeeze_excite"), SHAPE))
        module = GraphModule(graph).eval()
        tap = graph.nodes[0].name
        values = module.forward_values(images(), retain_grad={tap})
        assert set(values) == {"x", *graph.by_name}
        assert {k: tuple(v.shape[1:]) for k, v in values.items()} == dict(graph.shapes)
        torch.testing.assert_close(values[graph.outputs[0]], module(images()))
        values[graph.outputs[0]].sum().backward()
        assert values[tap].grad is not None
        assert float(values[tap].grad.abs().sum()) > 0

    def test_a_value_is_what_it_was_before_its_readers_ran(self) -> None:
        """No activation in place may overwrite a value that somebody taps."""
        graph = import_torch(network("vgg"), SHAPE)
        values = GraphModule(graph).eval().forward_values(images())
        with torch.inference_mode():
            torch.testing.assert_close(values["features.0.1"], network("vgg").features[0][:2](images()))
        assert float(values["features.0.1"].detach().min()) < 0


class TestWeights:
    def test_can_be_set(self) -> None:
        module = GraphModule(import_torch(network("vgg"), SHAPE))
        module.set_weight("classifier.4", "weight", torch.full((CLASSES, 10), 2.0))
        module.set_weight("features.0.1", "mean", torch.ones(8))
        graph = module.to_graph()
        assert (graph.by_name["classifier.4"].weights["weight"] == 2).all()
        assert (graph.by_name["features.0.1"].weights["mean"] == 1).all()

    def test_a_bias_is_added_where_there_is_none(self) -> None:
        node = Node("y", "dense", ("x",), {}, {"weight": np.ones((2, 3), np.float32)})
        module = GraphModule(Graph("g", (Input("x", (3,)),), (node,), ("y",)))
        module.set_weight("y", "bias", torch.tensor([1.0, 2.0]))
        assert module(torch.zeros(1, 3)).tolist() == [[1.0, 2.0]]
        np.testing.assert_array_equal(module.to_graph().by_name["y"].weights["bias"], [1, 2])

    def test_of_another_shape_are_refused(self) -> None:
        module = GraphModule(import_torch(network("vgg"), SHAPE))
        with pytest.raises(ModelError, match=r"'classifier.4' has a 'bias' of shape \(5,\), not \(6,\)"):
            module.set_weight("classifier.4", "bias", torch.zeros(6))
        with pytest.raises(ModelError, match="none"):
            module.set_weight("classifier.4", "mean", torch.zeros(6))


class TestBatchNormStatistics:
    def test_become_plain_averages_after_a_reset(self) -> None:
        graph = import_torch(network("resnet8b"), SHAPE)
        module = GraphModule(graph)
        norms = [m for m in module.modules() if hasattr(m, "reset_statistics")]
        assert len(norms) == sum(n.op == "batch_norm" for n in graph.nodes)
        for norm in norms:
            norm.reset_statistics()
        module.train()
        batches = [images(8) * 2 + 1, images(8) - 3, images(8)]
        with torch.no_grad():
            stems = [module.forward_values(x)["stem.0"] for x in batches]
        module.eval()
        expected = torch.stack([s.mean((0, 2, 3)) for s in stems]).mean(0)
        got = module.to_graph().by_name["stem.1"].weights
        np.testing.assert_allclose(got["mean"], expected.numpy(), rtol=1e-4, atol=1e-5)
        variance = torch.stack([s.transpose(0, 1).flatten(1).var(1) for s in stems]).mean(0)
        np.testing.assert_allclose(got["var"], variance.numpy(), rtol=1e-3, atol=1e-5)

    def test_move_slowly_again_afterwards(self) -> None:
        module = GraphModule(import_torch(network("resnet8b"), SHAPE))
        norm = next(m for m in module.modules() if hasattr(m, "reset_statistics"))
        norm.reset_statistics()
        module.train()
        module(images())
        module.eval()
        before = norm.mean.clone()
        module.train()
        module(images() + 10)
        batch = module.eval().forward_values(images() + 10)["stem.0"].mean((0, 2, 3))
        torch.testing.assert_close(norm.mean, 0.9 * before + 0.1 * batch.detach(), rtol=1e-3, atol=1e-4)


def test_copies_are_independent() -> None:
    module = GraphModule(import_torch(network("vgg"), SHAPE)).eval()
    before = module(images())
    other = copy.deepcopy(module)
    other.set_weight("classifier.4", "bias", torch.full((CLASSES,), 7.0))
    step(other.train(), images(), torch.optim.SGD(other.parameters(), lr=0.1))
    torch.testing.assert_close(module(images()), before)
    assert not torch.allclose(other.eval()(images()), before)
    assert other.graph is module.graph


def test_several_inputs_and_outputs() -> None:
    inputs = (Input("a", (2, 3, 3)), Input("b", (2, 3, 3)))
    nodes = (Node("sum", "add", ("a", "b")), Node("relu", "relu", ("sum",)))
    module = GraphModule(Graph("g", inputs, nodes, ("relu", "sum")))
    a, b = torch.randn(2, 1, 2, 3, 3)
    relu, total = module(a, b)
    torch.testing.assert_close(total, a + b)
    torch.testing.assert_close(relu, (a + b).clamp(min=0))


def test_a_wrong_image_size_is_refused() -> None:
    module = GraphModule(import_torch(network("vgg"), SHAPE))
    with pytest.raises(ModelError, match=r"'x' has shape \(3, 16, 16\), not \(3, 8, 8\)"):
        module(torch.zeros(1, 3, 8, 8))


def test_a_strided_pixelwise_convolution_of_few_channels_trains() -> None:
    """oneDNN's own backward pass ends the process here."""
    weight = np.ones((16, 1, 1, 1), np.float32)
    node = Node("y", "conv2d", ("x",), {"stride": [2, 2]}, {"weight": weight})
    module = GraphModule(Graph("few", (Input("x", (1, 64, 64)),), (node,), ("y",))).train()
    for _ in range(20):
        x = torch.rand(32, 1, 64, 64)
        y = module(x)
        y.square().mean().backward()
    torch.testing.assert_close(y.detach(), x[:, :, ::2, ::2].expand(-1, 16, -1, -1))
