"""Quantization-aware training computes what the lowered network computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training_cases import preprocessing, residual_network, training_images

from thumbnet.data import Augmentation
from thumbnet.integer import simulate
from thumbnet.integer.lower import lower
from thumbnet.training.distill import CrossEntropy
from thumbnet.training.loop import Schedule, train
from thumbnet.training.quantize_aware import QuantizedModule, calibrate


def calibrated() -> QuantizedModule:
    module = QuantizedModule(residual_network(), {"x": preprocessing().input_qparams()})
    calibrate(module, [training_images().normalized(slice(0, 64))])
    return module


def test_fake_quantization_and_the_integer_network_differ_by_at_most_two_steps() -> None:
    module = calibrated()
    integer = lower(module.to_graph(), module.ranges(), fixed=module.fixed)
    x = training_images().normalized(slice(64, 96))
    scale, zero = module.fixed["x"]
    stored = torch.round(x / scale + zero).clamp(-128, 127).to(torch.int8).numpy().transpose(0, 2, 3, 1)
    out = integer.tensors["out"]
    got = (simulate.run(integer, np.ascontiguousarray(stored))["out"].astype(np.float64) - out.zero_point) * out.scale
    with torch.no_grad():
        expected = module.eval()(x).numpy()
    assert np.abs(got - expected).max() <= 2.01 * out.scale


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
    trained = train(
        module, data, CrossEntropy(), Schedule(40, batch=16, rate=1e-3), augmentation=Augmentation.none(), seed=0
    )
    assert trained.curve[-1]["loss"] < trained.curve[0]["loss"]


def test_an_unobserved_range_is_refused_by_lowering() -> None:
    with pytest.raises(Exception, match="was not observed"):
        lower(residual_network(), {"x": (-1.0, 1.0)})
