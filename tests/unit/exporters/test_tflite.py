"""The TFLite file: paddings, quantization of constants, alignment, equal bytes; and how TFLM's refusals arrive."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from integer_cases import Draw, assert_equals_tflm, graph_of, stimuli

from thumbnet.errors import ToolchainError, UnsupportedOpError
from thumbnet.exporters.tflite import run_tflm, to_tflite
from thumbnet.integer import build
from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor
from thumbnet.integer.simulate import run

pytest.importorskip("tflite_micro", reason="tflite-micro has wheels for Linux only")


def convolution(
    size: int, kernel: int, stride: int, padding: list[int], op: str = "conv2d", activation: str = "relu6"
) -> IntegerGraph:
    d = Draw(7)
    x = d.tensor("x", (size, size, 4), 0.02, 9)
    outputs = (size + padding[0] + padding[2] - kernel) // stride + 1
    y = d.tensor("y", (outputs, outputs, 8), 0.05, -100)
    make = build.conv2d if op == "conv2d" else build.depthwise_conv2d
    weight = d.weight(8, kernel, kernel, 4) if op == "conv2d" else d.weight(kernel, kernel, 8)
    node = make("y", x, y, weight, d.bias(8), stride=[stride] * 2, padding=padding, activation=activation)
    return graph_of([x, y], [x], [node])


def parsed(graph: IntegerGraph) -> tuple[Any, Any, list[str]]:
    """Model, subgraph, and the names of its operators in order."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(to_tflite(graph), 0))
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}
    sub = model.subgraphs[0]
    return model, sub, [names[model.operatorCodes[o.opcodeIndex].builtinCode] for o in sub.operators]


@pytest.mark.parametrize("op", ["conv2d", "depthwise_conv2d"])
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "expected"),
    [
        (8, 3, 1, [0, 0, 0, 0], "VALID"),
        (8, 3, 1, [1, 1, 1, 1], "SAME"),
        (7, 3, 2, [1, 1, 1, 1], "SAME"),  # odd sizes: PyTorch's padding is TFLite's
        (8, 3, 2, [1, 1, 1, 1], "PAD"),  # even sizes: it is not
        (8, 3, 2, [0, 0, 1, 1], "SAME"),
        (8, 1, 2, [0, 0, 0, 0], "VALID"),
        (8, 3, 1, [2, 2, 2, 2], "PAD"),
        (8, 3, 1, [1, 0, 1, 2], "PAD"),
        (9, 5, 2, [2, 2, 2, 2], "SAME"),
    ],
)
def test_paddings(op: str, size: int, kernel: int, stride: int, padding: list[int], expected: str) -> None:
    graph = convolution(size, kernel, stride, padding, op)
    _, sub, names = parsed(graph)
    assert names == (["PAD"] if expected == "PAD" else []) + [op.upper().replace("2D", "_2D")]
    kind = sub.operators[-1].builtinOptions.padding
    assert kind == (schema.Padding.SAME if expected == "SAME" else schema.Padding.VALID)
    assert_equals_tflm(graph)


@pytest.mark.parametrize("activation", ["none", "relu", "relu6"])
def test_fused_activations(activation: str) -> None:
    graph = convolution(6, 3, 1, [1, 1, 1, 1], activation=activation)
    _, sub, _ = parsed(graph)
    fused = sub.operators[0].builtinOptions.fusedActivationFunction
    assert fused == getattr(schema.ActivationFunctionType, activation.upper())


def test_a_clamp_without_activation_is_refused() -> None:
    d = Draw(1)
    x, y = d.tensor("x", (4,)), d.tensor("y", (4,), 0.1, 0)
    node = build.dense("y", x, y, d.weight(4, 4), None)
    odd = IntegerNode("y", "dense", ("x",), {}, node.arrays, (-17, 99), node.weight_scale)
    with pytest.raises(UnsupportedOpError, match="clamps to"):
        to_tflite(graph_of([x, y], [x], [odd]))


@pytest.mark.parametrize("op", ["conv2d", "depthwise_conv2d"])
def test_constants_carry_their_quantization(op: str) -> None:
    graph = convolution(6, 3, 1, [1, 1, 1, 1], op)
    _, sub, _ = parsed(graph)
    tensors = {t.name.decode(): t for t in sub.tensors}
    weight, bias = tensors["y/weight"], tensors["y/bias"]
    scales = np.array(graph.by_name["y"].weight_scale, np.float32)
    np.testing.assert_array_equal(weight.quantization.scale, scales)
    assert weight.quantization.quantizedDimension == (0 if op == "conv2d" else 3)
    np.testing.assert_array_equal(bias.quantization.scale, np.float32(graph.tensors["x"].scale) * scales)
    assert not np.any(bias.quantization.zeroPoint)
    assert bias.type == schema.TensorType.INT32


def test_dense_weights_have_one_scale() -> None:
    d = Draw(3)
    x, y = d.tensor("x", (6,), 0.1), d.tensor("y", (4,), 0.3)
    _, sub, _ = parsed(graph_of([x, y], [x], [build.dense("y", x, y, d.weight(4, 6), d.bias(4))]))
    assert [len(t.quantization.scale) for t in sub.tensors] == [1, 1, 1, 1]


def test_constants_are_aligned_and_bytes_are_equal() -> None:
    graph = convolution(8, 3, 2, [1, 1, 1, 1])
    data = to_tflite(graph)
    assert data == to_tflite(graph)
    assert data[4:8] == b"TFL3"
    model = schema.Model.GetRootAs(data, 0)
    sizes = [0]
    for k in range(model.BuffersLength()):
        buffer = model.Buffers(k)
        if buffer.DataLength():
            vector = buffer._tab.Vector(buffer._tab.Offset(4))
            assert vector % 16 == 0
            sizes.append(buffer.DataLength())
    node = graph.by_name["y"]
    assert sorted(sizes) == sorted([0, 32, node.arrays["weight"].nbytes, node.arrays["bias"].nbytes])


def pool(op: str, padding: list[int]) -> IntegerGraph:
    x = Draw(4).tensor("x", (8, 8, 3))
    y = QTensor("y", (4, 4, 3), x.scale, x.zero_point)
    return graph_of([x, y], [x], [build.pool("y", op, x, (3, 3), (2, 2), padding)])


def test_max_pools_pad_with_the_lowest_value() -> None:
    graph = pool("max_pool2d", [1, 1, 1, 1])
    assert parsed(graph)[2] == ["PADV2", "MAX_POOL_2D"]
    assert_equals_tflm(graph)


def test_averages_that_tflite_cannot_pad_are_refused() -> None:
    assert_equals_tflm(pool("avg_pool2d", [0, 0, 1, 1]))
    with pytest.raises(UnsupportedOpError, match="SAME padding"):
        to_tflite(pool("avg_pool2d", [1, 1, 1, 1]))


def test_relu6_whose_bound_is_within_reach_takes_two_operators() -> None:
    d = Draw(2)
    x, y = d.tensor("x", (50,), 0.1, 0), d.tensor("y", (50,), 0.08, -100)
    graph = graph_of([x, y], [x], [build.relu("y", x, y, activation="relu6")])
    assert parsed(graph)[2] == ["RELU", "RELU6"]
    assert assert_equals_tflm(graph).max() == -100 + 75


def test_several_inputs_and_outputs() -> None:
    d = Draw(8)
    a, b = d.tensor("a", (3, 3, 2), 0.1), d.tensor("b", (3, 3, 2), 0.2)
    s, p = d.tensor("s", (3, 3, 2), 0.2), d.tensor("p", (3, 3, 2), 0.5)
    nodes = (build.add("s", a, b, s), build.multiply("p", a, b, p))
    graph = IntegerGraph("two", {t.name: t for t in (a, b, s, p)}, ("a", "b"), nodes, ("p", "s"))
    feeds = stimuli(graph, 0)
    got = run_tflm(to_tflite(graph), [feeds["a"], feeds["b"]])
    simulated = run(graph, feeds)
    assert isinstance(got, tuple)
    for name, values in zip(("p", "s"), got, strict=True):
        np.testing.assert_array_equal(values, simulated[name])


def test_an_unknown_operation_is_refused() -> None:
    x = Draw(1).tensor("x", (4,))
    with pytest.raises(UnsupportedOpError, match="'warp'"):
        to_tflite(graph_of([x], [x], [IntegerNode("x", "warp", ("x",))]))


@pytest.mark.parametrize("classes", [4, 1000])
def test_tflm_that_aborts_does_not_take_us_along(classes: int) -> None:
    """TFLM ends its process when the exponentials of a softmax sum up to 512 or more."""
    x, y = QTensor("x", (classes,), 0.1, 0), QTensor("y", (classes,), 1 / 256, -128)
    graph = graph_of([x, y], [x], [build.softmax("y", x)])
    values = np.zeros((1, classes), np.int8)
    if classes == 4:
        np.testing.assert_array_equal(run_tflm(to_tflite(graph), values), run(graph, values)["y"])
    else:
        with pytest.raises(ToolchainError, match="cannot run the file"):
            run_tflm(to_tflite(graph), values)


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "tflite_micro" else find(name, *a)
    )
    with pytest.raises(ToolchainError, match=r"pip install 'thumbnet\[tflm\]'"):
        run_tflm(b"", np.zeros((1, 1), np.int8))


# --- spellings that others than TFLM take


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shapes", [((3, 4, 5), (60,)), ((7,), (1, 1, 7)), ((2, 2, 3), (2, 2, 3)), ((9,), (9,))])
def test_bytes_under_another_scale_are_no_reshape(seed: int, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    d = Draw(seed)
    x, y = d.tensor("x", shapes[0]), d.tensor("y", shapes[1])
    graph = graph_of([x, y], [x], [IntegerNode("y", "reshape", ("x",), {"shape": list(shapes[1])})])
    assert_equals_tflm(graph, seed, random=20)
    _, sub, names = parsed(graph)
    assert names.count("DEPTHWISE_CONV_2D") == 1
    for operator, name in zip(sub.operators, names, strict=True):
        if name == "RESHAPE":
            ends = [sub.tensors[i].quantization for i in (operator.inputs[0], operator.outputs[0])]
            assert ends[0].scale == ends[1].scale
            assert ends[0].zeroPoint == ends[1].zeroPoint


@pytest.mark.parametrize(
    ("kernel", "cut", "size", "expected"),
    [
        (4, 1, 12, ["TRANSPOSE_CONV"]),  # SAME
        (2, 0, 12, ["TRANSPOSE_CONV"]),
        (3, 1, 11, ["TRANSPOSE_CONV", "SLICE"]),
        (3, 1, 13, ["PAD", "TRANSPOSE_CONV", "SLICE"]),  # one row below the last window
    ],
)
def test_transposed_convolutions(kernel: int, cut: int, size: int, expected: list[str]) -> None:
    d = Draw(kernel)
    x, y = d.tensor("x", (6, 6, 4), 0.1), d.tensor("y", (size, size, 3), 0.1)
    options = {"stride": (2, 2), "padding": [cut, cut]}
    node = build.conv_transpose2d("y", x, y, d.weight(3, kernel, kernel, 4), d.bias(3), **options)
    graph = graph_of([x, y], [x], [node])
    assert parsed(graph)[2] == expected
    assert_equals_tflm(graph)


def test_max_pools_pad_with_the_zero_point_where_that_is_the_lowest_value() -> None:
    for zero_point, expected in ((-128, "PAD"), (3, "PADV2")):
        x = QTensor("x", (6, 6, 2), 0.1, zero_point)
        y = QTensor("y", (3, 3, 2), 0.1, zero_point)
        graph = graph_of([x, y], [x], [build.pool("y", "max_pool2d", x, [3, 3], [2, 2], [1, 1, 1, 1])])
        assert parsed(graph)[2] == [expected, "MAX_POOL_2D"]
        assert_equals_tflm(graph)
