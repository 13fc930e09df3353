"""Quantized ONNX files (QDQ: floats between QuantizeLinear and DequantizeLinear) → the integer graph.

Nothing is retrained or calibrated: scales, zero points and int8 weights are the file's. ONNX Runtime computes such a
graph in floats, or with kernels that scale in floats; the integer graph scales as TFLM does. They differ by a few
steps of the output (see docs/compile.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.errors import ModelError, UnsupportedOpError
from thumbnet.graph.layout import Layout, LayoutError
from thumbnet.importers.model_file import model_bytes
from thumbnet.importers.onnx_constants import NotFoldedError, folded
from thumbnet.importers.onnx_reader import FileNode, OnnxContent, Port, read_onnx
from thumbnet.importers.qdq_axes import AXES
from thumbnet.importers.qdq_functions import FUNCTIONS
from thumbnet.importers.qdq_layers import LAYERS
from thumbnet.importers.qdq_moves import MOVES
from thumbnet.importers.qdq_operands import Operands
from thumbnet.importers.qdq_quantize import MOVES_CONSTANT, QUANTIZE, Input, moved_constant
from thumbnet.importers.qdq_values import Pending, QuantizedConstant, Stored, Value
from thumbnet.importers.qdq_weighted import WEIGHTED
from thumbnet.importers.quantized import GraphBuilder
from thumbnet.integer.graph import IntegerGraph, QTensor
from thumbnet.integer.passes import validate

_HANDLERS: dict[str, Callable[[Operands], None]] = {**QUANTIZE, **WEIGHTED, **LAYERS, **FUNCTIONS, **AXES, **MOVES}
_NORM = "Use BatchNormalization instead; it costs nothing behind a convolution."
_TIME = "Recurrent layers are not supported; use convolutions over time."
_MEAN = "Use the mean over height and width instead."
_NEAREST = {
    **dict.fromkeys(("LayerNormalization", "InstanceNormalization", "GroupNormalization", "LRN"), _NORM),
    **dict.fromkeys(("LSTM", "GRU", "RNN", "Loop", "Scan", "If"), _TIME),
    **dict.fromkeys(("ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "GlobalLpPool", "LpPool"), _MEAN),
    **dict.fromkeys(("ArgMax", "TopK"), "Leave it out; take the largest output in the application."),
    **dict.fromkeys(("Attention", "Einsum", "Gather"), "Attention and look-ups are not supported."),
    "LogSoftmax": "Leave it out, or use Softmax.",
    "ConvTranspose": "Use nearest-neighbour interpolation followed by Conv.",
    "DepthToSpace": "Use nearest-neighbour interpolation followed by Conv.",
    "Upsample": "Export for opset 11 or later, which has Resize.",
}
_INTEGER_OPS = ("QLinearConv", "QLinearMatMul", "QLinearAdd", "QGemm")
_CONTRIBUTED = (("com.microsoft", "QuantizeLinear"), ("com.microsoft", "DequantizeLinear"))  # the same, in old files
_DYNAMIC_OPS = ("DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")
_QUANTIZE = (
    "Quantize it with onnxruntime.quantization.quantize_static(quant_format=QuantFormat.QDQ) on samples of your data"
)


@dataclass(frozen=True, eq=False)
class QdqPort:
    """An input or output, in the file and in the graph."""

    name: str
    dtype: str  # in the file: "float32", "int8" or "uint8"
    shape: tuple[int, ...]  # in the file, with a batch axis of 1
    tensor: QTensor
    channels_last: bool  # in the graph, unlike in the file

    def original(self, stored: npt.NDArray[np.int8]) -> npt.NDArray[Any]:
        """int8 [N, *tensor.shape] as the file wants it or gives it: [N, *shape[1:]]."""
        x = stored.reshape(-1, *self._memory)
        x = np.moveaxis(x, -1, 1) if self.channels_last else x
        if self.dtype == "uint8":
            return (x.view(np.uint8) ^ 0x80).reshape(x.shape)
        if self.dtype == "float32":
            return (x.astype(np.float32) - np.float32(self.tensor.zero_point)) * np.float32(self.tensor.scale)
        return x

    def stored(self, original: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
        """The inverse of `original`; floats are rounded and saturated."""
        x = np.asarray(original).reshape(-1, *self.shape[1:])
        x = np.moveaxis(x, 1, -1) if self.channels_last else x
        if self.dtype == "uint8":
            x = (x ^ np.uint8(0x80)).view(np.int8)
        elif self.dtype == "float32":
            q = np.rint(x.astype(np.float32) / np.float32(self.tensor.scale)) + self.tensor.zero_point
            x = np.clip(q, -128, 127).astype(np.int8)
        return x.reshape(-1, *self.tensor.shape)

    @property
    def _memory(self) -> tuple[int, ...]:
        return (*self.shape[2:], self.shape[1]) if self.channels_last else self.shape[1:]

    @property
    def note(self) -> str:
        """What a caller of the firmware must know about the order of values; "" where it is the file's."""
        moved = self.channels_last and self.shape[1] > 1 and any(d > 1 for d in self.shape[2:])
        return f"'{self.name}' is {list(self.shape)} in the ONNX file; here its channels come last." if moved else ""


@dataclass(frozen=True, eq=False)
class QdqModel:
    """A file's integer graph, and how its inputs and outputs relate to the file's."""

    graph: IntegerGraph
    inputs: tuple[QdqPort, ...]
    outputs: tuple[QdqPort, ...]


def import_qdq(model: str | Path | bytes, name: str = "") -> QdqModel:
    """The integer graph of a QDQ ONNX file, given as its path or its bytes.

    Images are stored height, width, channels, whatever the file has. Raises `ModelError` for a file that is damaged,
    not quantized, or of changing shape but for the batch, and `UnsupportedOpError` for one operation.
    """
    if isinstance(model, bytes):
        data, where, folder = model, "The model", None
    else:
        data, where, folder = model_bytes(Path(model)), str(model), Path(model).parent
        name = name or Path(model).stem
    content = read_onnx(data, where, folder)
    _refuse_floats(content, where)
    name = name or "model"
    with np.errstate(all="ignore"):  # what is not finite is refused where it would be stored
        try:
            return _Conversion(content, where, name, Layout.channels_last).model()
        except _OtherLayoutError as e:
            first = e.error
        try:  # the file does not say whether its inputs have channels first; they may come last as well
            return _Conversion(content, where, name, Layout.row_major).model()
        except (ModelError, _OtherLayoutError):
            raise first from None


class _OtherLayoutError(Exception):
    """Values lie in an order that does not do, for the layout that was taken for the inputs."""

    def __init__(self, error: ModelError) -> None:
        self.error = error


def _refuse_floats(content: OnnxContent, where: str) -> None:
    """Says of a model that is not quantized, or otherwise, what to do, before any single operation is refused."""
    ops = {n.op for n in content.nodes}
    if ops & set(_DYNAMIC_OPS):
        raise ModelError(f"{where} is quantized dynamically: its scales are computed as it runs.", f"{_QUANTIZE}.")
    if ops & set(_INTEGER_OPS):
        raise ModelError(f"{where} is quantized in the QOperator format.", f"{_QUANTIZE}.")
    if not ops & {"QuantizeLinear", "DequantizeLinear"}:
        raise ModelError(
            f"{where} is a float model; compile takes quantized ones.",
            f"{_QUANTIZE}; or give the network in PyTorch to 'thumbnet optimize' (which does not take ONNX yet).",
        )


class _Conversion:
    """One pass over the nodes, in the file's order."""

    def __init__(self, content: OnnxContent, where: str, name: str, layout: Callable[[list[int]], Layout]) -> None:
        self.content, self.where, self.layout = content, where, layout
        self.builder = GraphBuilder(name)
        self.values: dict[str, Value] = dict(content.constants)

    def model(self) -> QdqModel:
        inputs = [self._input(port) for port in self.content.inputs]
        for node in self.content.nodes:
            self._convert(node)
        outputs = tuple(self._output(port) for port in self.content.outputs)
        unread = [i.port.name for i in inputs if i.tensor is None]
        if unread or not inputs or not outputs:
            raise ModelError(f"{self.where}: its input '{', '.join(unread)}' is not used, or it has no output.")
        ports = tuple(
            QdqPort(i.port.name, i.port.dtype, i.layout.shape, i.tensor, i.layout.is_channels_last)
            for i in inputs
            if i.tensor is not None
        )
        names = tuple(p.tensor.name for p in ports)
        if not set(names).isdisjoint(p.tensor.name for p in outputs):
            raise ModelError(f"{self.where}: nothing computes its output.", "The file may be damaged.")
        graph = self.builder.finish(names, tuple(p.tensor.name for p in outputs))
        validate(graph)
        return QdqModel(graph, ports, outputs)

    def _input(self, port: Port) -> Input:
        sizes = [1, *port.shape[1:]] if port.shape else []
        if not sizes or port.shape is None or port.shape[0] not in (None, 1) or None in sizes:
            shape = [d or "?" for d in port.shape or ()]
            raise ModelError(
                f"{self.where}: its input '{port.name}' has the shape {shape}.",
                "Only the batch axis, the first, may be symbolic; if fixed, it must be 1.",
            )
        if port.dtype not in ("float32", "int8", "uint8"):
            raise ModelError(f"{self.where}: its input '{port.name}' is {port.dtype}, not float32, int8 or uint8.")
        made = Input(port, self.layout([int(d or 1) for d in sizes]), self.builder, self.where)
        self.values[port.name] = made
        return made

    def _output(self, port: Port) -> QdqPort:
        made = self.values.get(port.name)
        if isinstance(made, Pending) and made.own is not None:
            made = made.stored(made.own)
        if not isinstance(made, Stored):
            raise ModelError(
                f"{self.where}: its output '{port.name}' is not quantized, or nothing computes it.",
                f"{_QUANTIZE}, the last layer included.",
            )
        try:
            shape = made.layout.memory_shape
        except LayoutError as e:
            raise _OtherLayoutError(ModelError(f"{self.where}: its output '{port.name}' is refused.", str(e))) from e
        tensor = self.builder.reshape(f"{made.tensor.name}/output", made.tensor, shape)
        dtype = "float32" if made.real else "uint8" if made.unsigned else "int8"
        return QdqPort(port.name, dtype, made.layout.shape, tensor, made.layout.is_channels_last)

    def _convert(self, node: FileNode) -> None:
        if node.domain and (node.domain, node.op) not in _CONTRIBUTED:
            raise UnsupportedOpError(
                f"{node.domain}.{node.op}", node.name, "Only ONNX's own operators can be compiled."
            )
        o = Operands(node, self.content.opset, self.values, self.where, self.builder)
        try:
            if node.op in ("Shape", "Constant") or self._is_constant(o):
                o.done(self._constant(o))
            elif node.op in _HANDLERS:
                _HANDLERS[node.op](o)
            else:
                raise o.refuse(_NEAREST.get(node.op, ""))
        except LayoutError as e:
            raise _OtherLayoutError(o.refuse(str(e))) from e

    def _is_constant(self, o: Operands) -> bool:
        """Whether the first input, and with it all that matter, is a constant that is not to be quantized."""
        given = [k for k in range(len(o.node.inputs)) if o.has(k)]
        if not given or (o.op in QUANTIZE and o.op != "Cast"):
            return False
        if isinstance(o.value(given[0]), QuantizedConstant):
            return o.op in MOVES_CONSTANT
        return all(isinstance(o.value(k), np.ndarray) for k in given)

    def _constant(self, o: Operands) -> Value:
        if o.op == "Shape":
            return self._shape(o)
        first = o.value(0) if o.has(0) else None
        if isinstance(first, QuantizedConstant):
            return moved_constant(o, first)
        inputs = [o.constant(k) if o.has(k) else np.zeros(0, np.int64) for k in range(len(o.node.inputs))]
        try:
            return folded(o.op, inputs, o.node.attributes)
        except NotFoldedError:
            raise o.refuse("It computes constants only; export the model with constants folded.") from None
        except ValueError as e:
            raise o.broken(str(e)) from e

    def _shape(self, o: Operands) -> Value:
        x = o.value()
        if isinstance(x, np.ndarray):
            shape = x.shape
        else:
            shape = x.stored.shape if isinstance(x, QuantizedConstant) else x.layout.shape
        rank = len(shape)
        start, end = o.integer("start", 0), o.integer("end", rank)
        return np.array(shape[slice(start, end)], np.int64)
