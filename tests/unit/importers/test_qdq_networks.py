"""Whole networks, quantized by ONNX Runtime: the integer graph gives what ONNX Runtime gives, but for a step or two."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="the reference for ONNX models")

from onnx_cases import Network, compared, noise, quantize, runtime
from onnxruntime.quantization import QuantType

from thumbnet.importers.qdq import import_qdq
from thumbnet.integer import simulate


def mobile() -> Network:
    """Inverted residual, squeeze-and-excite, pools, concat, softmax; symbolic batch."""
    n = Network(["batch", 3, 24, 20])
    y = n.op("Clip", n.conv("x", 3, 8, 3, 3, strides=[2, 2], pads=[1, 1, 1, 1]), np.float32(0), np.float32(6))
    z = n.op("Relu", n.conv(y, 8, 16, 1, 1))
    z = n.op("HardSwish", n.conv(z, 16, 16, 3, 3, groups=16, pads=[1, 1, 1, 1]))
    gate = n.conv(n.op("GlobalAveragePool", z), 16, 16, 1, 1)
    z = n.op("Mul", z, n.op("Sigmoid", gate))
    y = n.op("Add", y, n.conv(z, 16, 8, 1, 1))
    largest = n.op("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    mean = n.op("AveragePool", y, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 0, 0])
    y = n.op("GlobalAveragePool", n.op("Concat", largest, mean, axis=1))
    n.op("Softmax", n.dense(n.op("Flatten", y), 16, 6), axis=-1)
    return n


def sensor() -> Network:
    """A 1-D network: strides, dilation, groups, LeakyRelu, Tanh, mean over time."""
    n = Network([1, 6, 64])
    y = n.op("Relu", n.conv("x", 6, 16, 5, strides=[2], pads=[2, 2]))
    y = n.op("LeakyRelu", n.conv(y, 16, 16, 3, pads=[2, 2], dilations=[2]), alpha=0.1)
    y = n.op("MaxPool", y, kernel_shape=[2], strides=[2])
    y = n.op("Tanh", n.conv(y, 16, 24, 3, groups=4))
    n.dense(n.op("ReduceMean", y, axes=[2], keepdims=0), 24, 5)
    return n


def perceptron() -> Network:
    n = Network(["batch", 20])
    y = n.op("Add", n.op("MatMul", "x", n.normal(20, 32, scale=0.2)), n.normal(32, scale=0.3))
    n.dense(n.op("Relu", y), 32, 4)
    return n


def flattened() -> Network:
    """A dense layer on a flattened image: its weights follow the order of the pixels."""
    n = Network([1, 3, 8, 7])
    y = n.op("Relu", n.conv("x", 3, 5, 3, 3))
    n.dense(n.op("Reshape", y, np.array([0, -1])), 5 * 30, 7)
    return n


def unet() -> Network:
    """Down, up by nearest neighbours, joined with a skip; the output is an image."""
    n = Network([1, 3, 10, 12])
    skip = n.op("Relu", n.conv("x", 3, 4, 3, 3, auto_pad="SAME_UPPER"))
    y = n.op("Relu", n.conv(skip, 4, 8, 3, 3, strides=[2, 2], auto_pad="SAME_LOWER"))
    up = n.op("Resize", y, "", np.array([1, 1, 2, 2], np.float32), mode="nearest", nearest_mode="floor")
    n.nodes[-1].attribute.append(asymmetric())
    n.conv(n.op("Concat", up, skip, axis=1), 12, 2, 1, 1)
    return n


def asymmetric() -> object:
    from onnx import helper

    return helper.make_attribute("coordinate_transformation_mode", "asymmetric")


def cifar_resnet() -> Network:
    """He's shortcut without weights: every second pixel, and zeros for the new channels."""
    n = Network([1, 3, 9, 9])
    y = n.op("Relu", n.conv("x", 3, 8, 3, 3, pads=[1] * 4))
    short = n.op("Slice", y, np.array([0, 0]), np.array([99, 99]), np.array([2, 3]), np.array([2, 2]))
    short = n.op("Pad", short, np.array([0, 4, 0, 0, 0, 4, 0, 0]))
    z = n.op("Relu", n.op("Add", n.conv(y, 8, 16, 3, 3, strides=[2, 2], pads=[1] * 4), short))
    n.dense(n.op("Flatten", n.op("GlobalAveragePool", z)), 16, 5)
    return n


def shuffled() -> Network:
    """Channels shuffled by reshape, transpose, reshape, then depthwise, split and joined again."""
    n = Network([1, 4, 6, 6])
    y = n.op("Relu", n.conv("x", 4, 16, 1, 1))
    y = n.op("Transpose", n.op("Reshape", y, np.array([1, 2, 8, 6, 6])), perm=[0, 2, 1, 3, 4])
    y = n.op("Reshape", y, np.array([1, 16, 6, 6]))
    z = n.conv(n.conv(y, 16, 16, 3, 3, groups=16, pads=[1] * 4), 16, 8, 1, 1)
    a, b = n.op("Split", y, np.array([8, 8]), count=2, axis=1)
    n.op("Concat", n.op("Add", z, n.conv(a, 8, 8, 1, 1)), n.conv(b, 8, 8, 1, 1), axis=1)
    return n


NETWORKS = {f.__name__: f for f in (mobile, sensor, perceptron, flattened, unet, cifar_resnet, shuffled)}


@pytest.mark.parametrize("activations", [QuantType.QUInt8, QuantType.QInt8], ids=["uint8", "int8"])
@pytest.mark.parametrize("per_channel", [True, False], ids=["channels", "tensor"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_equals_onnx_runtime_but_for_two_steps(name: str, per_channel: bool, activations: QuantType) -> None:
    network = NETWORKS[name]()
    data = quantize(network, per_channel=per_channel, activation_type=activations, weight_type=QuantType.QInt8)
    imported, (off,) = compared(data, noise(network, 64))
    assert off.max() <= 2
    assert (off > 1).mean() <= 0.005
    assert imported.graph.tensors[imported.graph.inputs[0]].zero_point in range(-128, 128)


def test_the_class_is_that_of_onnx_runtime() -> None:
    network = mobile()
    data, samples = quantize(network, per_channel=True), noise(network, 300)
    imported = import_qdq(data)
    (expected,) = runtime(data)(samples)
    given = simulate.run(imported.graph, imported.inputs[0].stored(samples))[imported.graph.outputs[0]]
    assert (given.reshape(300, -1).argmax(1) == expected.reshape(300, -1).argmax(1)).mean() >= 0.98


def test_several_outputs_come_in_the_order_of_the_file() -> None:
    n = Network([1, 3, 9, 7])
    y = n.conv("x", 3, 8, 3, 3)
    pooled, image = n.op("GlobalAveragePool", y), n.conv(y, 8, 2, 1, 1)
    imported, off = compared(quantize(n, pooled, image), noise(n, 16))
    assert [p.shape for p in imported.outputs] == [(1, 8, 1, 1), (1, 2, 7, 5)]
    assert max(o.max() for o in off) <= 1
