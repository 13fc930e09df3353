"""int8 TFLite files → the integer graph, number for number: nothing is retrained, calibrated or rounded anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from thumbnet.errors import ModelError, UnsupportedOpError
from thumbnet.importers.model_file import model_bytes
from thumbnet.importers.quantized import GraphBuilder
from thumbnet.importers.tflite_layers import LAYERS
from thumbnet.importers.tflite_operands import Operands, Supported
from thumbnet.importers.tflite_parts import PARTS
from thumbnet.importers.tflite_reader import FileOperator, FileTensor, TfliteContent, read_tflite
from thumbnet.importers.tflite_shapes import SHAPES
from thumbnet.integer.graph import IntegerGraph, QTensor

Outside = Literal["int8", "uint8", "float32"]

SUPPORTED: dict[str, Supported] = {**LAYERS, **SHAPES, **PARTS}
NEAREST = {
    **dict.fromkeys(("GELU", "RELU_0_TO_1"), "Use RELU, RELU6, LEAKY_RELU or HARD_SWISH instead."),
    "REDUCE_PROD": "Only MEAN, SUM, REDUCE_MAX and REDUCE_MIN are supported.",
    **dict.fromkeys(
        ("LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM", "RNN", "UNIDIRECTIONAL_SEQUENCE_RNN", "SVDF", "WHILE"),
        "Recurrent layers are not supported; use convolutions over time.",
    ),
    **dict.fromkeys(("BATCH_MATMUL", "GATHER", "EMBEDDING_LOOKUP"), "Attention and look-ups are not supported."),
    **dict.fromkeys(("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"), "Convert with dilated convolutions instead."),
    **dict.fromkeys(("ARG_MAX", "ARG_MIN", "TOPK_V2"), "Leave it out; compare the outputs in the application."),
    "LOG_SOFTMAX": "Leave it out: the order of the classes is that of its inputs.",
    "L2_NORMALIZATION": "Leave it out; normalize in the application.",
    "NEG": "Subtract from zero instead (SUB).",
    "CONV_3D": "Use CONV_2D instead.",
    "DIV": "Multiply with the reciprocal instead.",
    "CUSTOM": "Custom operators cannot be compiled; leave post-processing to the application.",
}


@dataclass(frozen=True, eq=False)
class TfliteModel:
    """A file and its integer graph. Where the file takes or gives other types than int8, by a QUANTIZE at its start or
    a DEQUANTIZE at its end, the graph leaves these out; `original_inputs` and `stored_outputs` translate.
    """

    graph: IntegerGraph
    data: bytes
    input_shape: tuple[int, ...]  # in the file, batch axis included
    input_type: Outside
    output_types: tuple[Outside, ...]

    def original_inputs(self, stored: npt.NDArray[np.int8]) -> npt.NDArray[Any]:
        """int8 inputs [N, *shape] of the graph as the file wants them, in its shape (a batch axis of its own aside)."""
        x = self.graph.tensors[self.graph.inputs[0]]
        stored = stored.reshape(-1, *self.input_shape[1:])
        if self.input_type == "uint8":
            return (stored.view(np.uint8) ^ 0x80).reshape(stored.shape)
        if self.input_type == "float32":
            real = (stored.astype(np.float32) - np.float32(x.zero_point)) * np.float32(x.scale)
            return real.astype(np.float32)
        return stored

    def stored_outputs(self, *given: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
        """What the file gives, as the graph's int8: all outputs of a sample one after the other, [N, bytes]."""
        parts = []
        for name, kind, values in zip(self.graph.outputs, self.output_types, given, strict=True):
            y, flat = self.graph.tensors[name], values.reshape(len(values), -1)
            if kind == "uint8":
                flat = (flat.astype(np.uint8) ^ 0x80).view(np.int8)
            elif kind == "float32":
                flat = np.rint(flat.astype(np.float64) / y.scale) + y.zero_point
            parts.append(flat.astype(np.int8))
        return np.concatenate(parts, axis=1)


def import_tflite(model: str | Path | bytes, name: str = "") -> TfliteModel:
    """The integer graph of an int8 TFLite file, given as its path or its bytes.

    Shapes lose their batch axis, which must be 1; [1, T, C] becomes (1, T, C). Raises `ModelError` for a file that is
    damaged, not int8, of changing shape or with control flow, and `UnsupportedOpError` for one operation.
    """
    data, where = _bytes(model)
    content = read_tflite(data, where)
    name = name or (Path(where).stem if not isinstance(model, bytes) else "model")
    work = _Conversion(content, where, name)
    shape = content.tensors[content.inputs[0]].shape if content.inputs else ()
    return TfliteModel(work.graph(), data, shape, work.input_type, tuple(work.output_types))


def _bytes(model: str | Path | bytes) -> tuple[bytes, str]:
    if isinstance(model, bytes):
        return model, "The model"
    return model_bytes(Path(model)), str(model)


def _same_numbers(unsigned: FileTensor, signed: FileTensor, where: str) -> None:
    """Raises `ModelError` unless the two are the same numbers, one stored from 0, the other from −128."""
    scales, points = (unsigned.scales, signed.scales), (unsigned.zero_points, signed.zero_points)
    if any(len(s) != 1 for s in scales) or scales[0][0] != scales[1][0] or points[0][0] != points[1][0] + 128:
        raise ModelError(
            f"{where}: the uint8 tensor '{unsigned.name}' is quantized otherwise than the int8 one beside it.",
            "Convert the model with inference_input_type and inference_output_type int8.",
        )


class _Conversion:
    """One pass over the operators, in the file's order."""

    def __init__(self, content: TfliteContent, where: str, name: str) -> None:
        self.content, self.where = content, where
        self.builder = GraphBuilder(name)
        self.values: dict[int, QTensor] = {}  # tensor of the file -> what holds its values in the graph
        self.input_type: Outside = "int8"
        self.output_types: list[Outside] = []

    def graph(self) -> IntegerGraph:
        self._refuse_floats()
        operators = self._without_wrappers(list(self.content.operators))
        if not operators or not self._inputs:
            raise ModelError(f"{self.where} computes nothing: it has no operators or no inputs.")
        for source in self._inputs:
            t = self.content.tensors[source]
            if len(t.shape) < 2 or source in self.values:
                raise ModelError(f"{self.where}: its input '{t.name}' has no batch axis, or is named twice.")
            self.values[source] = self.builder.tensor(*Operands.activation(t, self.where))
        inputs = tuple(self.builder.tensors)
        for operator in operators:
            self._convert(operator)
        outputs = tuple(self.values[v].name for v in self._outputs if v in self.values)
        if not outputs or len(outputs) != len(self._outputs) or not set(outputs).isdisjoint(inputs):
            raise ModelError(f"{self.where}: nothing computes its output.", "The file may be damaged.")
        return self.builder.finish(inputs, outputs)

    def _convert(self, operator: FileOperator) -> None:
        supported = SUPPORTED.get(operator.op)
        place = self.content.tensors[operator.outputs[0]].name.split(";")[0]
        if supported is None:
            raise UnsupportedOpError(operator.op, place, NEAREST.get(operator.op, ""))
        supported.convert(Operands(operator, self.content, self.where, self.builder, self.values))

    def _refuse_floats(self) -> None:
        """Says of a model that is not quantized what to do, before any single operator is refused."""
        computed = {t.dtype for t in self.content.tensors if t.stored is None}
        constant = {t.dtype for t in self.content.tensors if t.stored is not None}
        if "int8" not in computed and not constant & {"int8", "int4"}:
            raise ModelError(
                f"{self.where} is not quantized to int8: its tensors are {', '.join(sorted(computed | constant))}.",
                "Convert it with the current TFLite converter and full integer quantization of int8 (with a "
                "representative data set); or give the network in PyTorch to 'thumbnet optimize'.",
            )
        for operator in self.content.operators:
            if operator.op in ("QUANTIZE", "DEQUANTIZE"):
                continue
            t = self.content.tensors[operator.outputs[0]]
            if t.dtype == "float32":
                raise ModelError(
                    f"{self.where} computes in float32 (node '{t.name.split(';')[0]}'); only its weights are int8.",
                    "Convert it with full integer quantization: give a representative data set, and allow only "
                    "TFLITE_BUILTINS_INT8.",
                )

    def _without_wrappers(self, operators: list[FileOperator]) -> list[FileOperator]:
        """Operators without a QUANTIZE from, and a DEQUANTIZE or QUANTIZE to, what the application sees."""
        inputs, outputs = list(self.content.inputs), list(self.content.outputs)
        for i, v in enumerate(inputs):
            readers = [o for o in operators if v in o.inputs]
            if len(readers) == 1 and readers[0].op == "QUANTIZE" and v not in outputs:
                kind = self._outside(v, readers[0].outputs[0])
                if kind != "int8":
                    self.input_type, inputs[i] = kind, readers[0].outputs[0]
                    operators.remove(readers[0])
        for i, v in enumerate(outputs):
            writers = [o for o in operators if v in o.outputs and o.op in ("DEQUANTIZE", "QUANTIZE")]
            read = outputs.count(v) > 1 or any(v in o.inputs for o in operators)
            kind = self._outside(v, writers[0].inputs[0]) if writers and not read else "int8"
            if kind != "int8":
                outputs[i] = writers[0].inputs[0]
                operators.remove(writers[0])
            self.output_types.append(kind)
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)
        return operators

    def _outside(self, outer: int, inner: int) -> Outside:
        """The type of a tensor at the model's end, if the one within is the same in int8; else int8."""
        outside, inside = self.content.tensors[outer], self.content.tensors[inner]
        if inside.dtype != "int8" or outside.dtype not in ("float32", "uint8"):
            return "int8"
        if outside.dtype == "uint8":
            _same_numbers(outside, inside, self.where)
            return "uint8"
        return "float32"
