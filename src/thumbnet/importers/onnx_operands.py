"""What a node of a float ONNX file reads and writes, in terms of a graph in the making."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from thumbnet.errors import UnsupportedOpError
from thumbnet.importers.builder import Builder, Floats, Origin, Value
from thumbnet.importers.onnx_node import NodeView
from thumbnet.importers.onnx_tensors import Array

BATCH = (1 << 24) - 3
"""The batch's size wherever a file computes with shapes: a prime, exact in float32, that no other axis has. What is
left of it says whether a shape keeps the batch apart."""


@dataclass(frozen=True, eq=False)
class Rows(Value):
    """A value whose last axis alone the file keeps: [N · T, K] for samples (T, K), as TensorFlow's dense layers make of
    signals. Only `ROWWISE` operations take it.
    """


ROWWISE = frozenset(
    (
        *("MatMul", "Add", "Sub", "Mul", "Div", "Reshape", "Identity", "Cast", "Dropout", "Clip"),
        *("Relu", "LeakyRelu", "Elu", "HardSigmoid", "HardSwish", "Sigmoid", "Swish", "Tanh"),
    )
)

Known = Array | Value
Results = Known | Sequence[Known]


@dataclass(frozen=True, eq=False)
class Operation(NodeView[Known]):
    """One node among what has been converted so far. `batch`: the only batch size that the file takes, None for any.

    Values have no batch axis, constants have all of their axes; axes are counted as the file does, the batch first.
    """

    builder: Builder
    batch: int | None

    @property
    def origin(self) -> Origin:
        return Origin(self.op, self.name)

    def is_constant(self, k: int) -> bool:
        return isinstance(self.value(k), np.ndarray)

    def computed(self, k: int = 0) -> Value:
        """Input `k`, which must not be a constant."""
        found = self.value(k)
        if isinstance(found, Value):
            return found
        raise self.refuse(f"Its input '{self.node.inputs[k]}' is a constant; only computed ones are supported there.")

    def computed_all(self) -> list[Value]:
        return [self.computed(k) for k in range(len(self.node.inputs)) if self.has(k)]

    def floats(self, k: int) -> Floats:
        return self.reals(k)

    def optional_floats(self, k: int) -> Floats | None:
        return self.reals(k) if self.has(k) else None

    def image(self, k: int = 0) -> Value:
        """Input `k`, which must be images [N, C, H, W] or signals [N, C, L]."""
        x = self.computed(k)
        if len(x.shape) not in (2, 3):
            raise self.refuse(f"It works on [N, C, H, W] and [N, C, L], not on {self.told(x)}.")
        return x

    def full_shape(self, x: Value) -> tuple[int, ...]:
        """With the batch, as `BATCH`."""
        return (BATCH * x.shape[0], *x.shape[1:]) if isinstance(x, Rows) else (BATCH, *x.shape)

    def told(self, x: Value) -> str:
        return "[" + ", ".join(["N", *map(str, x.shape)]) + "]"

    def sample_axis(self, axis: int, x: Value) -> int:
        """An axis of the file, which must not be the batch's, as one of a value."""
        found = self.axis(axis, len(x.shape) + 1)
        if found == 0:
            raise self.mixes()
        return found - 1

    def sample_axes(self, axes: Sequence[int], x: Value) -> list[int]:
        found = [self.sample_axis(a, x) for a in axes]
        if len(set(found)) != len(found):
            raise self.broken(f"names an axis twice: {list(axes)}")
        return found

    def mixes(self) -> UnsupportedOpError:
        return self.refuse("It works on the batch axis, the first; samples must not be mixed.")

    def fits(self, constant: Array, x: Value) -> Array:
        """A constant that broadcasts to the shape of `x`. Raises `UnsupportedOpError` for others."""
        shape, rank = constant.shape, len(x.shape) + 1
        padded = (1,) * (rank - len(shape)) + shape
        if (
            len(padded) != rank
            or padded[0] != 1
            or any(c not in (1, d) for c, d in zip(padded[1:], x.shape, strict=True))
        ):
            raise self.refuse(f"A constant of shape {list(shape)} does not broadcast to {self.told(x)}.")
        return constant.reshape(padded[1:])


Handler = Callable[[Operation], Results]
