"""Nodes with hand-made integers, and what a lossless pass must keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from integer_cases import stimuli

from thumbnet.errors import UnsupportedOpError
from thumbnet.exporters.tflite import run_tflm, to_tflite
from thumbnet.integer.arithmetic import activation_clamp, quantize_multiplier
from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor
from thumbnet.integer.passes import validate
from thumbnet.integer.simulate import run


def weighted(
    op: str,
    x: QTensor,
    out: QTensor,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    *,
    scale: float | Sequence[float] = 0.01,
    activation: str = "none",
    **attrs: Any,
) -> IntegerNode:
    """A conv2d, depthwise_conv2d or dense node with the given stored weights, biases and weight scales."""
    w, channels = np.array(weight, np.int8), out.shape[-1]
    scales = np.full(channels if op != "dense" else 1, scale, np.float32)
    multiplier, shift = quantize_multiplier(np.float64(x.scale) * scales.astype(np.float64) / out.scale)
    if op != "dense":
        attrs = {"stride": [1, 1], "padding": [0] * 4, "dilation": [1, 1], **attrs}
    if op == "conv2d":
        attrs = {"groups": 1, **attrs}
    arrays = {
        "weight": w,
        "bias": np.array(np.zeros(channels) if bias is None else bias, np.int32),
        "multiplier": np.broadcast_to(multiplier, channels).copy(),
        "shift": np.broadcast_to(shift, channels).copy(),
    }
    clamp = activation_clamp(activation, out.scale, out.zero_point)
    return IntegerNode(out.name, op, (x.name,), attrs, arrays, clamp, tuple(float(s) for s in scales))


def random_weights(seed: int, *shape: int) -> npt.NDArray[np.int8]:
    """No weight is 0."""
    rng = np.random.default_rng(seed)
    return (rng.integers(1, 128, shape) * rng.choice([-1, 1], shape)).astype(np.int8)


def output(ig: IntegerGraph, feeds: dict[str, npt.NDArray[np.int8]]) -> list[npt.NDArray[np.int8]]:
    got = run(ig, feeds)
    return [got[v] for v in ig.outputs]


def assert_lossless(before: IntegerGraph, after: IntegerGraph, seed: int = 0) -> bool:
    """Same bytes on random and extreme inputs, in the simulator and, where both can be exported, in TFLM.

    Returns whether TFLM took part.
    """
    validate(after)
    feeds = stimuli(before, seed, 12)
    expected = output(before, feeds)
    for a, b in zip(expected, output(after, feeds), strict=True):
        np.testing.assert_array_equal(a, b)
    try:
        file = to_tflite(after)
    except UnsupportedOpError:
        return False
    got = run_tflm(file, [feeds[v] for v in after.inputs], isolated=False)
    for a, c in zip(expected, got if isinstance(got, tuple) else (got,), strict=True):
        np.testing.assert_array_equal(a, c.reshape(a.shape))
    return True
