"""What a node of a quantized ONNX file reads and writes, in terms of the integer graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from thumbnet.errors import ModelError, UnsupportedOpError
from thumbnet.graph.layout import Layout
from thumbnet.importers.onnx_reader import FileNode
from thumbnet.importers.qdq_values import (
    Array,
    Made,
    Pending,
    Quantization,
    QuantizedConstant,
    Stored,
    Value,
    reals_of,
    tabulated,
)
from thumbnet.importers.quantized import GraphBuilder
from thumbnet.integer.graph import QTensor

MAX_WINDOW = 4096  # of a kernel, stride, dilation or padding
_FULLY = (
    "Quantize the whole network to int8: onnxruntime.quantization.quantize_static without nodes_to_exclude and "
    "op_types_to_quantize. Preprocessing in floats belongs into the application."
)


@dataclass(frozen=True, eq=False)
class Operands:
    """One node among what has been converted so far: `values` by their names in the file."""

    node: FileNode
    opset: int
    builder: GraphBuilder
    values: dict[str, Value]
    where: str

    @property
    def op(self) -> str:
        return self.node.op

    @property
    def name(self) -> str:
        return self.node.name

    # --- errors

    def refuse(self, nearest: str) -> UnsupportedOpError:
        return UnsupportedOpError(self.op, self.name, nearest)

    def broken(self, what: str) -> ModelError:
        return ModelError(f"{self.where}: '{self.name}' ({self.op}) {what}.", "The file may be damaged.")

    def floating(self, k: int) -> ModelError:
        source = self.node.inputs[k]
        return ModelError(f"{self.where}: '{self.name}' ({self.op}) reads '{source}', which is not quantized.", _FULLY)

    # --- inputs

    def has(self, k: int) -> bool:
        return k < len(self.node.inputs) and self.node.inputs[k] != ""

    def value(self, k: int = 0) -> Value:
        if not self.has(k):
            raise self.broken(f"lacks its input {k}")
        name = self.node.inputs[k]
        if name not in self.values:
            raise self.broken(f"reads '{name}', which nothing has computed")
        return self.values[name]

    def is_constant(self, k: int) -> bool:
        return isinstance(self.value(k), np.ndarray | QuantizedConstant)

    def computed(self, k: int = 0) -> Stored | Pending:
        """Input `k`, which must not be a constant."""
        found = self.value(k)
        if isinstance(found, Stored | Pending):
            return found
        raise self.refuse(f"Its input '{self.node.inputs[k]}' is a constant; only computed ones are supported there.")

    def stored(self, k: int = 0) -> Stored:
        """Input `k`, which must be quantized, or be a function of a quantized tensor, which then is quantized here."""
        found = self.computed(k)
        if isinstance(found, Pending) and found.own is not None:
            found = found.stored(found.own)
        if not isinstance(found, Stored):
            raise self.floating(k)
        if not found.real:
            raise self.broken(f"computes with the integers of '{self.node.inputs[k]}'; it needs a DequantizeLinear")
        return found

    def constant(self, k: int) -> Array:
        """Input `k` as a constant: floats if it is quantized."""
        found = self.value(k)
        if isinstance(found, np.ndarray):
            return found
        if isinstance(found, QuantizedConstant) and found.real:
            return found.reals
        raise self.refuse(f"Its input '{self.node.inputs[k]}' must be a constant.")

    def reals(self, k: int) -> Array:
        """A constant of finite floats, as float32."""
        found = self.constant(k)
        if not np.issubdtype(found.dtype, np.floating) or not np.all(np.isfinite(found)):
            raise self.broken(f"has '{self.node.inputs[k]}', which is not all finite floats")
        return found.astype(np.float32)

    def scalar(self, k: int, default: float) -> float:
        """A constant of one number, `default` where it is left out."""
        if not self.has(k):
            return default
        found = self.constant(k)
        if found.size != 1 or np.isnan(found.astype(np.float32)).any():
            raise self.broken(f"has '{self.node.inputs[k]}', which is not one number")
        return float(found.reshape(-1)[0])

    def listed(self, k: int, attribute: str, default: Sequence[int] | None = None) -> list[int]:
        """A few integers that are input `k` in some opsets and an attribute in others."""
        if self.has(k):
            found = self.constant(k)
            if not np.issubdtype(found.dtype, np.integer) or found.size > 64:
                raise self.broken(f"has '{self.node.inputs[k]}', which is not a few integers")
            return [int(v) for v in found.reshape(-1)]
        if attribute not in self.node.attributes and default is not None:
            return list(default)
        return self.integers(attribute)

    # --- attributes

    def _attribute(self, name: str, kind: type, default: Any) -> Any:
        found = self.node.attributes.get(name, default)
        if not isinstance(found, kind):
            raise self.broken(f"has no usable attribute '{name}'")
        return found

    def integer(self, name: str, default: int | None = None) -> int:
        return int(self._attribute(name, int, default))

    def flag(self, name: str, default: bool = False) -> bool:
        found = self.integer(name, int(default))
        if found not in (0, 1):
            raise self.broken(f"has the attribute '{name}' = {found}")
        return bool(found)

    def number(self, name: str, default: float) -> float:
        found = float(self._attribute(name, float, default))
        if not np.isfinite(found):
            raise self.broken(f"has the attribute '{name}' = {found}")
        return found

    def text(self, name: str, default: str) -> str:
        return str(self._attribute(name, str, default))

    def integers(self, name: str, default: Sequence[int] | None = None) -> list[int]:
        found = self._attribute(name, tuple, None if default is None else tuple(default))
        if len(found) > 64 or not all(isinstance(v, int) for v in found):
            raise self.broken(f"has no usable attribute '{name}'")
        return list(found)

    def sizes(self, name: str, default: Sequence[int], least: int = 1) -> list[int]:
        """An attribute of as many sizes as `default` has."""
        found = self.integers(name, default)
        if len(found) != len(default) or not all(least <= v <= MAX_WINDOW for v in found):
            raise self.broken(f"has the attribute '{name}' = {found}")
        return found

    def axis(self, axis: int, rank: int) -> int:
        """Axis `axis`, which may count from the end, among `rank`."""
        if not -rank <= axis < rank:
            raise self.broken(f"works along axis {axis} of {rank}")
        return axis % rank

    # --- outputs

    def done(self, made: Value, k: int = 0) -> None:
        if k >= len(self.node.outputs):
            raise self.broken(f"lacks its output {k}")
        name = self.node.outputs[k]
        if name in self.values:
            raise self.broken("computes a value for the second time")
        if name:
            self.values[name] = made

    def tensor(self, shape: Sequence[int], q: Quantization) -> QTensor:
        """Registers a tensor under the node's name."""
        return self.builder.tensor(self.name, shape, q.scale, q.zero_point)

    def moved(
        self, x: Stored | Pending, layout: Layout, move: Callable[[QTensor], QTensor] = lambda t: t
    ) -> Stored | Pending:
        """`move`, which may only copy and compare stored values, on `x`; if that is pending, on what it will be."""
        if isinstance(x, Stored):
            return replace(x, tensor=move(x.tensor), layout=layout)
        return Made(layout, lambda q: move(x.stored(q).tensor), x.own, x.dtype)

    def tensor_of(self, x: Stored | Pending, q: Quantization) -> QTensor:
        """`x`, quantized and clamped as `q` says."""
        return x.stored(q).tensor if isinstance(x, Pending) else self.requantized(x.tensor, q)

    def requantized(self, x: QTensor, q: Quantization) -> QTensor:
        """`x` under another quantization and clamp; itself where both are its own.

        By a table: between numbers of eight bits, TFLM's requantization, which rounds twice, is off by one for every
        fourth value or so.
        """
        return tabulated(self.builder, self.name, x, reals_of(x), q)
