"""TFLite files made operator by operator, for what our own exporter does not write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from thumbnet.exporters.tflite_file import TfliteFile


class Model:
    """A file in the making, whose tensors have one quantization unless it is given."""

    def __init__(self, *shape: int) -> None:
        self.file = TfliteFile()
        self.rng = np.random.default_rng(0)
        self.x = self.tensor("x", *shape)
        self.outputs: list[int] = []

    def tensor(self, name: str, *shape: int, scale: float = 0.05, zero_point: int = -3) -> int:
        return self.file.tensor(name, shape, np.int8, scales=[scale], zero_point=zero_point)

    def constant(self, name: str, values: Any, **quantization: Any) -> int:
        data = np.asarray(values)
        kind = np.int8 if quantization else np.int32
        return self.file.tensor(name, data.shape, kind, data=data.astype(kind), **quantization)

    def weights(self, *shape: int, axis: int | None = 0) -> int:
        scales = self.rng.uniform(0.005, 0.02, 1 if axis is None else shape[axis])
        return self.constant("weight", self.rng.integers(-127, 128, shape), scales=scales, axis=axis or 0)

    def operator(self, op: str, inputs: Sequence[int], outputs: Sequence[int], options: str = "", **kw: Any) -> None:
        self.file.operator(op, 1, inputs, outputs, options, **kw)
        self.outputs = list(outputs)

    def retype(self, index: int, kind: str) -> None:
        self.file._tensors[index].type = getattr(schema.TensorType, kind)

    def bytes(self) -> bytes:
        return self.file.finish("model", [self.x], self.outputs)
