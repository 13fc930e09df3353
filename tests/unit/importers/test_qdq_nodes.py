"""Single operations between QuantizeLinear and DequantizeLinear, in every spelling that exporters use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="the reference for ONNX models")

import onnx
from onnx import TensorProto, helper
from onnx_cases import Network, Pair, compared

from thumbnet.errors import ModelError, UnsupportedOpError
from thumbnet.importers.qdq import QdqModel, import_qdq

IN, OUT = (0.05, 120), (0.04, 131)
IMAGE = (1, 8, 6, 5)
Build = Callable[[Network, str], Any]


def around(build: Build, shape: tuple[int, ...] = IMAGE, out: Pair = OUT, opset: int = 17) -> bytes:
    """A graph whose input and outputs are quantized around the nodes that `build` adds."""
    n = Network(shape, opset)
    made = build(n, n.quantized("x", IN))
    outputs = [n.quantized(y, out) for y in (made if isinstance(made, list) else [made])]
    return bytes(n.model(*outputs).SerializeToString())


def steps(build: Build, shape: tuple[int, ...] = IMAGE, out: Pair = OUT, opset: int = 17) -> int:
    """How far the integer graph is off ONNX Runtime, over all values that can be stored."""
    return int(max(off.max() for off in compared(around(build, shape, out, opset))[1]))


def weights(n: Network, *shape: int) -> np.ndarray:
    return n.rng.integers(-127, 128, shape)


def channel_scales(n: Network, count: int) -> np.ndarray:
    return n.rng.uniform(0.001, 0.003, count).astype(np.float32)


# --- tables and moves: exact

EXACT: dict[str, Build] = {
    "relu": lambda n, x: n.op("Relu", x),
    "clip": lambda n, x: n.op("Clip", x, np.float32(-1), np.float32(2.5)),
    "clip above": lambda n, x: n.op("Clip", x, "", np.float32(2)),
    "leaky": lambda n, x: n.op("LeakyRelu", x, alpha=0.3),
    "prelu": lambda n, x: n.op("PRelu", x, np.float32([0.2])),
    "elu": lambda n, x: n.op("Elu", x, alpha=0.7),
    "sigmoid": lambda n, x: n.op("Sigmoid", x),
    "tanh": lambda n, x: n.op("Tanh", x),
    "hard sigmoid": lambda n, x: n.op("HardSigmoid", x, alpha=1 / 6, beta=0.5),
    "hard swish": lambda n, x: n.op("HardSwish", x),
    "swish": lambda n, x: n.op("Mul", x, n.op("Sigmoid", x)),
    "swish by hand": lambda n, x: n.op(
        "Div", n.op("Mul", x, n.op("Clip", n.op("Add", x, np.float32(3)), np.float32(0), np.float32(6))), np.float32(6)
    ),
    "softplus": lambda n, x: n.op("Softplus", x),
    "erf": lambda n, x: n.op("Erf", x),
    "number first": lambda n, x: n.op("Sub", np.float32(1), x),
    "square": lambda n, x: n.op("Pow", x, np.float32(2)),
    "number of one channel": lambda n, x: n.op("Mul", x, np.full((1, 8, 1, 1), 0.3, np.float32)),
    "maximum": lambda n, x: n.op("Max", n.op("Min", x, np.float32(1.5)), np.float32(-0.5)),
    "requantized": lambda n, x: n.op("Identity", x),
    "dropout": lambda n, x: n.op("Dropout", x),
    "transposed twice": lambda n, x: n.op("Transpose", n.op("Transpose", x, perm=[0, 2, 3, 1]), perm=[0, 3, 1, 2]),
    "largest": lambda n, x: n.op("MaxPool", x, kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1]),
    "largest, rounded up": lambda n, x: n.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    "largest of all": lambda n, x: n.op("GlobalMaxPool", x),
    "cut": lambda n, x: n.op("Slice", x, np.array([1, -3]), np.array([3, 99]), np.array([2, 3])),
    "cut by steps": lambda n, x: n.op("Slice", x, np.array([1]), np.array([6]), np.array([2]), np.array([2])),
    "channels": lambda n, x: n.op("Slice", x, np.array([2]), np.array([7]), np.array([1])),
    "split": lambda n, x: n.op("Split", x, np.array([3, 5]), axis=1, count=2),
    "padded": lambda n, x: n.op("Pad", x, np.array([0, 0, 1, 0, 0, 0, 2, 3])),
    "padded channels": lambda n, x: n.op("Pad", x, np.array([0, 1, 0, 0, 0, 2, 0, 0])),
    "joined": lambda n, x: n.op("Concat", x, n.op("Relu", x), axis=2),
    "joined channels": lambda n, x: n.op("Concat", n.op("Sigmoid", x), x, x, axis=1),
    "resized": lambda n, x: n.op("Resize", x, "", np.float32([1, 1, 2, 3]), mode="nearest"),
}


@pytest.mark.parametrize("name", EXACT)
def test_tables_and_moves_give_the_very_bytes(name: str) -> None:
    assert steps(EXACT[name]) == 0


def test_bounds_behind_a_convolution_become_its_clamp() -> None:
    def build(n: Network, x: str) -> str:
        y = n.op("Conv", x, n.weights(weights(n, 4, 8, 3, 3), channel_scales(n, 4), 0))
        return str(n.op("Min", n.op("Clip", y, np.float32(-1.5), np.float32(3)), np.float32(2.2)))

    imported, (off,) = compared(around(build))
    assert off.max() <= 1
    assert [node.op for node in imported.graph.nodes] == ["conv2d"]
    assert imported.graph.nodes[0].clamp == (131 - 128 - 38, 131 - 128 + 55)


# --- sums, products, pools, means, layers: one step


def convolution(n: Network, x: str, *shape: int, inputs: int = 8, **attributes: Any) -> str:
    groups = inputs // shape[1]
    weight = n.weights(weights(n, *shape), channel_scales(n, shape[0]), 0)
    return str(n.op("Conv", x, weight, n.normal(shape[0]), group=groups, **attributes))


NEAR: dict[str, Build] = {
    "add": lambda n, x: n.op("Add", n.quantized(n.op("Tanh", x), (0.008, 128)), x),
    "sub": lambda n, x: n.op("Sub", n.quantized(n.op("Tanh", x), (0.008, 128)), x),
    "mul": lambda n, x: n.op("Mul", n.quantized(n.op("Tanh", x), (0.008, 128)), x),
    "gate": lambda n, x: n.op("Mul", n.quantized(n.op("GlobalMaxPool", x), (0.01, 128)), x),
    "per channel": lambda n, x: n.op("Mul", x, n.normal(1, 8, 1, 1)),
    "offset": lambda n, x: n.op("Sub", n.normal(8, 1, 1), x),
    "divided": lambda n, x: n.op("Div", x, n.normal(8, 1, 1)),
    "mean": lambda n, x: n.op("GlobalAveragePool", x),
    "mean of axes": lambda n, x: n.op("ReduceMean", x, axes=[-1, 2], keepdims=0),
    "mean pool": lambda n, x: n.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]),
    "mean pool, padded": lambda n, x: n.op("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    "mean pool, zeros counted": lambda n, x: n.op(
        "AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1
    ),
    "mean pool, rounded up": lambda n, x: n.op(
        "AveragePool", x, kernel_shape=[2, 2], strides=[2, 2], pads=[1, 0, 0, 1], ceil_mode=1
    ),
    "convolution": lambda n, x: convolution(n, x, 4, 8, 3, 3, pads=[1, 0, 1, 1], strides=[2, 1]),
    "dilated": lambda n, x: convolution(n, x, 4, 8, 3, 2, dilations=[2, 3], auto_pad="NOTSET", pads=[0, 1, 0, 2]),
    "groups": lambda n, x: convolution(n, x, 6, 4, 3, 3, auto_pad="SAME_UPPER"),
    "depthwise": lambda n, x: convolution(n, x, 8, 1, 3, 3, auto_pad="SAME_LOWER", strides=[2, 2]),
    "multiplier": lambda n, x: convolution(n, x, 16, 1, 3, 3, auto_pad="VALID"),
    "normalized": lambda n, x: n.op(
        "BatchNormalization", convolution(n, x, 4, 8, 1, 1), *n.normal(3, 4), np.abs(n.normal(4))
    ),
    "normalized alone": lambda n, x: n.op("BatchNormalization", x, *n.normal(3, 8), np.abs(n.normal(8))),
    "bias added": lambda n, x: n.op("Add", convolution(n, x, 4, 8, 1, 1), n.normal(4, 1, 1)),
    "softmax of channels": lambda n, x: n.op("Softmax", x, axis=1),
}


@pytest.mark.parametrize("name", NEAR)
def test_what_computes_is_at_most_a_step_off(name: str) -> None:
    out = (1 / 256, 0) if "softmax" in name else OUT
    assert steps(NEAR[name], out=out) <= 1


@pytest.mark.parametrize("scales", ["tensor", "channels"])
def test_dense_layers_in_their_spellings(scales: str) -> None:
    def scale(n: Network, axis: int) -> Any:
        return channel_scales(n, 6) if scales == "channels" else np.float32(0.002)

    spellings: list[Build] = [
        lambda n, x: n.op("Gemm", x, n.weights(weights(n, 6, 12), scale(n, 0), 0), n.normal(6), transB=1),
        lambda n, x: n.op("Gemm", x, n.weights(weights(n, 12, 6), scale(n, 1), 1), n.normal(1, 6), alpha=0.5, beta=2.0),
        lambda n, x: n.op("Add", n.op("MatMul", x, n.weights(weights(n, 12, 6), scale(n, 1), 1)), n.normal(6)),
        lambda n, x: n.op("MatMul", x, n.op("Transpose", n.weights(weights(n, 6, 12), scale(n, 0), 0), perm=[1, 0])),
    ]
    assert max(steps(build, (1, 12)) for build in spellings) <= 1
    assert steps(spellings[2], (1, 7, 12)) <= 1  # several rows


def test_a_dense_layer_reads_a_flattened_image_in_its_order() -> None:
    def build(n: Network, x: str) -> str:
        flat = n.op("Flatten", n.op("Unsqueeze", n.op("Squeeze", x, np.array([0])), np.array([0])))
        return str(n.op("Gemm", flat, n.weights(weights(n, 5, 240), channel_scales(n, 5), 0), transB=1))

    assert steps(build) <= 1


# --- how exporters spell quantization


def conv_with(weight: Callable[[Network], str], bias: Callable[[Network], Any] | None = None) -> Build:
    def build(n: Network, x: str) -> str:
        return str(n.op("Conv", x, weight(n), *([bias(n)] if bias else [])))

    return build


def test_weights_may_be_floats_that_are_quantized_in_the_graph() -> None:
    def weight(n: Network) -> str:
        scales, zeros = channel_scales(n, 4), np.zeros(4, np.int8)
        q = n.op("QuantizeLinear", n.normal(4, 8, 3, 3, scale=0.1), scales, zeros, axis=0)
        narrow = n.op("Clip", q, np.int8(-100), np.int8(100))
        return str(n.op("DequantizeLinear", narrow, scales, zeros, axis=0))

    assert steps(conv_with(weight)) <= 1


def test_uint8_weights_are_taken_where_their_zero_point_can_be_folded() -> None:
    def weight(low: int, high: int, zero_point: int) -> Callable[[Network], str]:
        def make(n: Network) -> str:
            values = n.rng.integers(low, high, (4, 8, 1, 1)).astype(np.uint8)
            return str(n.op("DequantizeLinear", values, np.float32(0.002), np.uint8(zero_point)))

        return make

    assert steps(conv_with(weight(0, 256, 128))) <= 1
    assert steps(conv_with(weight(10, 200, 90))) <= 1
    with pytest.raises(UnsupportedOpError, match=r"zero point do not fit int8.*QInt8"):
        import_qdq(around(conv_with(weight(0, 256, 90))))


def test_a_bias_may_be_int32_or_float() -> None:
    scale = channel_scales(Network(IMAGE), 4)

    def weight(n: Network) -> str:
        return n.weights(weights(n, 4, 8, 1, 1), scale, 0)

    def bias(n: Network) -> Any:
        values, steps = n.rng.integers(-3000, 3000, 4).astype(np.int32), (np.float32(IN[0]) * scale).astype(np.float32)
        return n.op("DequantizeLinear", values, steps, np.zeros(4, np.int32), axis=0)

    imported, (off,) = compared(around(conv_with(weight, bias)))
    values = Network(IMAGE)
    weights(values, 4, 8, 1, 1)
    assert np.array_equal(imported.graph.nodes[0].arrays["bias"], values.rng.integers(-3000, 3000, 4))
    assert off.max() <= 1
    assert steps(conv_with(weight, lambda n: n.normal(4))) <= 1


def test_a_bias_has_no_zero_point() -> None:
    def bias(n: Network) -> Any:
        return n.op("DequantizeLinear", np.zeros(4, np.int32), np.float32(0.0001), np.int32(7))

    with pytest.raises(ModelError, match="zero points other than 0"):
        import_qdq(around(conv_with(lambda n: n.weights(weights(n, 4, 8, 1, 1), np.float32(0.002), 0), bias)))


def test_a_bias_too_large_for_its_scale_makes_the_weights_coarser() -> None:
    def build(n: Network, x: str) -> str:
        weight = n.weights(weights(n, 4, 8, 1, 1), np.float32([1e-3, 1e-12, 1e-3, 1e-3]), 0)
        return str(n.op("Conv", x, weight, np.float32([0.3, -2, 0, 1])))

    assert steps(build) <= 1


@pytest.mark.parametrize("opset", [11, 13, 19, 21, 23])
def test_opsets_differ_in_what_is_an_attribute(opset: int) -> None:
    def build(n: Network, x: str) -> Any:
        def either(kind: str, y: str, since: int, name: str, values: list[int], **more: Any) -> Any:
            if opset < since:
                return n.op(kind, y, **{name: values}, **more)
            return n.op(kind, y, np.array(values), **more)

        a, _ = either("Split", x, 13, "split", [6, 2], axis=1, count=2)
        a = n.op("Relu", n.op("Conv", a, n.weights(weights(n, 4, 6, 3, 3), np.float32(0.002), 0)))
        a = n.quantized(a, OUT)
        a = either("ReduceMean", a, 18, "axes", [2, 3], keepdims=1)
        a = either("Squeeze", n.quantized(a, (0.02, 90)), 13, "axes", [3])
        return n.op("Softmax", either("Squeeze", a, 13, "axes", [2]))

    assert steps(build, out=(1 / 256, 0), opset=opset) <= 2  # three operations, each a step


def test_constants_may_be_nodes_and_shapes_computed() -> None:
    def build(n: Network, x: str) -> Any:
        tensor = onnx.numpy_helper.from_array(weights(n, 5, 240).astype(np.int8))
        scale = n.op("Constant", value_float=0.002)
        weight = n.op("DequantizeLinear", n.op("Constant", value=tensor), scale, np.int8(0))
        batch = n.op("Unsqueeze", n.op("Gather", n.op("Shape", x), np.array(0)), np.array([0]))
        flat = n.op("Reshape", x, n.op("Concat", batch, np.array([-1]), axis=0))
        return n.op("Gemm", flat, weight, transB=1)

    n = Network(["N", *IMAGE[1:]])
    model = n.model(n.quantized(build(n, n.quantized("x", IN)), OUT))
    assert compared(model.SerializeToString())[1][0].max() <= 1


def test_numbers_may_be_in_typed_fields() -> None:
    model = onnx.load_from_string(around(lambda n, x: convolution(n, x, 4, 8, 3, 3)))
    kept = [onnx.numpy_helper.to_array(t) for t in model.graph.initializer]
    for tensor, values in zip(model.graph.initializer, kept, strict=True):
        made = helper.make_tensor(tensor.name, tensor.data_type, values.shape, values.reshape(-1).tolist())
        tensor.CopyFrom(made)
    assert compared(model.SerializeToString())[1][0].max() <= 1


# --- what is outside


def imported_from(
    dtype: Any, output_type: int, start: Callable[[Network], str], end: Callable[[Network, str], str]
) -> QdqModel:
    n = Network(IMAGE, dtype=dtype)
    model = n.model(end(n, convolution(n, start(n), 4, 8, 3, 3)), output_type=output_type)
    imported, (off,) = compared(model.SerializeToString())
    assert off.max() <= 1
    return imported


def test_inputs_and_outputs_may_be_integers() -> None:
    def start(n: Network) -> str:
        return str(n.op("DequantizeLinear", "x", np.float32(0.05), np.asarray(7, n.dtype)))

    def end(n: Network, y: str) -> str:
        return str(n.op("QuantizeLinear", y, np.float32(0.03), np.uint8(100)))

    for dtype in (np.uint8, np.int8):
        imported = imported_from(dtype, TensorProto.UINT8, start, end)
        assert imported.graph.tensors["x"].zero_point == (7 - 128 if dtype is np.uint8 else 7)
        assert imported.outputs[0].dtype == "uint8"


def test_a_picture_may_be_converted_to_floats() -> None:
    def start(n: Network) -> str:
        return n.quantized(n.op("Mul", n.op("Cast", "x", to=TensorProto.FLOAT), np.float32(1 / 255)), (1 / 255, 0))

    imported = imported_from(np.uint8, TensorProto.FLOAT, start, lambda n, y: n.quantized(y, OUT))
    assert (imported.graph.tensors["x"].scale, imported.graph.tensors["x"].zero_point) == (1.0, -128)


def test_channels_come_last_unless_the_file_has_them_last() -> None:
    def build(n: Network, x: str) -> Any:
        return convolution(n, x, 4, 8, 3, 3)

    first = import_qdq(around(build))
    assert first.graph.tensors["x"].shape == (6, 5, 8)
    assert first.inputs[0].note == "'x' is [1, 8, 6, 5] in the ONNX file; here its channels come last."
    last = import_qdq(
        around(lambda n, x: n.op("Transpose", build(n, n.op("Transpose", x, perm=[0, 3, 1, 2])), perm=[0, 2, 3, 1]),
               (1, 6, 5, 8))
    )  # fmt: skip
    assert last.graph.tensors["x"].shape == (6, 5, 8)
    assert last.inputs[0].note == ""
    assert [n.op for n in last.graph.nodes] == [n.op for n in first.graph.nodes] == ["conv2d"]


def test_activations_at_the_outputs_need_no_quantization_of_their_own() -> None:
    for kind in ("Sigmoid", "Tanh", "Softmax"):
        n = Network([1, 12])
        y = n.op("Gemm", n.quantized("x", IN), n.weights(weights(n, 5, 12), np.float32(0.002), 0), transB=1)
        model = n.model(n.op(kind, n.quantized(y, OUT)))
        imported, (off,) = compared(model.SerializeToString())
        assert off.max() <= 1
        assert imported.graph.tensors[imported.graph.outputs[0]].scale < 0.01


# --- what is refused

REFUSED: dict[str, tuple[Build, str]] = {
    "LayerNormalization": (lambda n, x: n.op("LayerNormalization", x, n.normal(5), axis=-1), "BatchNormalization"),
    "custom": (lambda n, x: n.op("Relu", x, domain="ai.example"), "ai.example.Relu"),
    "bilinear": (lambda n, x: n.op("Resize", x, "", np.float32([1, 1, 2, 2]), mode="linear"), "nearest"),
    "channels resized by a little": (
        lambda n, x: n.op("Resize", x, "", np.float32([1, 1.01, 2, 2]), mode="nearest"),
        "height and width",
    ),
    "pad with ones": (lambda n, x: n.op("Pad", x, np.array([0] * 7 + [1]), np.float32(1)), "Pad with zeros"),
    "softmax over the width": (
        lambda n, x: n.op("Softmax", n.quantized(convolution(n, x, 4, 8, 1, 1), OUT), axis=3),
        "one order of axes",
    ),
    "attention": (lambda n, x: n.op("MatMul", x, n.op("Transpose", x, perm=[0, 1, 3, 2])), "attention"),
    "float weights": (lambda n, x: n.op("Conv", x, n.normal(4, 8, 1, 1)), "quantized to int8"),
    "slopes by channel": (lambda n, x: n.op("PRelu", x, n.normal(8, 1, 1)), "LeakyRelu"),
    "matrix": (lambda n, x: n.op("Add", x, n.normal(6, 5)), "one per channel"),
    "16 bits": (lambda n, x: n.quantized(x, (0.01, 0), np.int16), "int8 or uint8"),
    "by channel": (
        lambda n, x: n.op("DequantizeLinear", n.op("QuantizeLinear", x, np.ones(8, np.float32), np.zeros(8, np.int8)),
                          np.ones(8, np.float32), np.zeros(8, np.int8)),
        "one scale per tensor",
    ),
    "dense to image": (
        lambda n, x: convolution(
            n, n.op("Reshape", n.quantized(n.op("GlobalMaxPool", x), IN), np.array([1, 2, 2, 2])), 4, 2, 1, 1, inputs=2
        ),
        "one order of axes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_integer_form_is_refused_with_a_way_out(name: str) -> None:
    build, says = REFUSED[name]
    with pytest.raises(UnsupportedOpError, match=says):
        import_qdq(around(build))


def test_an_output_in_another_order_is_refused() -> None:
    with pytest.raises(ModelError, match="leave out the Flatten"):
        import_qdq(around(lambda n, x: n.op("Flatten", convolution(n, x, 4, 8, 1, 1))))


def test_a_flag_is_0_or_1() -> None:
    with pytest.raises(ModelError, match="'ceil_mode' = 2"):
        import_qdq(around(lambda n, x: n.op("MaxPool", x, kernel_shape=[2, 2], ceil_mode=2)))


def test_sizes_beyond_any_microcontroller_are_refused() -> None:
    with pytest.raises(ModelError, match="more than any microcontroller"):
        import_qdq(around(lambda n, x: n.op("Pad", x, np.array([0, 0, 4096, 4096, 0, 0, 4096, 4096]))))


def test_two_operations_in_floats_are_refused() -> None:
    def build(n: Network, x: str) -> Any:
        return convolution(n, convolution(n, x, 4, 8, 1, 1), 2, 4, 1, 1, inputs=4)

    with pytest.raises(ModelError, match=r"not quantized.*nodes_to_exclude"):
        import_qdq(around(build))


@pytest.mark.parametrize(("shape", "says"), [([2, 8, 6, 5], "batch"), ([1, 8, "height", 5], "'?', 5"), ([], "shape")])
def test_shapes_that_change_are_refused(shape: list[int | str], says: str) -> None:
    n = Network(shape)
    n.quantized(n.op("Relu", n.quantized("x", IN)), OUT)
    with pytest.raises(ModelError, match=says.replace("?", r"\?")):
        import_qdq(n.model().SerializeToString())


def test_other_kinds_of_models_are_told_apart() -> None:
    for kind, says in (
        ("Relu", "float model; compile takes quantized"),
        ("DynamicQuantizeLinear", "dynamically"),
        ("QLinearConv", "QOperator"),
    ):
        n = Network(IMAGE)
        n.op(kind, "x")
        with pytest.raises(ModelError, match=says):
            import_qdq(n.model().SerializeToString())
