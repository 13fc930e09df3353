"""Quantization-aware training computes what the lowered network computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training_cases import conv, preprocessing, residual_network, training_images

from thumbnet.data import Augmentation
from thumbnet.graph.graph import Graph, Input, Node
from thumbnet.integer import simulate
from thumbnet.integer.lower import lower
from thumbnet.integer.quantization import assign, with_weight_bits
from thumbnet.training.distill import CrossEntropy
from thumbnet.training.loop import Schedule, train
from thumbnet.training.quantize_aware import QuantizedModule, calibrate


def calibrated(graph: Graph | None = None) -> QuantizedModule:
    module = QuantizedModule(graph or residual_network(), {"x": preprocessing().input_qparams()})
    calibrate(module, [training_images().normalized(slice(0, 64))])
    return module


MIXED = {"stem": 4, "spatial": 4, "down": 4, "out": 4}


@pytest.mark.parametrize(("network", "bits", "steps"), [("residual", {}, 2), ("residual", MIXED, 5), ("gated", {}, 3)])
def test_fake_quantization_and_the_integer_network_differ_by_a_few_steps_at_most(
    network: str, bits: dict[str, int], steps: int
) -> None:
    """Coarse weights make coarse sums, and the first of TFLM's two roundings, which training leaves out, coarse."""
    graph = residual_network() if network == "residual" else gated_network()
    module = calibrated(with_weight_bits(graph, bits))
    integer = lower(module.to_graph(), module.ranges(), fixed=module.fixed)
    x = training_images().normalized(slice(64, 96))
    scale, zero = module.fixed["x"]
    stored = torch.round(x / scale + zero).clamp(-128, 127).to(torch.int8).numpy().transpose(0, 2, 3, 1)
    out = integer.tensors["out"]
    got = (simulate.run(integer, np.ascontiguousarray(stored))["out"].astype(np.float64) - out.zero_point) * out.scale
    with torch.no_grad():
        expected = module.eval()(x).numpy()
    assert np.abs(got - expected).max() <= (steps + 0.01) * out.scale


def gated_network() -> Graph:
    """Squeeze-excite, prescribed outputs (sigmoid, tanh), a concat of unlike branches, average pooling."""
    rng = np.random.default_rng(3)
    nodes = (
        conv("stem", "x", 1, 8, rng, stride=2, activation="relu"),
        Node("squeeze", "global_avg_pool", ("stem",), {"keepdims": True}),
        conv("excite", "squeeze", 8, 8, rng, kernel=1),
        Node("gate", "sigmoid", ("excite",)),
        Node("gated", "mul", ("stem", "gate"), {"activation": "none"}),
        conv("wide", "gated", 8, 6, rng),
        conv("narrow", "gated", 8, 4, rng, kernel=1, activation="relu6"),
        Node("bent", "tanh", ("wide",)),
        Node("both", "concat", ("narrow", "bent"), {"axis": 0}),
        Node("more", "concat", ("both", "wide"), {"axis": 0}),
        Node("pool", "avg_pool2d", ("more",), {"kernel": [2, 2], "stride": [2, 2], "padding": [0] * 4}),
        conv("last", "pool", 16, 8, rng),
        Node("mean", "global_avg_pool", ("last",), {"keepdims": False}),
        Node(
            "out", "dense", ("mean",), {"activation": "none"}, {"weight": rng.normal(0, 0.5, (3, 8)).astype(np.float32)}
        ),
    )
    graph = Graph("gated", (Input("x", (1, 16, 16)),), nodes, ("out",))
    graph.validate()
    return graph


def test_values_that_lowering_stores_alike_are_rounded_alike() -> None:
    module = calibrated(gated_network())
    assign_of = assign(module.to_graph(), module.ranges(), {"x": preprocessing().input_qparams()})
    assert module.fixed["gate"] == assign_of["gate"] == (1 / 256, -128)
    values = module.eval().forward_values(training_images().normalized(slice(64, 80)))
    for name, (scale, zero) in assign_of.items():
        steps = values[name].detach().double() / scale
        np.testing.assert_allclose(steps.round(), steps, atol=1e-2, err_msg=name)
        assert steps.min() >= -128 - zero - 0.5, name
        assert steps.max() <= 127 - zero + 0.5, name


def test_every_weight_gets_a_gradient() -> None:
    module = calibrated().train()
    data = training_images()
    CrossEntropy()(module(data.normalized(slice(0, 32))), data.labels[:32], torch.arange(32)).backward()
    for name, parameter in module.params.items():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().sum()) > 0, name


def test_ranges_stand_still_when_not_observing() -> None:
    module = calibrated().train()
    module.observing = False
    before = module.ranges()
    module(10 * training_images().normalized(slice(0, 8)))
    assert module.ranges() == before
    module.observing = True
    module(10 * training_images().normalized(slice(0, 8)))
    assert module.ranges() != before


def test_training_it_lowers_the_loss() -> None:
    module = calibrated()
    data = training_images()
    curve = train(
        module, data, CrossEntropy(), Schedule(40, batch=16, rate=1e-3), augmentation=Augmentation.named("none"), seed=0
    )
    assert curve[-1]["loss"] < curve[0]["loss"]


def test_an_unobserved_range_is_refused_by_lowering() -> None:
    with pytest.raises(Exception, match="was not observed"):
        lower(residual_network(), {"x": (-1.0, 1.0)})
