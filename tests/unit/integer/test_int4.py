"""Weights of 4 bits: lowered, simulated, kept by passes, saved, and in and out of TFLite; TFLM computes the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_cases import Draw, assert_equals_tflm, graph_of
from training_cases import residual_network

from thumbnet.errors import ModelError
from thumbnet.exporters.tflite import to_tflite
from thumbnet.importers.tflite import import_tflite
from thumbnet.integer import build
from thumbnet.integer.arithmetic import pack_int4
from thumbnet.integer.graph import IntegerGraph, IntegerNode
from thumbnet.integer.lower import lower
from thumbnet.integer.passes import lossless, validate
from thumbnet.integer.quantization import with_weight_bits

pytest.importorskip("tflite_micro", reason="tflite-micro has wheels for Linux only")

BITS = {"stem": 4, "spatial": 4, "project": 8, "out": 4}
RANGES = dict.fromkeys(("x", *(n.name for n in residual_network().nodes)), (-2.0, 3.0))


def with_every_weight(node: IntegerNode, d: Draw) -> IntegerNode:
    """Weights from −8 to 7, as other tools' files may have them."""
    weight = d.rng.integers(-8, 8, node.arrays["weight"].shape).astype(np.int8)
    return replace(node, arrays={**node.arrays, "weight": weight})


def layer(op: str, seed: int) -> IntegerGraph:
    """One layer of any shape; odd numbers of weights, groups and channel multipliers among them."""
    d = Draw(seed)
    k, groups = (d.integer(1, 3), d.integer(1, 3)), d.choice(1, 1, 2)
    inputs = groups * d.integer(1, 5)
    if op == "dense":
        x, y = d.tensor("x", (d.integer(1, 40),)), d.tensor("y", (d.integer(1, 6),))
        node = build.dense("y", x, y, d.weight(y.shape[0], x.shape[0]), d.bias(y.shape[0], x.scale), weight_bits=4)
        return graph_of([x, y], [x], [with_every_weight(node, d)])
    outputs = groups * d.integer(1, 4) if op == "conv2d" else inputs * d.integer(1, 2)
    x = d.tensor("x", (d.integer(3, 7), d.integer(3, 7), inputs))
    y = d.tensor("y", (x.shape[0] - k[0] + 1, x.shape[1] - k[1] + 1, outputs), x.scale * 20)
    bias = d.bias(outputs, x.scale)
    if op == "conv2d":
        node = build.conv2d("y", x, y, d.weight(outputs, *k, inputs // groups), bias, groups=groups, weight_bits=4)
    else:
        node = build.depthwise_conv2d("y", x, y, d.weight(*k, outputs), bias, weight_bits=4)
    return graph_of([x, y], [x], [with_every_weight(node, d)])


@given(st.sampled_from(["conv2d", "depthwise_conv2d", "dense"]), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_tflm_computes_the_same_and_files_come_back_as_they_went(op: str, seed: int) -> None:
    ig = layer(op, seed)
    assert_equals_tflm(ig, seed)
    back = import_tflite(to_tflite(ig)).graph
    (node,) = (n for n in back.nodes if "weight" in n.arrays)
    assert node.weight_bits == 4
    for key, array in ig.nodes[0].arrays.items():
        np.testing.assert_array_equal(node.arrays[key].reshape(array.shape), array)


def test_two_weights_take_one_byte_of_the_file() -> None:
    weights = np.array([[1, -8, 7], [-1, 0, 3], [2, 2, 2]], np.int8)
    ig = layer("dense", 0)
    x, y = (replace(t, shape=(3,)) for t in ig.tensors.values())
    node = replace(
        ig.nodes[0], arrays={k: np.resize(a, 3) for k, a in ig.nodes[0].arrays.items()} | {"weight": weights}
    )
    ig = graph_of([x, y], [x], [node])
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(to_tflite(ig), 0))
    (tensor,) = (t for t in model.subgraphs[0].tensors if t.name == b"y/weight")
    assert tensor.type == schema.TensorType.INT4
    assert bytes(model.buffers[tensor.buffer].data) == bytes([0x81, 0xF7, 0x30, 0x22, 0x02])
    assert ig.weight_bytes == 5
    assert model.operatorCodes[0].version == 10


@given(st.lists(st.integers(-8, 7), max_size=9))
def test_packing_puts_the_first_value_low(values: list[int]) -> None:
    packed = pack_int4(np.array(values, np.int8))
    assert len(packed) == -(-len(values) // 2)
    digits = [d for byte in packed.tolist() for d in (byte & 15, byte >> 4)]
    assert [d - 16 * (d > 7) for d in digits][: len(values)] == values


def test_each_layer_has_the_bits_it_was_lowered_with(tmp_path: Path) -> None:
    ig = lower(with_weight_bits(residual_network(), BITS), RANGES)
    validate(ig)
    eight = lower(residual_network(), RANGES)
    for node, other in zip(ig.nodes, eight.nodes, strict=True):
        if "weight" in node.arrays:
            bits = BITS.get(node.name, 8)
            largest = np.abs(node.arrays["weight"].astype(int)).max()
            assert (node.weight_bits, largest) == (bits, {4: 7, 8: 127}[bits])
            assert node.weight_bytes == -(-node.arrays["weight"].size * bits // 8)
            # the same weights, on a coarser grid
            ratio = np.array(node.weight_scale) / other.weight_scale
            np.testing.assert_allclose(ratio, 127 / 7 if bits == 4 else 1, rtol=1e-6)
    assert ig.weight_bytes < eight.weight_bytes
    ig.save(tmp_path / "g.json")
    loaded = IntegerGraph.load(tmp_path / "g.json")
    assert loaded.digest == ig.digest
    assert loaded.weight_bytes == ig.weight_bytes
    assert lossless(loaded).by_name["stem"].weight_bits == 4
    assert_equals_tflm(ig)


@pytest.mark.parametrize(
    ("bits", "message"),
    [({"nothing": 4}, "'nothing' has no weights"), ({"add": 4}, "'add' has no weights"), ({"stem": 3}, "have 3 bits")],
)
def test_bits_that_make_no_sense_are_refused(bits: dict[str, int], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        with_weight_bits(residual_network(), bits)
