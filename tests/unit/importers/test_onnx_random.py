"""Random chains of ONNX operations, which move numbers about in all orders, against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the extra 'onnx'")
pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")

import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx_cases import Network

from thumbnet.importers.onnx import import_onnx

I64 = np.int64
SHAPES = ((4, 6, 8), (3, 4, 6), (1, 4, 4), (4, 1, 6), (6, 8), (4, 12), (24,))


class Chain:
    """A network of one operation after the other, and the shapes of what it has made."""

    def __init__(self, draw: Any, shape: tuple[int, ...]) -> None:
        self.draw, self.net = draw, Network(("N", *shape), 13)
        self.made: list[tuple[str, tuple[int, ...]]] = [("x", shape)]

    @property
    def last(self) -> tuple[str, tuple[int, ...]]:
        return self.made[-1]

    def pick(self, values: Any) -> Any:
        return self.draw(st.sampled_from(list(values)))

    def put(self, name: str, shape: tuple[int, ...]) -> None:
        self.made.append((name, shape))

    # --- operations

    def transpose(self) -> None:
        x, shape = self.last
        order = self.draw(st.permutations(range(len(shape))))
        self.put(self.net.op("Transpose", x, perm=[0, *(a + 1 for a in order)]), tuple(shape[a] for a in order))

    def reshape(self) -> None:
        x, shape = self.last
        total = int(np.prod(shape))
        fits = [s for s in ((total,), (2, total // 2), (4, 2, total // 8), (total // 4, 4)) if np.prod(s) == total]
        wanted = self.pick([s for s in fits if min(s) > 0])
        self.put(self.net.op("Reshape", x, I64([0, *wanted])), wanted)

    def function(self) -> None:
        x, shape = self.last
        self.put(self.net.op(self.pick(("Relu", "Tanh", "Sigmoid")), x), shape)

    def constant(self) -> None:
        x, shape = self.last
        axis = self.pick(range(len(shape)))
        numbers = self.net.normal(*(s if k == axis else 1 for k, s in enumerate(shape)))
        self.put(self.net.op(self.pick(("Add", "Mul", "Sub")), x, numbers), shape)

    def both(self) -> None:
        x, shape = self.last
        others = [
            n for n, s in self.made if len(s) == len(shape) and all(a in (1, b) for a, b in zip(s, shape, strict=True))
        ]
        self.put(self.net.op(self.pick(("Add", "Mul", "Max", "Sub")), x, self.pick(others)), shape)

    def concat(self) -> None:
        x, shape = self.last
        axis = self.pick(range(len(shape)))
        others = [
            (n, s)
            for n, s in self.made
            if len(s) == len(shape) and s[:axis] + s[axis + 1 :] == shape[:axis] + shape[axis + 1 :]
        ]
        other, size = self.pick(others)
        made = tuple(s + size[axis] if k == axis else s for k, s in enumerate(shape))
        self.put(self.net.op("Concat", x, other, axis=axis + 1), made)

    def cut(self) -> None:
        x, shape = self.last
        axis = self.pick(range(len(shape)))
        start = self.draw(st.integers(0, shape[axis] - 1))
        stop = self.draw(st.integers(start + 1, shape[axis]))
        made = tuple(stop - start if k == axis else s for k, s in enumerate(shape))
        self.put(self.net.op("Slice", x, I64([start]), I64([stop]), I64([axis + 1])), made)

    def mean(self) -> None:
        x, shape = self.last
        axes = self.draw(st.sets(st.sampled_from(range(len(shape))), min_size=1))
        kind, kept = self.pick(("ReduceMean", "ReduceMax")), self.draw(st.booleans())
        made = tuple(1 if k in axes else s for k, s in enumerate(shape) if kept or k not in axes)
        self.put(self.net.op(kind, x, axes=[a + 1 for a in sorted(axes)], keepdims=int(kept)), made)

    def softmax(self) -> None:
        x, shape = self.last
        self.put(self.net.op("Softmax", x, axis=self.pick(range(len(shape))) + 1), shape)

    def layer(self) -> None:
        x, shape = self.last
        if len(shape) == 1:
            self.put(self.net.dense(x, shape[0], 4), (4,))
        elif self.draw(st.booleans()):
            self.put(self.net.op("MatMul", x, self.net.normal(shape[-1], 3, scale=0.5)), (*shape[:-1], 3))
        elif len(shape) in (2, 3):
            kernel = (1,) * (len(shape) - 1) if min(shape[1:]) < 2 else (2,) * (len(shape) - 1)
            made = tuple(s - k + 1 for s, k in zip(shape[1:], kernel, strict=True))
            self.put(self.net.conv(x, shape[0], 4, *kernel), (4, *made))

    def pool(self) -> None:
        x, shape = self.last
        if len(shape) in (2, 3) and min(shape[1:]) > 1:
            kernel = [2] * (len(shape) - 1)
            made = (shape[0], *(s // 2 for s in shape[1:]))
            self.put(self.net.op(self.pick(("MaxPool", "AveragePool")), x, kernel_shape=kernel, strides=kernel), made)


STEPS = [getattr(Chain, n) for n in vars(Chain) if n not in ("last", "pick", "put") and not n.startswith("_")]


@st.composite
def chains(draw: Any) -> Network:
    chain = Chain(draw, draw(st.sampled_from(SHAPES)))
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=2, max_size=7)):
        if chain.last[1]:
            step(chain)
    chain.put(chain.net.op("Tanh", chain.last[0]), chain.last[1])
    return chain.net


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(chains())
def test_random_chains(tmp_path: Path, net: Network) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(net.model(), path)
    made = import_onnx(path)
    assert made.max_difference <= made.tolerance
