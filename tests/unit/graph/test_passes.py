"""Every pass keeps the function, does what it is for, and leaves alone what it must."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from torch import nn

from tests.networks import NETWORKS, SHAPE, network
from tests.random_graphs import Sketch, graphs
from thumbnet.graph.evaluate import evaluate_graph
from thumbnet.graph.graph import Graph, Input, Node
from thumbnet.graph.passes import (
    PASSES,
    Pass,
    clean,
    dead_channels,
    drop_final_softmax,
    fold_batch_norm,
    fold_pad,
    fuse_activations,
    fuse_composites,
    fuse_subsampling,
    remove_identity,
)
from thumbnet.importers.torch import import_torch
from thumbnet.integer.lower import lower

each_pass = pytest.mark.parametrize("step", [*dict.fromkeys(PASSES), clean], ids=lambda p: p.__name__)


def images(graph: Graph, count: int = 3) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(count, *graph.inputs[0].shape)).astype(np.float32)


def assert_same(before: Graph, after: Graph) -> None:
    after.validate()
    x = images(before)
    expected, got = evaluate_graph(before, x), evaluate_graph(after, x)
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * scale)


def ops(graph: Graph) -> Counter[str]:
    return Counter(n.op for n in graph.nodes)


@each_pass
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graph=graphs())
def test_keeps_the_function_of_any_graph(step: Pass, graph: Graph) -> None:
    after = step(graph)
    assert_same(graph, after)
    assert after.outputs == graph.outputs
    assert after.inputs == graph.inputs


@pytest.mark.parametrize("name", NETWORKS)
def test_clean_keeps_the_function_of_real_topologies(name: str) -> None:
    graph = import_torch(network(name), SHAPE)
    cleaned = clean(graph)
    assert_same(drop_final_softmax(graph), cleaned)
    assert ops(cleaned)["batch_norm"] == 0
    assert clean(cleaned).digest == cleaned.digest  # nothing left to do


def test_clean_leaves_only_what_runs() -> None:
    assert ops(clean(import_torch(network("mobilenet_v2"), SHAPE))) == {
        "conv2d": 7,
        "depthwise_conv2d": 4,
        "add": 2,
        "global_avg_pool": 1,
        "dense": 1,
    }


def chain(*steps: tuple[str, dict[str, object], dict[str, np.ndarray]], shape: tuple[int, ...] = (2, 6, 6)) -> Graph:
    sketch = Sketch(3)
    sketch.shapes["x"] = shape
    for op, attrs, weights in steps:
        sketch.add(op, (sketch.value,), dict(attrs), **weights)
    graph = Graph("chain", (Input("x", shape),), tuple(sketch.nodes), (sketch.value,))
    graph.validate()
    return graph


def conv(
    weight: np.ndarray, padding: int = 0, activation: str = "none", stride: int = 1, bias: list[float] | None = None
):
    attrs = {
        "stride": [stride] * 2,
        "padding": [padding] * 4,
        "dilation": [1, 1],
        "groups": 1,
        "activation": activation,
    }
    weights = {"weight": weight.astype(np.float32)}
    if bias is not None:
        weights["bias"] = np.array(bias, np.float32)
    return "conv2d", attrs, weights


def norm(scale: list[float], offset: list[float]):
    zero, one = np.zeros(len(scale), np.float32), np.ones(len(scale), np.float32)
    weights = {"weight": np.array(scale, np.float32), "bias": np.array(offset, np.float32), "mean": zero, "var": one}
    return "batch_norm", {"eps": 0.0}, weights


RNG = np.random.default_rng(0)


class TestFoldBatchNorm:
    def test_folds_into_the_layer_before(self) -> None:
        graph = chain(conv(RNG.normal(size=(3, 2, 3, 3)), 1), norm([2, -1, 0.5], [1, 2, 3]))
        after = fold_batch_norm(graph)
        assert ops(after) == {"conv2d": 1}
        assert_same(graph, after)

    def test_folds_forward_where_no_padding_sees_the_offset(self) -> None:
        graph = chain(("relu", {}, {}), norm([2, -1], [1, 2]), conv(RNG.normal(size=(3, 2, 3, 3)), 0))
        after = fold_batch_norm(graph)
        assert ops(after) == {"relu": 1, "conv2d": 1}
        assert_same(graph, after)

    def test_becomes_depthwise_where_padding_would_see_the_offset(self) -> None:
        graph = chain(("relu", {}, {}), norm([2, -1], [1, 2]), conv(RNG.normal(size=(3, 2, 3, 3)), 1))
        after = fold_batch_norm(graph)
        assert ops(after) == {"relu": 1, "depthwise_conv2d": 1, "conv2d": 1}
        assert_same(graph, after)

    def test_leaves_a_layer_alone_that_others_read(self) -> None:
        sketch = Sketch(0)
        op, attrs, weights = conv(RNG.normal(size=(4, 4, 1, 1)))
        read = sketch.add(op, ("x",), attrs, **weights)
        op, attrs, weights = norm([1, 2, 3, 4], [0, 1, 0, 1])
        sketch.add("add", (sketch.add(op, (read,), attrs, **weights), read))
        graph = Graph("g", (Input("x", sketch.shapes["x"]),), tuple(sketch.nodes), (sketch.value,))
        after = fold_batch_norm(graph)
        np.testing.assert_array_equal(after.by_name[read].weights["weight"], graph.by_name[read].weights["weight"])
        assert_same(graph, after)

    def test_of_a_vector_that_no_layer_takes_in_becomes_depthwise(self) -> None:
        op, attrs, weights = norm([1, 2, -3, 4], [0, 1, 0, 1])
        nodes = (Node("n", op, ("x",), attrs, weights), Node("a", "relu", ("n",)), Node("y", "add", ("a", "n")))
        graph, x = Graph("g", (Input("x", (4,)),), nodes, ("y",)), RNG.normal(size=(3, 4)).astype(np.float32)
        after = clean(graph)
        assert ops(after) == {"reshape": 2, "depthwise_conv2d": 1, "relu": 1, "add": 1}
        np.testing.assert_allclose(evaluate_graph(after, x), evaluate_graph(graph, x), rtol=1e-5)
        lower(after, None)


class TestFuseActivations:
    def test_moves_in_front_of_a_pool(self) -> None:
        pool = ("max_pool2d", {"kernel": [2, 2], "stride": [2, 2], "padding": [0] * 4}, {})
        graph = chain(conv(RNG.normal(size=(3, 2, 3, 3))), pool, ("relu", {}, {}))
        after = fuse_activations(graph)
        assert [(n.op, n.attrs.get("activation")) for n in after.nodes] == [("conv2d", "relu"), ("max_pool2d", None)]
        assert after.outputs == graph.outputs
        assert_same(graph, after)

    def test_does_not_cross_an_average(self) -> None:
        graph = chain(
            conv(RNG.normal(size=(3, 2, 3, 3))), ("global_avg_pool", {"keepdims": True}, {}), ("relu", {}, {})
        )
        assert ops(fuse_activations(graph)) == ops(graph)

    def test_does_not_replace_another_activation(self) -> None:
        graph = chain(conv(RNG.normal(size=(3, 2, 3, 3)), activation="relu6"), ("relu", {}, {}))
        assert ops(fuse_activations(graph)) == ops(graph)
        assert ops(remove_identity(graph)) == {"conv2d": 1}


class TestFoldPad:
    PAD = ("pad", {"padding": [1, 0, 2, 1]}, {})
    POOL = ("max_pool2d", {"kernel": [3, 3], "stride": [2, 2], "padding": [0] * 4}, {})

    def test_into_a_convolution(self) -> None:
        graph = chain(self.PAD, conv(RNG.normal(size=(3, 2, 3, 3)), 1, stride=2))
        after = fold_pad(graph)
        assert after.nodes[0].attrs["padding"] == [2, 1, 3, 2]
        assert_same(graph, after)

    def test_into_a_max_pool_of_values_that_are_not_negative(self) -> None:
        graph = chain(("relu", {}, {}), self.PAD, self.POOL)
        assert ops(fold_pad(graph)) == {"relu": 1, "max_pool2d": 1}
        assert_same(graph, fold_pad(graph))

    def test_not_into_a_max_pool_of_others(self) -> None:
        graph = chain(self.PAD, self.POOL)
        assert fold_pad(graph).digest == graph.digest

    def test_not_into_a_max_pool_whose_window_may_miss_the_image(self) -> None:
        pool = ("max_pool2d", {"kernel": [1, 1], "stride": [1, 1], "padding": [0] * 4}, {})
        graph = chain(("relu", {}, {}), self.PAD, pool)
        assert fold_pad(graph).digest == graph.digest


class TestDeadChannels:
    def test_a_constant_is_folded_into_the_bias_of_an_unpadded_reader(self) -> None:
        first = RNG.normal(size=(4, 2, 3, 3))
        first[1] = 0
        graph = chain(conv(first, 1, "relu", bias=[0, 3, 0, 1]), conv(RNG.normal(size=(2, 4, 3, 3)), 0))
        after = dead_channels(graph)
        assert [n.weights["weight"].shape[:2] for n in after.nodes] == [(3, 2), (2, 3)]
        assert_same(graph, after)

    def test_a_constant_stays_in_front_of_a_padded_reader(self) -> None:
        first = RNG.normal(size=(4, 2, 3, 3))
        first[1] = 0
        graph = chain(conv(first, 1, "relu", bias=[0, 3, 0, 1]), conv(RNG.normal(size=(2, 4, 3, 3)), 1))
        assert dead_channels(graph).digest == graph.digest

    def test_zero_goes_in_front_of_a_padded_reader(self) -> None:
        first = RNG.normal(size=(4, 2, 3, 3))
        first[[1, 3]] = 0
        graph = chain(conv(first, 1, "relu", bias=[0, -3, 0, 0]), conv(RNG.normal(size=(2, 4, 3, 3)), 1))
        after = dead_channels(graph)
        assert after.nodes[0].weights["weight"].shape[0] == 2
        assert_same(graph, after)

    def test_death_spreads_through_depthwise_and_batch_norm(self) -> None:
        depthwise = RNG.normal(size=(4, 1, 3, 3)).astype(np.float32)
        attrs = {"stride": [1, 1], "padding": [1] * 4, "dilation": [1, 1], "activation": "relu6"}
        graph = chain(
            conv(RNG.normal(size=(4, 2, 1, 1))),
            norm([0, 1, 2, 0], [-1, 0, 1, 0]),
            ("relu", {}, {}),
            ("depthwise_conv2d", attrs, {"weight": depthwise, "bias": np.array([5, 0, 0, 9], np.float32)}),
            ("global_avg_pool", {"keepdims": False}, {}),
            ("dense", {}, {"weight": RNG.normal(size=(3, 4)).astype(np.float32)}),
        )
        after = dead_channels(graph)
        assert after.shapes["depthwise_conv2d3"] == (2, 6, 6)
        np.testing.assert_allclose(
            after.nodes[-1].weights["bias"], graph.nodes[-1].weights["weight"][:, [0, 3]] @ [5, 6], rtol=1e-5
        )
        assert_same(graph, after)

    def test_one_channel_survives(self) -> None:
        graph = chain(conv(np.zeros((4, 2, 3, 3)), bias=[1, 2, 3, 4]), conv(RNG.normal(size=(2, 4, 3, 3))))
        after = dead_channels(graph)
        assert after.nodes[0].weights["weight"].shape[0] == 1
        assert_same(graph, after)

    def test_tied_channels_die_only_together(self) -> None:
        sketch = Sketch(0)
        weight = RNG.normal(size=(4, 4, 1, 1)).astype(np.float32)
        dead = weight.copy()
        dead[2] = 0
        attrs = {"stride": [1, 1], "padding": [0] * 4, "dilation": [1, 1], "groups": 1, "activation": "none"}
        a = sketch.add("conv2d", ("x",), attrs, weight=dead)
        b = sketch.add("conv2d", ("x",), attrs, weight=weight)
        sketch.add("add", (a, b), {"activation": "none"})
        sketch.add("conv2d", (sketch.value,), attrs, weight=weight)
        graph = Graph("g", (Input("x", sketch.shapes["x"]),), tuple(sketch.nodes), (sketch.value,))
        assert dead_channels(graph).digest == graph.digest


def test_subsampling_becomes_a_stride() -> None:
    pool = ("max_pool2d", {"kernel": [1, 1], "stride": [2, 1], "padding": [0] * 4}, {})
    graph = chain(pool, conv(RNG.normal(size=(3, 2, 1, 1)), stride=2))
    after = fuse_subsampling(graph)
    assert [(n.op, n.attrs["stride"]) for n in after.nodes] == [("conv2d", [4, 2])]
    assert_same(graph, after)


def test_a_final_softmax_keeps_the_order_of_classes() -> None:
    graph = import_torch(network("vgg"), SHAPE)
    after = drop_final_softmax(graph)
    x = images(graph, 16)
    assert graph.by_name[graph.outputs[0]].op == "softmax"
    assert after.by_name[after.outputs[0]].op == "dense"
    np.testing.assert_array_equal(evaluate_graph(graph, x).argmax(1), evaluate_graph(after, x).argmax(1))


def test_an_identity_at_the_end_hands_its_name_on() -> None:
    graph = chain(conv(RNG.normal(size=(3, 2, 3, 3))), ("pad", {"padding": [0] * 4}, {}))
    after = remove_identity(graph)
    assert ops(after) == {"conv2d": 1}
    assert after.outputs == graph.outputs
    only = Graph("g", (Input("x", (2, 3, 3)),), (Node("y", "pad", ("x",), {"padding": [0] * 4}),), ("y",))
    assert remove_identity(only).outputs == ("y",)  # an input cannot be renamed


class TestFuseComposites:
    @pytest.mark.parametrize(
        ("function", "op"),
        [
            (lambda x: F.relu6(x + 3) / 6, "hard_sigmoid"),
            (lambda x: x * (F.relu6(x + 3.0) / 6.0), "hard_swish"),
            (lambda x: x * F.relu6(x + 3.0) / 6.0, "hard_swish"),
            (lambda x: F.hardtanh(3 + x, 0, 6) * (1 / 6) * x, "hard_swish"),
            (lambda x: x * torch.sigmoid(x), "silu"),
            (lambda x: torch.sigmoid(x) * x, "silu"),
            (lambda x: F.relu(x).clamp(max=6), "relu6"),
        ],
    )
    def test_finds_what_is_spelled_out(self, function: Callable[[torch.Tensor], torch.Tensor], op: str) -> None:
        graph = import_torch(Spelled(function), (4, 3, 3))
        after = fuse_composites(graph)
        assert ops(after) == {op: 1}
        assert_same(graph, after)

    @pytest.mark.parametrize(
        "function",
        [
            lambda x: F.relu6(x + 2) / 6,
            lambda x: F.relu6(x + 3) / 5,
            lambda x: x * (F.relu6(2 * x + 3) / 6),
            lambda x: (x + 1) * torch.sigmoid(x),
            lambda x: F.relu(F.relu6(x)),
        ],
    )
    def test_leaves_the_like_alone(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        graph = import_torch(Spelled(function), (4, 3, 3))
        assert not {"silu", "hard_swish"} & set(ops(fuse_composites(graph)))
        assert_same(graph, fuse_composites(graph))


class Spelled(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)
