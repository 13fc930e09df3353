"""Several inputs as one: the same bytes come out."""

from __future__ import annotations

import numpy as np

from thumbnet.graph.graph import Graph, Input, Node
from thumbnet.integer import simulate
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.lower import lower
from thumbnet.integer.passes.join_inputs import join_inputs, join_ports, joined_inputs, separate_inputs
from thumbnet.integer.passes.validate import validate


def two_inputs() -> IntegerGraph:
    rng = np.random.default_rng(0)
    weights = {"weight": rng.normal(size=(4, 6)).astype(np.float32), "bias": np.zeros(4, np.float32)}
    nodes = (
        Node("pool", "global_avg_pool", ("image",), {"keepdims": False}),
        Node("all", "concat", ("pool", "row"), {"axis": 0}),
        Node("out", "dense", ("all",), {"activation": "none"}, weights),
        Node("side", "relu", ("row",)),
    )
    graph = Graph("two", (Input("image", (3, 4, 4)), Input("row", (3,))), nodes, ("out", "side"))
    graph.validate()
    ranges = dict.fromkeys(graph.shapes, (-1.0, 2.0)) | {"row": (-3.0, 5.0)}
    return lower(graph, ranges, fixed={"image": (0.01, 3)})


def test_joined_ports_compute_the_same() -> None:
    ig, rng = two_inputs(), np.random.default_rng(1)
    whole = join_ports(ig)
    validate(whole)
    assert len(whole.inputs) == len(whole.outputs) == 1
    feeds = {v: rng.integers(-128, 128, (9, *ig.tensors[v].shape)).astype(np.int8) for v in ig.inputs}
    joined = joined_inputs(ig, feeds)
    assert joined.shape == (9, 4 * 4 * 3 + 3)
    apart, (together,) = simulate.run(ig, feeds), simulate.run(whole, joined).values()
    np.testing.assert_array_equal(together, np.concatenate([apart[v].reshape(9, -1) for v in ig.outputs], axis=1))
    for name, values in separate_inputs(ig, joined).items():
        np.testing.assert_array_equal(values, feeds[name])


def test_quantizations_stay_those_of_the_inputs() -> None:
    ig = two_inputs()
    whole = join_inputs(ig)
    for name in ig.inputs:
        assert whole.tensors[name] == ig.tensors[name]


def test_one_input_and_one_output_stay_as_they_are() -> None:
    ig = two_inputs()
    single = join_ports(ig)
    assert join_ports(single) is single
