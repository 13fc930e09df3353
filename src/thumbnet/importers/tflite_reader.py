"""A TFLite file as plain values: everything in it that is read is checked against the file's size first.

Files come from strangers, so nothing is unpacked as a whole: a few kilobytes of a FlatBuffer can name the same table a
million times. Each table is visited once, by its accessors, and every vector is a view into the file.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from thumbnet.errors import ModelError
from thumbnet.importers.model_file import MAX_FILE_BYTES

MAX_TENSORS = MAX_OPERATORS = 8192
MAX_RANK = 8
MAX_TENSOR_BYTES = 64 << 20
MAX_NAME_BYTES = 4096
MAX_LINKS = 256  # inputs or outputs of one operator
MAX_CHANNELS = 1 << 16  # with scales of their own

_IDENTIFIER = b"TFL3"
# What flatbuffers and numpy raise on bytes that are no TFLite file.
_DAMAGED = (struct.error, ValueError, TypeError, LookupError, OverflowError, AttributeError, AssertionError)
_ITEM_BYTES = {
    "int8": 1,
    "uint8": 1,
    "bool": 1,
    "int16": 2,
    "float16": 2,
    "int32": 4,
    "float32": 4,
    "int64": 8,
    "float64": 8,
}
_READ = {
    "int8": np.int8,
    "uint8": np.uint8,
    "int16": "<i2",
    "float16": "<f2",
    "int32": "<i4",
    "int64": "<i8",
    "float32": "<f4",
}


def _names(enumeration: Any) -> dict[int, str]:
    return {v: k for k, v in vars(enumeration).items() if not k.startswith("_")}


_OPERATORS = _names(schema.BuiltinOperator)
_TYPES = {v: k.lower() for v, k in _names(schema.TensorType).items()}
_OPTIONS = {v: k for v, k in _names(schema.BuiltinOptions).items() if k != "NONE"}
_WANTED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Conv2DOptions": (
            *("Padding", "StrideH", "StrideW", "DilationHFactor", "DilationWFactor"),
            "FusedActivationFunction",
        ),
        "DepthwiseConv2DOptions": (
            *("Padding", "StrideH", "StrideW", "DilationHFactor", "DilationWFactor"),
            "FusedActivationFunction",
        ),
        "TransposeConvOptions": ("Padding", "StrideH", "StrideW", "FusedActivationFunction"),
        "Pool2DOptions": ("Padding", "StrideH", "StrideW", "FilterHeight", "FilterWidth", "FusedActivationFunction"),
        "FullyConnectedOptions": ("FusedActivationFunction", "WeightsFormat"),
        "AddOptions": ("FusedActivationFunction",),
        "SubOptions": ("FusedActivationFunction",),
        "MulOptions": ("FusedActivationFunction",),
        "DivOptions": ("FusedActivationFunction",),
        "SoftmaxOptions": ("Beta",),
        "ReducerOptions": ("KeepDims",),
        "ConcatenationOptions": ("Axis", "FusedActivationFunction"),
        "StridedSliceOptions": ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask", "Offset"),
        "SplitOptions": ("NumSplits",),
        "ResizeNearestNeighborOptions": ("AlignCorners", "HalfPixelCenters"),
        "ResizeBilinearOptions": ("AlignCorners", "HalfPixelCenters"),
        "LeakyReluOptions": ("Alpha",),
        "SpaceToDepthOptions": ("BlockSize",),
        "DepthToSpaceOptions": ("BlockSize",),
        "MirrorPadOptions": ("Mode",),
        "PackOptions": ("Axis",),
        "UnpackOptions": ("Axis",),
    }
)


@dataclass(frozen=True, eq=False)
class FileTensor:
    """A tensor of the file. `stored` is a read-only view of a constant's values, None for computed ones."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str  # "int8", "float32", …
    dynamic: bool  # an axis other than the first has no fixed size
    scales: npt.NDArray[np.float32]  # empty where the tensor is not quantized
    zero_points: npt.NDArray[np.int64]  # as many as scales
    axis: int  # along which several scales lie
    stored: npt.NDArray[Any] | None

    @property
    def values(self) -> npt.NDArray[Any] | None:
        """The constant's values in its shape; those of int4 tensors unpacked as int8."""
        if self.stored is None:
            return None
        return (_nibbles(self.stored, math.prod(self.shape)) if self.dtype == "int4" else self.stored).reshape(
            self.shape
        )


@dataclass(frozen=True, eq=False)
class FileOperator:
    """An operator; `options` holds the fields of its options table that matter, by their names in the schema."""

    index: int
    op: str  # name in the schema, such as "CONV_2D"; for custom ones "CUSTOM"
    inputs: tuple[int, ...]  # −1: left out
    outputs: tuple[int, ...]
    options: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class TfliteContent:
    """The only subgraph of a file."""

    tensors: tuple[FileTensor, ...]
    operators: tuple[FileOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_tflite(data: bytes, where: str) -> TfliteContent:
    """Raises `ModelError`, which names `where`, for anything but a whole TFLite file with one subgraph."""
    if len(data) > MAX_FILE_BYTES:
        raise ModelError(f"{where} has {len(data)} bytes, more than any model for a microcontroller.")
    if data[4:8] != _IDENTIFIER:
        raise ModelError(f"{where} is no TFLite file: it does not carry the mark 'TFL3'.", "Is it the right file?")
    try:
        return _content(data, where)
    except _DAMAGED as e:
        raise ModelError(
            f"{where} is damaged: its contents point outside of it or make no sense ({type(e).__name__}).",
            "Copy or convert the model again.",
        ) from e


def _content(data: bytes, where: str) -> TfliteContent:
    model = schema.Model.GetRootAs(data, 0)
    if model.SubgraphsLength() != 1:
        raise ModelError(
            f"{where} holds {model.SubgraphsLength()} subgraphs.",
            "Only models without control flow (WHILE, IF, CALL) and with a single signature can be compiled.",
        )
    graph = model.Subgraphs(0)
    for what, count, limit in (
        ("tensors", graph.TensorsLength(), MAX_TENSORS),
        ("operators", graph.OperatorsLength(), MAX_OPERATORS),
        ("operator codes", model.OperatorCodesLength(), MAX_OPERATORS),
    ):
        if count > limit:
            raise ModelError(f"{where} has {count} {what}; at most {limit} are read.")
    codes = tuple(_code(model.OperatorCodes(i)) for i in range(model.OperatorCodesLength()))
    tensors = tuple(_tensor(model, graph.Tensors(i), i, where) for i in range(graph.TensorsLength()))
    operators = tuple(_operator(graph.Operators(i), i, codes, len(tensors)) for i in range(graph.OperatorsLength()))
    inputs, outputs = _links(graph, "Inputs", len(tensors)), _links(graph, "Outputs", len(tensors))
    if min((*inputs, *outputs), default=0) < 0:
        raise ValueError("an input or output of the model is left out")
    return TfliteContent(tensors, operators, inputs, outputs)


def _code(code: Any) -> str:
    """Old files have only the one-byte field, new ones both."""
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    return _OPERATORS.get(number, f"operator {number}")


def _links(table: Any, what: str, tensors: int) -> tuple[int, ...]:
    """Indices of tensors from a vector of a subgraph or operator; −1 stands for none."""
    count = getattr(table, f"{what}Length")()
    if count > MAX_LINKS:
        raise ValueError(f"{count} {what}")
    found = tuple(int(v) for v in getattr(table, f"{what}AsNumpy")()) if count else ()
    if any(not -1 <= v < tensors for v in found):
        raise ValueError("a tensor that does not exist")
    return found


def _operator(op: Any, index: int, codes: tuple[str, ...], tensors: int) -> FileOperator:
    if op.OpcodeIndex() >= len(codes):
        raise ValueError("an operator code that does not exist")
    outputs = _links(op, "Outputs", tensors)
    if not outputs or min(outputs) < 0:
        raise ValueError("an operator without output")
    return FileOperator(index, codes[op.OpcodeIndex()], _links(op, "Inputs", tensors), outputs, _options(op))


def _options(op: Any) -> Mapping[str, Any]:
    kind, table = _OPTIONS.get(op.BuiltinOptionsType(), ""), op.BuiltinOptions()
    if kind not in _WANTED or table is None:
        return {}
    options = getattr(schema, kind)()
    options.Init(table.Bytes, table.Pos)
    return {field: getattr(options, field)() for field in _WANTED[kind]}


def _tensor(model: Any, t: Any, index: int, where: str) -> FileTensor:
    raw = t.Name() or b""
    if len(raw) > MAX_NAME_BYTES:
        raise ValueError(f"a name of {len(raw)} bytes")
    name = raw.decode("utf-8", errors="replace") or f"tensor_{index}"
    if t.ShapeLength() > MAX_RANK:
        raise ModelError(f"{where}: the tensor '{name}' has {t.ShapeLength()} axes; at most {MAX_RANK} are read.")
    shape = _integers(t, "Shape")
    signature = _integers(t, "ShapeSignature") if 0 < t.ShapeSignatureLength() <= MAX_RANK else shape
    dtype = _TYPES.get(t.Type(), f"type {t.Type()}")
    item = _ITEM_BYTES.get(dtype, 1)
    if any(d < 0 for d in shape) or math.prod(shape) * item > MAX_TENSOR_BYTES:
        raise ModelError(
            f"{where}: the tensor '{name}' has the shape {list(shape)}.",
            f"At most {MAX_TENSOR_BYTES >> 20} MB per tensor are read, and every size must be fixed.",
        )
    scales, zero_points, axis = _quantization(t.Quantization())
    stored = _constant(model, t, shape, dtype, name, where)
    dynamic = any(d < 0 for d in signature[1:])
    return FileTensor(index, name, shape, dtype, dynamic, scales, zero_points, axis, stored)


def _integers(table: Any, what: str) -> tuple[int, ...]:
    if not getattr(table, f"{what}Length")():
        return ()
    return tuple(int(v) for v in getattr(table, f"{what}AsNumpy")())


def _quantization(q: Any) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], int]:
    if q is None or not q.ScaleLength():
        return np.zeros(0, np.float32), np.zeros(0, np.int64), 0
    scales = q.ScaleAsNumpy().view("<f4")
    points = q.ZeroPointAsNumpy().view("<i8") if q.ZeroPointLength() else np.zeros(1, np.int64)
    if len(points) not in (1, len(scales)) or len(scales) > MAX_CHANNELS:
        raise ValueError("scales and zero points differ in number")
    return scales, np.broadcast_to(points, scales.shape), int(q.QuantizedDimension())


def _constant(model: Any, t: Any, shape: tuple[int, ...], dtype: str, name: str, where: str) -> npt.NDArray[Any] | None:
    """The values in the tensor's buffer, flat; None where it has none, or is of a type that nothing here reads."""
    if t.Buffer() >= model.BuffersLength():
        raise ValueError("a buffer that does not exist")
    buffer = model.Buffers(t.Buffer())
    if buffer.Size() or t.ExternalBuffer():
        raise ModelError(f"{where} keeps the values of '{name}' outside of its tables.", "Convert it again, whole.")
    if not buffer.DataLength():
        return None
    if t.Sparsity() is not None:
        raise ModelError(f"{where}: the tensor '{name}' is stored sparsely.", "Convert it without sparse storage.")
    stored, count = buffer.DataAsNumpy(), math.prod(shape)
    expected = -(-count // 2) if dtype == "int4" else count * _ITEM_BYTES.get(dtype, 1)
    if dtype not in _READ and dtype != "int4":
        return None  # nothing here computes with it; whoever needs it says so
    if len(stored) != expected:
        raise ModelError(
            f"{where}: the tensor '{name}' takes {expected} bytes, but {len(stored)} are stored.",
            "The file is damaged; copy or convert it again.",
        )
    values: npt.NDArray[Any] = stored if dtype == "int4" else stored.view(_READ[dtype])
    return values


def _nibbles(stored: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.int8]:
    """int4 values, two a byte, the low half first, as int8."""
    pairs = np.stack([stored << 4, stored & 0xF0], axis=-1).view(np.int8)
    return (pairs >> 4).reshape(-1)[:count]
