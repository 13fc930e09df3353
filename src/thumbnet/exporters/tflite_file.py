"""TFLite files at the level of tensors and operators, over the schema's object API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from thumbnet.integer.arithmetic import pack_int4

_TYPES = {
    "int8": schema.TensorType.INT8,
    "int32": schema.TensorType.INT32,
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
}
_SCHEMA_VERSION = 3
_LAST_SMALL_CODE = 127  # builtin codes up to here go into the old one-byte field as well
_ALIGNMENT = 16  # of constant data, as the schema asks: microcontrollers read it in place


class _AlignedBuffer(schema.BufferT):  # type: ignore[misc]  # the schema comes untyped
    """A buffer whose data starts at a multiple of 16; the generated code leaves it unaligned."""

    def Pack(self, builder: Any) -> int:  # noqa: N802  # overrides generated code
        offset = None
        if self.data is not None:
            data = bytes(self.data)
            builder.StartVector(1, len(data), _ALIGNMENT)
            head = builder.Head() - len(data)
            builder.head = head
            builder.Bytes[head : head + len(data)] = data
            offset = builder.EndVector()
        schema.BufferStart(builder)
        if offset is not None:
            schema.BufferAddData(builder, offset)
        return int(schema.BufferEnd(builder))


class TfliteFile:
    """Collects tensors and operators of one subgraph; `finish` gives the bytes."""

    def __init__(self) -> None:
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._buffers: list[Any] = [_AlignedBuffer()]  # buffer 0 is empty by convention
        self._codes: dict[tuple[str, int], int] = {}

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: npt.DTypeLike,
        *,
        scales: npt.ArrayLike | None = None,
        zero_point: int = 0,
        axis: int = 0,
        data: npt.NDArray[Any] | None = None,
        bits: int = 8,
    ) -> int:
        """Adds a tensor and returns its index; with `data` it is a constant. Several scales lie along `axis`.

        With 4 `bits` int8 values are stored as int4, two in a byte.
        """
        t = schema.TensorT()
        t.name = name
        t.shape = [int(s) for s in shape]
        t.type = schema.TensorType.INT4 if bits == 4 else _TYPES[np.dtype(dtype).name]
        t.buffer = 0
        if data is not None:
            buffer = _AlignedBuffer()
            values = np.ascontiguousarray(data, dtype)
            buffer.data = (pack_int4(values) if bits == 4 else values).tobytes()
            self._buffers.append(buffer)
            t.buffer = len(self._buffers) - 1
        if scales is not None:
            q = schema.QuantizationParametersT()
            q.scale = np.atleast_1d(np.asarray(scales, np.float32))
            q.zeroPoint = np.full(len(q.scale), zero_point, np.int64)
            q.quantizedDimension = axis if len(q.scale) > 1 else 0
            t.quantization = q
        self._tensors.append(t)
        return len(self._tensors) - 1

    def operator(
        self,
        name: str,
        version: int,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: str = "",
        **kw: Any,
    ) -> None:
        """Adds an operator by its names in the schema: builtin code, options table and its fields."""
        op = schema.OperatorT()
        op.opcodeIndex = self._codes.setdefault((name, version), len(self._codes))
        op.inputs, op.outputs = list(inputs), list(outputs)
        if options:
            op.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            op.builtinOptions = getattr(schema, f"{options}T")()
            for key, value in kw.items():
                if not hasattr(op.builtinOptions, key):
                    raise AttributeError(f"{options} has no field '{key}'")
                setattr(op.builtinOptions, key, value)
        self._operators.append(op)

    @staticmethod
    def activation(name: str) -> int:
        """ "none", "relu" or "relu6" in the schema's enumeration."""
        return int(getattr(schema.ActivationFunctionType, name.upper()))

    @staticmethod
    def padding(name: str) -> int:
        """ "SAME" or "VALID" in the schema's enumeration."""
        return int(getattr(schema.Padding, name))

    def finish(self, name: str, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """The file, with one subgraph of these input and output tensors."""
        graph = schema.SubGraphT()
        graph.name = name
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs, graph.outputs = list(inputs), list(outputs)
        model = schema.ModelT()
        model.version = _SCHEMA_VERSION
        model.description = "Thumbnet"
        model.operatorCodes = [_code(*key) for key in self._codes]
        model.subgraphs, model.buffers = [graph], self._buffers
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _code(name: str, version: int) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, name)
    code.deprecatedBuiltinCode = min(code.builtinCode, _LAST_SMALL_CODE)
    code.version = version
    return code
