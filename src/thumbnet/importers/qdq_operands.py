"""What a node of a quantized ONNX file reads and writes, in terms of the integer graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from thumbnet.errors import ModelError
from thumbnet.graph.layout import Layout
from thumbnet.importers.onnx_node import NodeView
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

_FULLY = (
    "Quantize the whole network to int8: onnxruntime.quantization.quantize_static without nodes_to_exclude and "
    "op_types_to_quantize. Preprocessing in floats belongs into the application."
)


@dataclass(frozen=True, eq=False)
class Operands(NodeView[Value]):
    """One node among what has been converted so far."""

    builder: GraphBuilder

    def floating(self, k: int) -> ModelError:
        source = self.node.inputs[k]
        return ModelError(f"{self.where}: '{self.name}' ({self.op}) reads '{source}', which is not quantized.", _FULLY)

    # --- inputs

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

    # --- outputs

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
