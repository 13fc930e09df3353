"""Elementwise functions and softmax against TFLM, for every one of the 256 inputs."""

from __future__ import annotations

import numpy as np
import pytest
from integer_cases import Draw, graph_of

from thumbnet.exporters.tflite import run_tflm, to_tflite
from thumbnet.integer import build
from thumbnet.integer.graph import QTensor
from thumbnet.integer.simulate import run
from thumbnet.integer.tables import SIGMOID_OUTPUT, SOFTMAX_OUTPUT, TANH_OUTPUT

pytest.importorskip("tflite_micro", reason="tflite-micro has wheels for Linux only")

ALL = np.arange(-128, 128).astype(np.int8)[None]
SCALES = [0.0004, 0.003, 1 / 128, 0.0235, 0.0472, 0.11, 0.37, 1.7]
ZERO_POINTS = [-128, -3, 0, 127]
FUNCTIONS = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "leaky_relu": lambda x: np.where(x > 0, x, 0.1 * x),
}


def output(kind: str, x: QTensor) -> QTensor:
    if kind in ("sigmoid", "tanh"):
        return QTensor("y", (256,), *(SIGMOID_OUTPUT if kind == "sigmoid" else TANH_OUTPUT))
    draw = Draw(int(x.scale * 1e6) + x.zero_point)
    return draw.tensor("y", (256,), x.scale * draw.rng.uniform(0.3, 1.5))


@pytest.mark.parametrize("kind", FUNCTIONS)
@pytest.mark.parametrize("scale", SCALES)
def test_tables_equal_tflm(kind: str, scale: float) -> None:
    for zero_point in ZERO_POINTS:
        x = QTensor("x", (256,), float(np.float32(scale)), zero_point)
        y = output(kind, x)
        graph = graph_of([x, y], [x], [build.lut("y", x, y, kind, alpha=0.1)])
        simulated = run(graph, ALL)["y"]
        np.testing.assert_array_equal(simulated, run_tflm(to_tflite(graph), ALL, isolated=False))
        real = FUNCTIONS[kind](x.scale * (ALL.astype(float) - zero_point))
        ideal = np.clip(np.rint(real / y.scale) + y.zero_point, -128, 127)
        assert np.abs(simulated - ideal).max() <= 2


@pytest.mark.parametrize("alpha", [0.01, 0.3, 1.0])
def test_leaky_slopes_equal_tflm(alpha: float) -> None:
    x, y = (
        QTensor("x", (256,), float(np.float32(0.03)), 12),
        QTensor("y", (256,), float(np.float32(0.021)), -50),
    )
    graph = graph_of([x, y], [x], [build.lut("y", x, y, "leaky_relu", alpha=alpha)])
    np.testing.assert_array_equal(run(graph, ALL)["y"], run_tflm(to_tflite(graph), ALL, isolated=False))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shape", [(2,), (10,), (400,), (2, 3, 7)])
def test_softmax_equals_tflm(scale: float, shape: tuple[int, ...]) -> None:
    x, y = QTensor("x", shape, float(np.float32(scale)), 4), QTensor("y", shape, *SOFTMAX_OUTPUT)
    graph = graph_of([x, y], [x], [build.softmax("y", x)])
    rng = np.random.default_rng(3)
    spreads = [
        rng.integers(-128, 128, shape),
        rng.integers(100, 128, shape),
        np.full(shape, 127),
        np.full(shape, -128),
    ]
    values = np.stack(spreads).astype(np.int8)
    np.testing.assert_array_equal(run(graph, values)["y"], run_tflm(to_tflite(graph), values, isolated=False))


TELLING = {  # (scale, zero point) of input and output at which float32 division of the scales gives another table
    "leaky_relu": [
        ("0x1.274e12p-4", -114, "0x1.d1a048p-5", -125),
        ("0x1.393416p-5", -113, "0x1.25deb2p-5", -95),
        ("0x1.0eec9ap-4", 111, "0x1.a07fcap-5", 52),
    ],
    "hard_swish": [
        ("0x1.ca5174p-7", -37, "0x1.6483b2p-7", -23),
        ("0x1.9c4bb4p-5", -112, "0x1.15545ap-6", -77),
        ("0x1.3e379cp-7", -28, "0x1.24454ep-7", 67),
    ],
    "relu": [("0x1.a089aep-6", -128, "0x1.2ab19cp-6", -128), ("0x1.27e29ap-5", -128, "0x1.4f6084p-6", -128)],
    "requantize": [
        ("0x1.a089aep-6", -128, "0x1.2ab19cp-6", -128),
        ("0x1.27e29ap-5", -128, "0x1.4f6084p-6", -128),
        ("0x1.27e29ap-5", 127, "0x1.4f6084p-6", 127),
    ],
}


@pytest.mark.parametrize("kind", TELLING)
def test_multipliers_are_formed_in_float64(kind: str) -> None:
    for scale, zero_point, out_scale, out_zero_point in TELLING[kind]:
        x = QTensor("x", (256,), float.fromhex(scale), zero_point)
        y = QTensor("y", (256,), float.fromhex(out_scale), out_zero_point)
        make = getattr(build, kind, None)
        node = make("y", x, y) if make else build.lut("y", x, y, kind, alpha=0.3)
        graph = graph_of([x, y], [x], [node])
        np.testing.assert_array_equal(run(graph, ALL)["y"], run_tflm(to_tflite(graph), ALL, isolated=False))
