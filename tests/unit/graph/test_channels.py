"""Channels that live and die together, on the topologies of real networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.networks import NETWORKS, SHAPE, network
from tests.random_graphs import Sketch, graphs
from thumbnet.errors import ModelError
from thumbnet.graph.channels import ChannelGroup, channel_groups, keep_channels
from thumbnet.graph.evaluate import evaluate_graph
from thumbnet.graph.graph import Graph, Input
from thumbnet.graph.ops import op_of
from thumbnet.graph.passes import clean
from thumbnet.importers.torch import import_torch


def imported(name: str) -> Graph:
    return import_torch(network(name), SHAPE)


def by_id(graph: Graph) -> dict[str, ChannelGroup]:
    return {g.id: g for g in channel_groups(graph)}


def masked_outputs(graph: Graph, kept: dict[str, list[int]], x: torch.Tensor) -> torch.Tensor:
    """The whole graph, run node by node with the removed channels of every value set to zero."""
    groups = by_id(graph)
    masks = {v: np.ones(s[0], np.float32) for v, s in graph.shapes.items()}
    for name, choice in kept.items():
        for value, classes in groups[name].values.items():
            masks[value][np.isin(classes, [k for k in range(groups[name].size) if k not in choice])] = 0
    values = {graph.inputs[0].name: x}
    for node in graph.nodes:
        weights = {k: torch.from_numpy(np.array(w)) for k, w in node.weights.items()}
        y = op_of(node).forward(node, weights, [values[v] for v in node.inputs])
        values[node.name] = y * torch.from_numpy(masks[node.name]).reshape(-1, *[1] * (y.ndim - 2))
    return values[graph.outputs[0]]


def random_choice(graph: Graph, rng: np.random.Generator) -> dict[str, list[int]]:
    kept = {}
    for group in channel_groups(graph):
        if not group.pinned:
            count = int(rng.integers(1, group.size + 1))
            kept[group.id] = sorted(rng.choice(group.size, count, replace=False).tolist())
    return kept


def assert_slicing_is_masking(graph: Graph, seed: int) -> None:
    rng = np.random.default_rng(seed)
    kept = random_choice(graph, rng)
    try:
        small = keep_channels(graph, kept)
    except ModelError:
        assert any(n.op == "slice" for n in graph.nodes)  # one that lost all its channels
        return
    small.validate()
    x = rng.normal(size=(2, *graph.inputs[0].shape)).astype(np.float32)
    expected = masked_outputs(graph, kept, torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(evaluate_graph(small, x), expected, rtol=1e-4, atol=1e-4)
    assert small.shapes[small.outputs[0]] == graph.shapes[graph.outputs[0]]
    if any(len(k) < by_id(graph)[g].size for g, k in kept.items()):
        assert small.parameters < graph.parameters


@pytest.mark.parametrize("cleaned", [False, True], ids=["imported", "cleaned"])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("seed", range(3))
def test_slicing_equals_masking(name: str, cleaned: bool, seed: int) -> None:
    graph = imported(name)
    assert_slicing_is_masking(clean(graph) if cleaned else graph, seed)


@settings(max_examples=100, deadline=None)
@given(graph=graphs(), seed=st.integers(0, 1000))
def test_slicing_equals_masking_on_any_graph(graph: Graph, seed: int) -> None:
    assert_slicing_is_masking(graph, seed)


def test_channels_that_nobody_uses_can_go_without_a_trace() -> None:
    graph = clean(imported("vgg"))
    rng = np.random.default_rng(0)
    unused = [1, 4, 5]
    nodes = []
    for node in graph.nodes:
        if node.inputs and node.op == "conv2d" and node.weights["weight"].shape[1] == 8:
            weight = node.weights["weight"].copy()
            weight[:, unused] = 0
            node = node.with_weights(weight=weight)
        nodes.append(node)
    graph = graph.with_nodes(nodes)
    small = keep_channels(graph, {"features.0.0": [k for k in range(8) if k not in unused]})
    x = rng.normal(size=(4, *SHAPE)).astype(np.float32)
    np.testing.assert_allclose(evaluate_graph(small, x), evaluate_graph(graph, x), rtol=1e-5, atol=1e-5)
    assert small.shapes["features.0.0"][0] == 5


def test_every_class_is_numbered_once() -> None:
    for name in NETWORKS:
        graph = imported(name)
        owner = {v: np.zeros(s[0], int) for v, s in graph.shapes.items()}
        for group in channel_groups(graph):
            for value, classes in group.values.items():
                owner[value] += classes >= 0
            seen = np.unique(np.concatenate([c[c >= 0] for c in group.values.values()]))
            np.testing.assert_array_equal(seen, np.arange(group.size))
        assert all((count == 1).all() for count in owner.values()), name


def test_inputs_and_outputs_are_pinned() -> None:
    groups = by_id(imported("vgg"))
    assert {g for g, group in groups.items() if group.pinned} == {"x", "classifier.4"}


def test_a_residual_ties_its_branches() -> None:
    groups = by_id(clean(imported("resnet8b")))
    tied = groups["stem.0"]
    assert set(tied.producers) == {"stem.0", "stages.0.second"}
    assert {"stages.0.add", "stem.0"} <= set(tied.values)
    assert set(groups["stages.1.second"].producers) == {"stages.1.second", "stages.1.shortcut.0"}
    assert groups["stages.0.first.0"].producers == ("stages.0.first.0",)


def test_a_depthwise_convolution_belongs_to_its_input() -> None:
    groups = by_id(clean(imported("mobilenet_v2")))
    expanded = groups["blocks.0.layers.0"]
    assert expanded.producers == ("blocks.0.layers.0",)
    assert "blocks.0.layers.3" in expanded.values
    # Two depthwise outputs per image channel: pinned with the image.
    assert groups["x"].pinned
    np.testing.assert_array_equal(groups["x"].values["stem.0"], [0, 0, 1, 1, 2, 2])


def test_squeeze_excite_ties_the_scale_to_what_it_scales() -> None:
    groups = by_id(imported("squeeze_excite"))
    assert set(groups["stem.0"].producers) == {"stem.0", "excite"}
    assert groups["squeeze"].producers == ("squeeze",)


def test_concatenated_parts_keep_their_own_groups() -> None:
    groups = by_id(imported("unet"))
    joined = next(v for v in groups["bottom.0"].values if v.startswith("concat"))
    np.testing.assert_array_equal(groups["bottom.0"].values[joined], [*range(10), *[-1] * 6])
    np.testing.assert_array_equal(groups["down.0"].values[joined], [*[-1] * 10, *range(6)])


def test_the_groups_of_a_convolution_stay_equally_wide() -> None:
    groups = by_id(imported("grouped"))
    assert groups["stem.0"].size == 3  # 12 channels in 4 groups
    np.testing.assert_array_equal(groups["grouped.0"].values["grouped.0"], np.tile(range(4), 4))


def test_flatten_repeats_a_channel_for_each_pixel() -> None:
    group = by_id(imported("vgg"))["features.2.0"]
    np.testing.assert_array_equal(group.values["classifier.0"], np.repeat(range(12), 16))


def test_partly_tied_channels_make_groups_of_their_own() -> None:
    """Four of six channels take part in an addition: they go only with their partners, the others alone."""
    sketch = Sketch(1)
    attrs = {"stride": [1, 1], "padding": [0] * 4, "dilation": [1, 1], "groups": 1, "activation": "none"}
    a = sketch.add("conv2d", ("x",), attrs, weight=sketch.weight(6, 4, 1, 1))
    b = sketch.add("conv2d", ("x",), attrs, weight=sketch.weight(4, 4, 1, 1))
    part = sketch.add("slice", (a,), {"axis": 0, "start": 0, "stop": 4})
    sketch.add("concat", (sketch.add("add", (part, b)), a), {"axis": 0})
    sketch.add("conv2d", (sketch.value,), attrs, weight=sketch.weight(2, 10, 1, 1))
    graph = Graph("g", (Input("x", sketch.shapes["x"]),), tuple(sketch.nodes), (sketch.value,))
    groups = by_id(graph)
    assert [(groups[g].size, groups[g].producers) for g in (a, f"{a}#2")] == [(4, (a, b)), (2, (a,))]
    for seed in range(5):
        assert_slicing_is_masking(graph, seed)


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"nowhere": [0]}, "no channel group 'nowhere'"),
        ({"x": [0]}, "interface"),
        ({"features.0.0": []}, "No channel of"),
        ({"features.0.0": [8]}, "cannot be kept"),
        ({"features.0.0": [-1]}, "cannot be kept"),
    ],
)
def test_bad_choices_are_refused(kept: dict[str, list[int]], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        keep_channels(clean(imported("vgg")), kept)


def test_keeping_everything_changes_nothing() -> None:
    graph = imported("resnet8a")
    assert keep_channels(graph, {g.id: range(g.size) for g in channel_groups(graph)}) is graph
