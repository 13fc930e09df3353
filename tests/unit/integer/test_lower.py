"""Lowering: the integer network is the float network up to rounding, and TFLM agrees with every byte of it."""

from __future__ import annotations

from typing import Any

import networks
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_cases import assert_equals_tflm
from random_graphs import graphs

from thumbnet.errors import ModelError, UnsupportedOpError
from thumbnet.graph.evaluate import evaluate_values
from thumbnet.graph.graph import Graph, Input, Node
from thumbnet.graph.passes import clean
from thumbnet.integer.arithmetic import activation_qparams
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.lower import KEEPS_QUANTIZATION, lower
from thumbnet.integer.simulate import run, trace

Ranges = dict[str, tuple[float, float]]


def inputs_of(graph: Graph, seed: int = 0, count: int = 24) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, *graph.inputs[0].shape)).astype(np.float32))


def observed(graph: Graph, x: torch.Tensor) -> tuple[dict[str, np.ndarray], Ranges]:
    """Float values, and their ranges, of every name."""
    name = graph.inputs[0].name
    values = {name: x.numpy()} | {k: v.numpy() for k, v in evaluate_values(graph, {name: x}).items()}
    return values, {k: (float(v.min()), float(v.max())) for k, v in values.items()}


def stored(ig: IntegerGraph, x: torch.Tensor) -> np.ndarray:
    """The float input in the integer graph's layout and quantization."""
    t = ig.tensors[ig.inputs[0]]
    nhwc = x.numpy().transpose(0, 2, 3, 1) if x.ndim == 4 else x.numpy()
    return np.clip(np.rint(nhwc / t.scale) + t.zero_point, -128, 127).astype(np.int8)


def real(ig: IntegerGraph, name: str, y: np.ndarray) -> np.ndarray:
    """Stored values as real numbers, channels first."""
    t = ig.tensors[name]
    value = t.scale * (y.astype(np.float64) - t.zero_point)
    return value.transpose(0, 3, 1, 2) if value.ndim == 4 else value


def lowered(*nodes: Node, shape: tuple[int, ...] = (4, 6, 6)) -> tuple[Graph, IntegerGraph, torch.Tensor]:
    graph = Graph("case", (Input("x", shape),), nodes, (nodes[-1].name,))
    graph.validate()
    x = inputs_of(graph)
    _, ranges = observed(graph, x)
    return graph, lower(graph, ranges), x


def assert_close(graph: Graph, ig: IntegerGraph, x: torch.Tensor, steps: float = 1.6) -> None:
    """The output of the integer network is within so many of its steps of the float network's output.

    The float network sees the input as the integer network does, so that only one operation's rounding remains.
    """
    q = stored(ig, x)
    seen = torch.from_numpy(np.ascontiguousarray(real(ig, graph.inputs[0].name, q))).float()
    expected = evaluate_values(graph, {graph.inputs[0].name: seen})[graph.outputs[0]].numpy()
    (output,) = ig.outputs
    got = real(ig, output, run(ig, q)[output])
    assert np.abs(got - expected).max() <= steps * ig.tensors[output].scale


def weights(seed: int, *shape: int) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def convolution(name: str, source: str, outputs: int, inputs: int, **attrs: Any) -> Node:
    a = {"stride": [1, 1], "padding": [1, 1, 1, 1], "dilation": [1, 1], "groups": 1, "activation": "none"} | attrs
    w = weights(outputs, outputs, inputs // a["groups"], 3, 3)
    return Node(name, "conv2d", (source,), a, {"weight": w, "bias": weights(9, outputs, 1)[:, 0]})


SINGLE = {
    "conv": (convolution("y", "x", 5, 4, stride=[2, 1], activation="relu"), 2.5),
    "grouped": (convolution("y", "x", 6, 4, groups=2), 2.5),
    "depthwise": (
        Node(
            "y",
            "depthwise_conv2d",
            ("x",),
            {"stride": [1, 1], "padding": [1, 1, 1, 1], "dilation": [1, 1], "activation": "relu6"},
            {"weight": weights(1, 8, 1, 3, 3)},
        ),
        2.5,
    ),
    "batch_norm": (
        Node(
            "y",
            "batch_norm",
            ("x",),
            {"eps": 1e-3},
            {
                "weight": weights(1, 4, 1)[:, 0],
                "bias": weights(2, 4, 1)[:, 0],
                "mean": weights(3, 4, 1)[:, 0],
                "var": np.ones(4, np.float32),
            },
        ),
        1.6,
    ),
    "add": (Node("y", "add", ("x", "x"), {"activation": "relu"}), 1.1),
    "sub": (Node("y", "sub", ("x", "x"), {}), 1.1),
    "mul": (Node("y", "mul", ("x", "x"), {}), 1.1),
    "max_pool": (Node("y", "max_pool2d", ("x",), {"kernel": [3, 3], "stride": [2, 2], "padding": [1, 1, 1, 1]}), 0.01),
    "avg_pool": (Node("y", "avg_pool2d", ("x",), {"kernel": [2, 2], "stride": [2, 2], "padding": [0] * 4}), 0.6),
    "avg_pool_with_padding": (
        Node(
            "y",
            "avg_pool2d",
            ("x",),
            {"kernel": [3, 3], "stride": [2, 2], "padding": [1] * 4, "count_include_pad": True},
        ),
        0.6,
    ),
    "global_avg_pool": (Node("y", "global_avg_pool", ("x",), {"keepdims": True}), 1.1),
    "relu": (Node("y", "relu", ("x",)), 1.1),
    "relu6": (Node("y", "relu6", ("x",)), 1.1),
    "sigmoid": (Node("y", "sigmoid", ("x",)), 1.1),
    "tanh": (Node("y", "tanh", ("x",)), 1.1),
    "hard_sigmoid": (Node("y", "hard_sigmoid", ("x",)), 1.1),
    "hard_swish": (Node("y", "hard_swish", ("x",)), 1.6),
    "silu": (Node("y", "silu", ("x",)), 2.6),
    "leaky_relu": (Node("y", "leaky_relu", ("x",), {"alpha": 0.1}), 1.1),
    "softmax": (Node("y", "softmax", ("x",)), 1.6),
    "pad": (Node("y", "pad", ("x",), {"padding": [0, 1, 2, 1]}), 0.01),
    "resize": (Node("y", "resize", ("x",), {"size": [12, 9]}), 0.01),
    "slice": (Node("y", "slice", ("x",), {"axis": 0, "start": 1, "stop": 3}), 0.01),
    "slice_rows": (Node("y", "slice", ("x",), {"axis": 1, "start": 1, "stop": 3}), 0.01),
    "concat": (Node("y", "concat", ("x", "x"), {"axis": 0}), 0.01),
    "concat_columns": (Node("y", "concat", ("x", "x"), {"axis": 2}), 0.01),
    "conv_transpose": (
        Node(
            "y",
            "conv_transpose2d",
            ("x",),
            {"stride": [2, 2], "padding": [0, 1, -1, 0], "activation": "relu"},
            {"weight": weights(5, 5, 4, 3, 3), "bias": weights(9, 5, 1)[:, 0]},
        ),
        2.5,
    ),
    "elu": (Node("y", "elu", ("x",)), 1.1),
    "abs": (Node("y", "abs", ("x",)), 1.1),
    "clip": (Node("y", "clip", ("x",), {"low": -1.0, "high": 0.5}), 1.1),
    "prelu": (Node("y", "prelu", ("x",), {}, {"slope": weights(3, 4, 1)[:, 0]}), 1.6),
    "maximum": (Node("y", "maximum", ("x", "x"), {}), 0.01),
    "mean": (Node("y", "mean", ("x",), {"axes": [1], "keepdims": False}), 1.1),
    "mean_of_channels": (Node("y", "mean", ("x",), {"axes": [0], "keepdims": True}), 1.1),
    "sum": (Node("y", "sum", ("x",), {"axes": [2], "keepdims": True}), 1.1),
    "reduce_max": (Node("y", "reduce_max", ("x",), {"axes": [1, 2], "keepdims": False}), 0.01),
    "reduce_min": (Node("y", "reduce_min", ("x",), {"axes": [0], "keepdims": False}), 0.01),
    "reflect": (Node("y", "pad", ("x",), {"padding": [2, 1, 0, 3], "mode": "reflect"}), 0.01),
    "bilinear": (Node("y", "resize", ("x",), {"size": [12, 9], "mode": "bilinear", "half_pixel_centers": True}), 1.1),
    "aligned": (Node("y", "resize", ("x",), {"size": [11, 9], "mode": "bilinear", "align_corners": True}), 1.1),
    "stretched": (Node("y", "resize", ("x",), {"size": [12, 9], "mode": "bilinear"}), 1.1),
    "half_pixels": (Node("y", "resize", ("x",), {"size": [11, 9], "half_pixel_centers": True}), 0.01),
    "flatten": (Node("y", "flatten", ("x",)), 0.01),
    "channels_last": (Node("y", "transpose", ("x",), {"perm": [1, 2, 0]}), 0.01),
    "rows": (Node("y", "reshape", ("x",), {"shape": [8, 18]}), 0.01),
    "torn": (Node("y", "reshape", ("x",), {"shape": [9, 16]}), 0.01),
}


@pytest.mark.parametrize("name", SINGLE)
def test_one_operation_keeps_its_function(name: str) -> None:
    node, steps = SINGLE[name]
    graph, ig, x = lowered(node)
    assert_close(graph, ig, x, steps)
    if not name.startswith("avg_pool_"):
        assert [n.op in KEEPS_QUANTIZATION for n in graph.nodes] == [
            ig.tensors["y"].scale == ig.tensors["x"].scale and ig.tensors["y"].zero_point == ig.tensors["x"].zero_point
        ]
    assert_equals_tflm(ig)


def test_flattening_reorders_the_dense_weights() -> None:
    w = weights(3, 7, 4 * 6 * 6)
    flat, y = Node("f", "flatten", ("x",)), Node("y", "dense", ("f",), {"activation": "none"}, {"weight": w})
    graph, ig, x = lowered(flat, y)
    assert_close(graph, ig, x, 4)
    scale = np.float32(ig.by_name["y"].weight_scale[0])
    channels_last = w.reshape(7, 4, 6, 6).transpose(0, 2, 3, 1).reshape(7, -1)
    assert np.abs(ig.by_name["y"].arrays["weight"] * scale - channels_last).max() <= scale * 0.51


def test_elementwise_operations_pass_the_flattened_order_on() -> None:
    w = weights(3, 7, 4 * 6 * 6)
    nodes = (
        Node("f", "flatten", ("x",)),
        Node("r", "relu", ("f",)),
        Node("s", "add", ("r", "f"), {"activation": "none"}),
        Node("y", "dense", ("s",), {"activation": "none"}, {"weight": w}),
    )
    graph, ig, x = lowered(*nodes)
    assert_close(graph, ig, x, 6)
    assert_equals_tflm(ig)


TO_ROWS = (Node("t", "transpose", ("x",), {"perm": [1, 2, 0]}), Node("r", "reshape", ("t",), {"shape": [36, 4]}))
CHAINS = {
    # anchors of a detector: nothing is moved, since images lie channels last already
    "rows": ((*TO_ROWS, Node("y", "relu", ("r",))), 0),
    "rows_joined": (
        (*TO_ROWS, Node("s", "softmax", ("r",), {"axis": 1}), Node("y", "concat", ("s", "r"), {"axis": 0})),
        0,
    ),
    "shuffle": (
        (
            Node("a", "reshape", ("x",), {"shape": [2, 2, 6, 6]}),
            Node("b", "transpose", ("a",), {"perm": [1, 0, 2, 3]}),
            Node("c", "reshape", ("b",), {"shape": [4, 6, 6]}),
            convolution("y", "c", 3, 4),
        ),
        1,
    ),
    "signal": (
        (
            Node("a", "reshape", ("x",), {"shape": [4, 36]}),
            Node("b", "relu", ("a",)),
            Node("c", "reshape", ("b",), {"shape": [4, 1, 36]}),
            convolution("y", "c", 3, 4),
        ),
        0,
    ),
    "attention": (
        (Node("m", "mean", ("x",), {"axes": [0], "keepdims": True}), Node("y", "mul", ("m", "x"), {})),
        0,
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_the_order_of_numbers_is_followed(name: str) -> None:
    nodes, transposes = CHAINS[name]
    graph, ig, x = lowered(*nodes)
    assert sum(n.op == "transpose" for n in ig.nodes) == transposes
    assert_close(graph, ig, x, 2.6)
    assert_equals_tflm(ig)


def test_a_difference_may_begin_with_one_number_per_channel() -> None:
    graph, ig, x = lowered(Node("p", "global_avg_pool", ("x",), {"keepdims": True}), Node("y", "sub", ("p", "x"), {}))
    assert ig.by_name["y"].inputs == ("p", "x")
    assert_close(graph, ig, x, 2.5)
    assert_equals_tflm(ig)


def test_a_squeeze_excite_gate_may_stand_on_either_side() -> None:
    for order in (("x", "g"), ("g", "x")):
        pool, gate = Node("p", "global_avg_pool", ("x",), {"keepdims": True}), Node("g", "sigmoid", ("p",))
        graph, ig, x = lowered(pool, gate, Node("y", "mul", order, {}))
        assert ig.by_name["y"].inputs == ("x", "g")
        assert_close(graph, ig, x, 2.5)
        assert_equals_tflm(ig)


def test_a_concat_gives_its_quantization_to_its_inputs() -> None:
    a, b = convolution("a", "x", 3, 4), convolution("b", "x", 5, 4, activation="relu6")
    graph, ig, x = lowered(a, b, Node("y", "concat", ("a", "b"), {"axis": 0}))
    assert [n.op for n in ig.nodes] == ["conv2d", "conv2d", "concat"]
    assert len({(ig.tensors[v].scale, ig.tensors[v].zero_point) for v in ("a", "b", "y")}) == 1
    assert_close(graph, ig, x, 2.5)
    assert_equals_tflm(ig)


def test_a_concat_requantizes_an_input_that_comes_twice_once() -> None:
    clip = Node("c", "clip", ("x",), {"low": -0.75, "high": 1.5})
    graph, ig, x = lowered(clip, Node("y", "concat", ("c", "x", "c"), {"axis": 0}))
    assert [n.op for n in ig.nodes] == ["requantize", "requantize", "concat"]
    assert_close(graph, ig, x, 1.6)
    assert_equals_tflm(ig)


def test_a_concat_requantizes_inputs_of_prescribed_quantization() -> None:
    graph, ig, x = lowered(
        Node("s", "sigmoid", ("x",)), convolution("b", "x", 5, 4), Node("y", "concat", ("s", "b"), {"axis": 0})
    )
    assert [n.op for n in ig.nodes] == ["lut", "conv2d", "requantize", "concat"]
    assert_close(graph, ig, x, 2.5)
    assert_equals_tflm(ig)


def test_a_fixed_input_keeps_its_quantization_through_pads_and_pools() -> None:
    pad = Node("p", "pad", ("x",), {"padding": [0, 0, 1, 1]})
    graph = Graph("case", (Input("x", (4, 6, 6)),), (pad, convolution("y", "p", 3, 4)), ("y",))
    ranges = {"x": (-9.0, 9.0), "p": (-9.0, 9.0), "y": (-3.0, 3.0)}
    ig = lower(graph, ranges, fixed={"x": (1 / 127.5, -1)})
    for v in ("x", "p"):
        assert (ig.tensors[v].scale, ig.tensors[v].zero_point) == (float(np.float32(1 / 127.5)), -1)
    assert_equals_tflm(ig)


def test_what_keeps_quantization_cannot_have_another_one_fixed() -> None:
    pad = Node("p", "pad", ("x",), {"padding": [0, 0, 1, 1]})
    graph = Graph("case", (Input("x", (4, 6, 6)),), (pad,), ("p",))
    with pytest.raises(ModelError, match="Fix that of 'x'"):
        lower(graph, {"x": (0, 1), "p": (0, 1)}, fixed={"p": (0.1, 0)})


@pytest.mark.parametrize("span", [0.0, 1e-30, 1e-7])
def test_outputs_that_are_always_near_zero_stay_within_32_bits(span: float) -> None:
    """Calibration saw next to nothing, then the extremes come: no overflow, and TFLM does not abort."""
    nodes = (
        convolution("c", "x", 5, 4),
        Node("a", "add", ("c", "c"), {"activation": "none"}),
        Node("m", "mul", ("a", "c"), {"activation": "none"}),
        Node("h", "hard_swish", ("m",)),
        Node("l", "leaky_relu", ("h",), {"alpha": 0.1}),
        Node("r", "relu", ("l",)),
        Node("g", "global_avg_pool", ("r",), {"keepdims": False}),
        Node("y", "dense", ("g",), {"activation": "none"}, {"weight": weights(4, 3, 5)}),
    )
    graph = Graph("case", (Input("x", (4, 6, 6)),), nodes, ("y",))
    for big in ("x", "c", "a", "m"):
        ranges = dict.fromkeys(graph.by_name, (-span, span)) | {"x": (-4.0, 4.0), big: (-4.0, 4.0)}
        assert_equals_tflm(lower(graph, ranges))


def test_a_dead_channel_keeps_its_bias() -> None:
    """Zero weights, and weights so small that the bias would not fit 32 bits at their scale."""
    node = convolution("y", "x", 4, 4)
    w, bias = node.weights["weight"].copy(), np.array([0.7, -0.4, 1.3, 0.0], np.float32)
    w[0], w[1], w[2] = 0, w[1] * 1e-20, w[2] * 1e-11
    graph, ig, x = lowered(node.with_weights(weight=w, bias=bias))
    assert_close(graph, ig, x, 1.6)
    assert_equals_tflm(ig)


def writable(node: Node) -> bool:
    """Whether TFLite has a spelling for the node whatever its shapes."""
    return node.op != "avg_pool2d" or bool(node.attrs.get("count_include_pad")) or not any(node.attrs["padding"])


@given(graphs(), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_random_networks_equal_tflm_and_resemble_the_float_network(graph: Graph, seed: int) -> None:
    cleaned = clean(graph)
    x = inputs_of(cleaned, seed)
    values, ranges = observed(cleaned, x)
    ig = lower(cleaned, ranges)
    if all(writable(n) for n in cleaned.nodes):
        assert_equals_tflm(ig, seed)
    expected = values[cleaned.outputs[0]]
    got = real(ig, cleaned.outputs[0], run(ig, stored(ig, x))[cleaned.outputs[0]])
    low, high = ranges[cleaned.outputs[0]]
    assert np.abs(got - expected).mean() <= 0.05 * (max(high, 0) - min(low, 0)) + 1e-4


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_networks_of_the_field(name: str) -> None:
    from thumbnet.importers import load

    graph = clean(load(networks.network(name), input_shape=networks.SHAPE))
    x = inputs_of(graph)
    values, ranges = observed(graph, x)
    ig = lower(graph, ranges)
    assert_equals_tflm(ig)
    got = real(ig, graph.outputs[0], run(ig, stored(ig, x))[graph.outputs[0]])
    expected = values[graph.outputs[0]]
    assert np.abs(got - expected).max() <= 0.15 * (expected.max() - expected.min())


@given(graphs())
@settings(max_examples=25, deadline=None)
def test_structural_lowering_has_the_true_shapes(graph: Graph) -> None:
    cleaned = clean(graph)
    _, ranges = observed(cleaned, inputs_of(cleaned, 0, 2))
    true = lower(cleaned, ranges)
    structural = lower(cleaned, None)
    assert [(n.name, n.op, n.inputs) for n in structural.nodes] == [(n.name, n.op, n.inputs) for n in true.nodes]
    assert {k: t.shape for k, t in structural.tensors.items()} == {k: t.shape for k, t in true.tensors.items()}
    for a, b in zip(structural.nodes, true.nodes, strict=True):
        assert {k: (v.shape, v.dtype) for k, v in a.arrays.items()} == {
            k: (v.shape, v.dtype) for k, v in b.arrays.items()
        }


def test_lowering_is_deterministic_and_survives_saving(tmp_path: Any) -> None:
    _, first, _ = lowered(convolution("y", "x", 5, 4))
    _, second, _ = lowered(convolution("y", "x", 5, 4))
    assert first.digest == second.digest
    first.save(tmp_path / "g.json")
    loaded = IntegerGraph.load(tmp_path / "g.json")
    assert loaded.digest == first.digest
    x = np.random.default_rng(0).integers(-128, 128, (3, 6, 6, 4)).astype(np.int8)
    for name, values in trace(first, x).items():
        np.testing.assert_array_equal(values, trace(loaded, x)[name])


def test_an_unobserved_range_is_named() -> None:
    graph = Graph("case", (Input("x", (4, 6, 6)),), (convolution("y", "x", 3, 4),), ("y",))
    with pytest.raises(ModelError, match="range of 'y' was not observed"):
        lower(graph, {"x": (0, 1)})
    with pytest.raises(ModelError, match="range of 'y' is not finite"):
        lower(graph, {"x": (0, 1), "y": (0, float("inf"))})


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((Node("s", "softmax", ("x",), {"axis": 1}),), "over channels"),
        ((Node("m", "mean", ("x",), {"axes": [0, 1]}),), "not over both"),
        ((Node("m", "reduce_max", ("x",), {"axes": [2]}), Node("y", "log_softmax", ("m",))), "no integer form"),
    ],
)
def test_what_has_no_integer_form_is_named(nodes: tuple[Node, ...], message: str) -> None:
    with pytest.raises(UnsupportedOpError, match=message):
        lowered(*nodes)


def test_ranges_become_the_scales_that_training_used() -> None:
    graph, ig, x = lowered(convolution("y", "x", 5, 4))
    _, ranges = observed(graph, x)
    for v in ("x", "y"):
        assert (ig.tensors[v].scale, ig.tensors[v].zero_point) == activation_qparams(*ranges[v])


def test_ranges_that_hard_swish_cannot_have_are_refused() -> None:
    graph = Graph("case", (Input("x", (4,)),), (Node("y", "hard_swish", ("x",)),), ("y",))
    with pytest.raises(ModelError, match="damaged network"):
        lower(graph, {"x": (-1e-3, 1e-3), "y": (-0.3, 6.0)})
