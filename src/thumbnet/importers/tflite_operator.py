"""What an operator of a TFLite file reads and says, whatever it is converted to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from thumbnet.errors import ModelError, UnsupportedOpError
from thumbnet.importers.tflite_reader import FileOperator, FileTensor, TfliteContent

_ACTIVATIONS = {0: "none", 1: "relu", 2: "relu_n1_to_1", 3: "relu6"}
_SAME, _VALID = 0, 1


@dataclass(frozen=True, eq=False)
class OperatorReader:
    """One operator of a file."""

    operator: FileOperator
    content: TfliteContent
    where: str

    @property
    def op(self) -> str:
        return self.operator.op

    @property
    def name(self) -> str:
        """The operator's place in the network: the first of the names that the converter joined."""
        return short(self.content.tensors[self.operator.outputs[0]])

    def refuse(self, nearest: str) -> UnsupportedOpError:
        return UnsupportedOpError(self.op, self.name, nearest)

    def broken(self, what: str) -> ModelError:
        return ModelError(f"{self.where}: '{self.name}' ({self.op}) {what}.", "The file may be damaged.")

    def option(self, name: str) -> Any:
        if name not in self.operator.options:
            raise self.broken(f"lacks its option '{name}'")
        return self.operator.options[name]

    # --- tensors

    def file(self, k: int) -> FileTensor | None:
        """Input `k` in the file; None where it is left out."""
        if k >= len(self.operator.inputs) or self.operator.inputs[k] < 0:
            return None
        return self.content.tensors[self.operator.inputs[k]]

    def required(self, k: int) -> FileTensor:
        found = self.file(k)
        if found is None:
            raise self.broken(f"lacks its input {k}")
        return found

    def is_constant(self, k: int) -> bool:
        return self.required(k).stored is not None

    # --- constants and options

    def constant(self, k: int, dtype: str) -> npt.NDArray[Any]:
        t = self.required(k)
        if t.values is None:
            raise self.refuse(f"Its input '{short(t)}' must be a constant.")
        if t.dtype != dtype and not (dtype == "int8" and t.dtype == "int4"):
            raise ModelError(
                f"{self.where}: '{short(t)}', an input of '{self.name}' ({self.op}), is {t.dtype}, not {dtype}.",
                "Convert the model with full int8 quantization.",
            )
        return t.values

    def integers(self, k: int) -> list[int]:
        """A constant of a few int32 or int64 values."""
        t = self.required(k)
        values = self.constant(k, "int64" if t.dtype == "int64" else "int32").reshape(-1)
        if len(values) > 64:
            raise self.broken(f"has {len(values)} numbers in '{short(t)}'")
        return [int(v) for v in values]

    @property
    def activation_name(self) -> str:
        number = self.option("FusedActivationFunction")
        if number not in _ACTIVATIONS:
            raise self.refuse("Only RELU, RELU6 and RELU_N1_TO_1 can be fused into it.")
        return _ACTIVATIONS[number]

    def pair(self, height: str, width: str) -> tuple[int, int]:
        """Two options that must be positive, such as StrideH and StrideW."""
        found = int(self.option(height)), int(self.option(width))
        if not all(0 < v <= 4096 for v in found):
            raise self.broken(f"has {height}, {width} = {found}")
        return found

    @property
    def same_padding(self) -> bool:
        """Whether its padding is SAME; else it is VALID."""
        kind = self.option("Padding")
        if kind not in (_SAME, _VALID):
            raise self.broken(f"has the padding {kind}")
        return bool(kind == _SAME)

    def window(self, size: Sequence[int], reach: Sequence[int], stride: Sequence[int]) -> tuple[list[int], list[int]]:
        """([top, left, bottom, right], output [height, width]) by TFLite's rules for SAME and VALID.

        `reach` is the extent of the kernel, dilation included.
        """
        before, after, out = [0, 0], [0, 0], [0, 0]
        for i in (0, 1):
            if self.same_padding:
                out[i] = -(-size[i] // stride[i])
                total = max((out[i] - 1) * stride[i] + reach[i] - size[i], 0)
                before[i], after[i] = total // 2, total - total // 2
            else:
                out[i] = (size[i] - reach[i]) // stride[i] + 1
            if out[i] < 1:
                raise self.broken(f"has a kernel of {list(reach)} on an input of {list(size)}")
        return [*before, *after], out


def short(t: FileTensor) -> str:
    return t.name.split(";")[0] or f"tensor_{t.index}"
