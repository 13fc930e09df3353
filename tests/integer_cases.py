"""Integer graphs with random parameters, and what they are compared with: TensorFlow Lite Micro itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from thumbnet.exporters.tflite import run_tflm, to_tflite
from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor
from thumbnet.integer.simulate import run


class Draw:
    """Random tensors and weights from one seed; scales and zero points as wild as int8 allows."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def tensor(
        self, name: str, shape: Sequence[int], scale: float | None = None, zero_point: int | None = None
    ) -> QTensor:
        s = float(np.float32(10 ** self.rng.uniform(-3, 0))) if scale is None else float(np.float32(scale))
        z = int(self.rng.choice([-128, 127, 0, self.rng.integers(-128, 128)])) if zero_point is None else zero_point
        return QTensor(name, tuple(shape), s, z)

    def weight(self, *shape: int) -> np.ndarray:
        return self.rng.normal(0, 1, shape).astype(np.float32)

    def bias(self, size: int, spread: float = 3.0) -> np.ndarray:
        return self.rng.normal(0, spread, size).astype(np.float32)

    def integer(self, low: int, high: int) -> int:
        """In [low, high]."""
        return int(self.rng.integers(low, high + 1))

    def choice(self, *options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]


def graph_of(tensors: Sequence[QTensor], inputs: Sequence[QTensor], nodes: Sequence[IntegerNode]) -> IntegerGraph:
    """The last node's tensor is the output."""
    names = tuple(t.name for t in inputs)
    return IntegerGraph("case", {t.name: t for t in tensors}, names, tuple(nodes), (nodes[-1].name,))


def stimuli(graph: IntegerGraph, seed: int, random: int = 3) -> dict[str, np.ndarray]:
    """Random samples, then extremes: all lowest, all highest, the zero point, a checkerboard of both ends."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for name in graph.inputs:
        t = graph.tensors[name]
        size = t.bytes
        extremes = [np.full(size, v) for v in (-128, 127, t.zero_point)] + [np.where(np.arange(size) % 2, 127, -128)]
        samples = [rng.integers(-128, 128, size) for _ in range(random)] + extremes
        feeds[name] = np.stack(samples).astype(np.int8).reshape(-1, *t.shape)
    return feeds


def assert_equals_tflm(graph: IntegerGraph, seed: int = 0, random: int = 3) -> np.ndarray:
    """The simulator's output, once it is known to be TFLM's byte for byte."""
    feeds = stimuli(graph, seed, random)
    simulated = run(graph, feeds)[graph.outputs[0]]
    expected = run_tflm(to_tflite(graph), [feeds[v] for v in graph.inputs], isolated=False)
    np.testing.assert_array_equal(simulated, expected)
    return simulated


Case = Callable[[Draw], IntegerGraph]
