"""What an operator of a TFLite file reads and writes, in terms of the integer graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thumbnet.errors import ModelError
from thumbnet.importers.quantized import GraphBuilder
from thumbnet.importers.tflite_operator import OperatorReader, short
from thumbnet.importers.tflite_reader import FileTensor
from thumbnet.integer.graph import QTensor


@dataclass(frozen=True)
class Supported:
    """An operator that is read: what converts it, and its limits in words, for docs/operators.md."""

    convert: Callable[[Operands], None]
    limits: str = ""


@dataclass(frozen=True, eq=False)
class Operands(OperatorReader):
    """One operator among what has been converted so far.

    `values`: tensor of the file → tensor of the graph.
    """

    builder: GraphBuilder
    values: dict[int, QTensor]

    def input(self, k: int = 0) -> QTensor:
        """Input `k`, which must be computed, in the graph."""
        t = self.required(k)
        if t.index not in self.values:
            if t.stored is not None:
                raise self.refuse(f"Its input '{short(t)}' is a constant; only computed ones are supported there.")
            raise self.broken(f"reads '{short(t)}', which nothing has computed")
        return self.values[t.index]

    def image(self, k: int = 0) -> QTensor:
        """Input `k`, which must be computed and have height, width and channels."""
        x = self.input(k)
        if len(x.shape) != 3:
            raise self.refuse("It works on [1, height, width, channels] only; reshape the tensor before it.")
        return x

    def output(self, shape: Sequence[int] | None = None, *, regrouped: bool = False, k: int | None = None) -> QTensor:
        """Registers the output with the file's shape, or with `shape`, which must be that but for axes of size 1.

        With `regrouped` it only must have as many elements. Without `k` it must be the only output.
        """
        t = self.content.tensors[self.operator.outputs[k or 0]]
        name, stored, scale, zero_point = self.activation(t, self.where)
        if k is None and len(self.operator.outputs) != 1:
            raise self.broken(f"has {len(self.operator.outputs)} outputs")
        shape = stored if shape is None else tuple(shape)
        same = math.prod(shape) == math.prod(stored) if regrouped else _above_1(shape) == _above_1(stored)
        if not same:
            raise self.broken(f"gives {list(stored)}, but computes {list(shape)}")
        return self.builder.tensor(name, shape, scale, zero_point)

    def done(self, made: QTensor, k: int = 0) -> None:
        """`made` holds the values of output `k`; under the file's shape, if need be by a reshape."""
        t = self.content.tensors[self.operator.outputs[k]]
        if t.index in self.values:
            raise self.broken("computes a tensor for the second time")
        _, shape, _, _ = self.activation(t, self.where)
        self.values[t.index] = self.builder.reshape(f"{made.name}/reshape", made, shape)

    def same_quantization(self, out: QTensor, *inputs: QTensor) -> None:
        """Raises `ModelError` where the output is not quantized as the inputs, whose bytes it copies."""
        for x in inputs:
            if (x.scale, x.zero_point) != (out.scale, out.zero_point):
                raise ModelError(
                    f"{self.where}: '{self.name}' ({self.op}) goes from the scale {x.scale:g} (zero point "
                    f"{x.zero_point}) to {out.scale:g} ({out.zero_point}), which it cannot.",
                    "Convert the model again with a current TFLite converter, which puts a QUANTIZE in between.",
                )

    def stored_axis(self, axis: int, k: int = 0) -> int:
        """An axis of input `k` in the file (negative ones count from the end) in the graph's shape."""
        rank = len(self.required(k).shape)
        if not -rank <= axis < rank:
            raise self.broken(f"works along axis {axis} of {rank}")
        axis %= rank
        if axis == 0:
            raise self.refuse("The batch axis must stay as it is.")
        return axis if rank == 3 else axis - 1  # [1, time, channels] is stored (1, time, channels)

    @staticmethod
    def activation(t: FileTensor, where: str) -> tuple[str, tuple[int, ...], float, int]:
        """(name, shape without batch axis, scale, zero point) of a computed tensor."""
        name = short(t)
        if t.dtype != "int8":
            hint = {
                "float32": "Convert the model with full int8 quantization.",
                "uint8": "Convert the model with the current TFLite converter, which makes int8.",
                "int16": "Quantize activations to int8; 16-bit activations are not supported.",
            }
            raise ModelError(
                f"{where}: the tensor '{name}' is {t.dtype}; only int8 can be computed with.",
                hint.get(t.dtype, "Leave that part to the application."),
            )
        if t.dynamic:
            raise ModelError(
                f"{where}: the tensor '{name}' has no fixed shape.", "Convert the model for one fixed input shape."
            )
        if len(t.scales) != 1:
            raise ModelError(
                f"{where}: the tensor '{name}' has {len(t.scales)} scales, not one.",
                "Convert the model with full int8 quantization.",
            )
        return name, without_batch(t, where), float(t.scales[0]), int(t.zero_points[0])


def _above_1(shape: Sequence[int]) -> list[int]:
    return [d for d in shape if d > 1]


def without_batch(t: FileTensor, where: str) -> tuple[int, ...]:
    """The shape less its batch axis: (features,), (1, time, channels), (height, width, channels) or four axes."""
    shape = t.shape
    if len(shape) < 2 and 0 not in shape:
        return shape or (1,)
    if len(shape) > 5 or shape[0] != 1 or 0 in shape:
        raise ModelError(
            f"{where}: the tensor '{short(t)}' has the shape {list(shape)}.",
            "Supported are [1, features], [1, time, channels] and [1, height, width, channels].",
        )
    return (1, *shape[1:]) if len(shape) == 3 else tuple(shape[1:])


def weight_bits(t: FileTensor) -> dict[str, int]:
    """The attr of a node whose weights are stored in 4 bits."""
    return {"weight_bits": 4} if t.dtype == "int4" else {}


def weight_scales(t: FileTensor, axis: int, operands: Operands) -> npt.NDArray[np.float32]:
    """Scales of symmetric weights along `axis`. Raises where the file's run along another, or zero points are not 0."""
    if not len(t.scales):
        raise operands.broken(f"has weights '{short(t)}' without scales")
    if np.any(t.zero_points):
        raise operands.refuse("Its weights have a zero point; convert the model so that weights are symmetric (int8).")
    if len(t.scales) > 1 and (t.axis != axis or len(t.scales) != t.shape[axis]):
        raise operands.broken(f"has {len(t.scales)} scales along axis {t.axis} of its weights {list(t.shape)}")
    return t.scales
