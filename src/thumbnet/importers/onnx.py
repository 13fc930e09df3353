"""Float ONNX files → the float graph, checked against ONNX Runtime. Quantized files (QDQ) give the float network that
they were quantized from, but for the rounding of its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thumbnet.errors import ModelError, ThumbnetError, UnsupportedOpError
from thumbnet.graph.graph import Graph
from thumbnet.importers.builder import Builder, Origin, Value
from thumbnet.importers.imported import TOLERANCE, Imported, imported
from thumbnet.importers.onnx_constants import NotFoldedError, folded
from thumbnet.importers.onnx_functions import FUNCTIONS
from thumbnet.importers.onnx_moves import MOVES
from thumbnet.importers.onnx_nearest import HOPELESS, NEAREST, OTHER_DOMAIN
from thumbnet.importers.onnx_operands import ROWWISE, Handler, Known, Operation, Results, Rows
from thumbnet.importers.onnx_pools import POOLS
from thumbnet.importers.onnx_quantized import QUANTIZED, input_range
from thumbnet.importers.onnx_reader import (
    MAX_FILE_BYTES,
    FileNode,
    OnnxContent,
    Port,
    inferred_shapes,
    read_onnx,
    standalone,
)
from thumbnet.importers.onnx_resize import RESIZE
from thumbnet.importers.onnx_runtime import OnnxRunner
from thumbnet.importers.onnx_shapes import SHAPES
from thumbnet.importers.onnx_weighted import WEIGHTED
from thumbnet.importers.report import REFUSED, SUPPORTED, UNCHECKED, NodeReport

HANDLERS: dict[str, Handler] = {**WEIGHTED, **FUNCTIONS, **POOLS, **MOVES, **SHAPES, **RESIZE, **QUANTIZED}
QDQ_TOLERANCE = 0.5
"""Of what an output varies, for quantized files: ONNX Runtime rounds every activation, the float network none."""

_MAX_COMPUTED_BYTES = 1 << 30  # of constants
_CONTRIBUTED = "com.microsoft"  # old files have the two quantizers there
_FIXED = "Give every axis but the first a size: python -m onnxruntime.tools.make_dynamic_shape_fixed."


def import_onnx(path: Path) -> Imported:
    """The network of a file, as ONNX Runtime computes it.

    Raises `ModelError` for a file that is damaged, of changing shape but for the batch, or unlike what ONNX Runtime
    computes, and `UnsupportedOpError` for an operation that the graph does not have.
    """
    path = Path(path)
    data = _read(path)
    content = read_onnx(data, str(path), path.parent)
    made = converted(content, str(path), path.stem)
    names = [p.name for p in content.inputs]
    run = OnnxRunner(standalone(data, str(path), path.parent), names, [p.name for p in content.outputs], str(path))
    quantized = any(node.op in QUANTIZED for node in content.nodes)
    return imported(
        *(made.graph, made.inputs, made.outputs, run, run.runtime),
        batch=made.batch,
        tolerance_factor=QDQ_TOLERANCE if quantized else TOLERANCE,
        ranges=made.ranges,
    )


def check_onnx(path: Path) -> list[NodeReport]:
    """What can be said of each node of a file. Raises `ModelError` for a file that cannot be read at all."""
    path = Path(path)
    data = _read(path)
    content = read_onnx(data, str(path), path.parent)

    def shapes() -> Mapping[str, Sequence[int | None]]:
        return inferred_shapes(data, str(path), path.parent)

    first = _Conversion(content, str(path), path.stem, False).reports(shapes)
    if all(r.state == SUPPORTED for r in first):
        return first
    second = _Conversion(content, str(path), path.stem, True).reports(shapes)
    return second if _unsupported(second) < _unsupported(first) else first


def _unsupported(reports: Sequence[NodeReport]) -> int:
    return sum(r.state != SUPPORTED for r in reports)


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ModelError(f"{path} has {path.stat().st_size} bytes, more than any model for a microcontroller.")
        return path.read_bytes()
    except OSError as e:
        raise ModelError(f"{path} cannot be read ({e.strerror}).") from e


@dataclass(frozen=True, eq=False)
class Converted:
    graph: Graph
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    batch: int | None
    ranges: tuple[tuple[float, float] | None, ...]

    @property
    def moves(self) -> int:
        return sum(n.op == "transpose" for n in self.graph.nodes)


def converted(content: OnnxContent, where: str, name: str) -> Converted:
    """With the channels of its inputs where fewer images must be transposed: files do not say where they are."""
    _refuse_control(content)
    made, error = None, None
    for channels_last in (False, True):
        try:
            other = _Conversion(content, where, name, channels_last).converted()
        except ThumbnetError as e:
            error = error or e
            continue
        if not other.moves:
            return other
        made = other if made is None or other.moves < made.moves else made
    if made is None:
        assert error is not None
        raise error
    return made


class _Conversion:
    """One pass over the nodes, in the file's order. `channels_last`: that of the inputs' images."""

    def __init__(self, content: OnnxContent, where: str, name: str, channels_last: bool) -> None:
        self.content, self.where, self.channels_last = content, where, channels_last
        self.builder = Builder(name, channels_last=False)
        self.values: dict[str, Known] = dict(content.constants)
        self.batch = _batch(content, where)
        self.bytes_left = _MAX_COMPUTED_BYTES

    def converted(self) -> Converted:
        inputs = tuple(self._input(p) for p in self.content.inputs)
        for node in self.content.nodes:
            self._convert(node)
        outputs = tuple(self._output(p) for p in self.content.outputs)
        if not inputs or not outputs:
            raise ModelError(f"{self.where} has no {'input' if not inputs else 'output'}.")
        ranges = tuple(self._range(p) for p in self.content.inputs)
        return Converted(self.builder.graph(outputs), inputs, outputs, self.batch, ranges)

    def reports(self, shapes: Callable[[], Mapping[str, Sequence[int | None]]] = dict) -> list[NodeReport]:
        """What becomes of each node. `shapes` are asked for once a node is refused: what it would compute goes on with
        the shape that ONNX says it has; without, what reads it is not checked.
        """
        for port in self.content.inputs:
            self._input(port)
        known: Mapping[str, Sequence[int | None]] | None = None
        made = []
        for node in self.content.nodes:
            made.append(self._report(node))
            if made[-1].state == REFUSED:
                known = shapes() if known is None else known
                self._stand_in(node, known)
        return made

    def _stand_in(self, node: FileNode, shapes: Mapping[str, Sequence[int | None]]) -> None:
        """Values of the right shapes in place of those that a node would compute."""
        for name in node.outputs:
            found = shapes.get(name)
            if name and name not in self.values and found and None not in found[1:] and found[0] in (None, self.batch):
                self.values[name] = self.builder.input(name, tuple(int(d or 1) for d in found[1:]))

    def _report(self, node: FileNode) -> NodeReport:
        unknown = next((v for v in node.inputs if v and v not in self.values), None)
        if unknown is not None:
            return NodeReport(node.name, node.op, UNCHECKED, f"It reads '{unknown}', which is not known.")
        try:
            self._convert(node)
        except ThumbnetError as e:
            reason = e.hint if isinstance(e, UnsupportedOpError) else str(e)
            return NodeReport(node.name, node.op, REFUSED, reason)
        return NodeReport(node.name, node.op, SUPPORTED, "")

    # --- in and out

    def _input(self, port: Port) -> Value:
        shape = port.shape
        if port.dtype != "float32":
            raise ModelError(
                f"{self.where}: its input '{port.name}' is {port.dtype}, not float32.",
                "Leave conversions to the application; a network quantized to int8 is for thumbnet compile.",
            )
        if not shape or any(d is None for d in shape[1:]):
            told = [d or "?" for d in shape or ()]
            raise ModelError(f"{self.where}: its input '{port.name}' has the shape {told}.", _FIXED)
        made = self.builder.input(port.name, tuple(int(d or 1) for d in shape[1:]), self.channels_last)
        if port.name in self.values:
            raise ModelError(f"{self.where} has two values called '{port.name}'.", "The file may be damaged.")
        self.values[port.name] = made
        return made

    def _output(self, port: Port) -> Value:
        made = self.values.get(port.name)
        origin = Origin("output", port.name)
        if not isinstance(made, Value):
            raise ModelError(f"{self.where}: nothing computes its output '{port.name}'.", "The file may be damaged.")
        if isinstance(made, Rows):
            raise ModelError(
                f"{self.where}: its output '{port.name}' joins its samples with the batch axis.", "Reshape it."
            )
        if port.dtype != "float32":
            raise ModelError(
                f"{self.where}: its output '{port.name}' is {port.dtype}, not float32.",
                "Let the model end in floats; a network quantized to int8 is for thumbnet compile.",
            )
        # where images come in with channels last, they may go out so as well
        return self.builder.output(origin, made, self.builder.convention(made) if self.channels_last else None)

    def _range(self, port: Port) -> tuple[float, float] | None:
        """What an input can hold that is quantized at once."""
        readers = [n for n in self.content.nodes if port.name in n.inputs]
        if len(readers) != 1 or readers[0].op != "QuantizeLinear":
            return None
        return input_range(self._operation(readers[0]))

    # --- nodes

    def _operation(self, node: FileNode) -> Operation:
        return Operation(node, self.content.opset, self.values, self.where, self.builder, self.batch)

    def _convert(self, node: FileNode) -> None:
        o = self._operation(node)
        if node.domain and not (node.domain == _CONTRIBUTED and node.op in QUANTIZED):
            raise o.refuse(OTHER_DOMAIN)
        results = self._results(o)
        for k, made in enumerate(results if isinstance(results, list | tuple) else [results]):
            self.bytes_left -= made.nbytes if isinstance(made, np.ndarray) else 0
            if self.bytes_left < 0:
                raise o.broken(f"and those before it compute constants of more than {_MAX_COMPUTED_BYTES >> 20} MB")
            o.done(made, k)

    def _results(self, o: Operation) -> Results:
        given = [o.value(k) for k in range(len(o.node.inputs)) if o.has(k)]
        if o.op in ("Shape", "Size"):
            return _shape(o)
        if o.op not in QUANTIZED and all(isinstance(v, np.ndarray) for v in given):
            return _constant(o)
        if o.op not in HANDLERS:
            raise o.refuse(NEAREST.get(o.op, ""))
        return _by_rows(o) if any(isinstance(v, Rows) for v in given) else HANDLERS[o.op](o)


def _by_rows(o: Operation) -> Results:
    """Of values that the file has joined with the batch."""
    given = [o.value(k) for k in range(len(o.node.inputs)) if o.has(k)]
    if o.op not in ROWWISE or not all(isinstance(v, Rows | np.ndarray) for v in given):
        raise o.mixes()
    made = HANDLERS[o.op](o)
    return Rows(made.ref, made.layout) if isinstance(made, Value) and o.op != "Reshape" else made


def _refuse_control(content: OnnxContent) -> None:
    """Branches, loops and recurrent layers first: around them all kinds of operations are found."""
    for node in content.nodes:
        if not node.domain and node.op in HOPELESS:
            raise UnsupportedOpError(node.op, node.name, NEAREST[node.op])


def _batch(content: OnnxContent, where: str) -> int | None:
    """The only batch size that a file takes; None for any."""
    sizes = {p.shape[0] for p in content.inputs if p.shape}
    if len(sizes) > 1:
        raise ModelError(f"{where}: its inputs have different batch sizes.", "The first axis must be the batch's.")
    return next(iter(sizes), None)


def _constant(o: Operation) -> Known:
    inputs = [o.constant(k) if o.has(k) else np.zeros(0, np.int64) for k in range(len(o.node.inputs))]
    try:
        return folded(o.op, inputs, o.node.attributes)
    except NotFoldedError:
        raise o.refuse(
            NEAREST.get(o.op) or "It computes constants only; export the model with constants folded."
        ) from None
    except ValueError as e:
        raise o.broken(str(e)) from e


def _shape(o: Operation) -> Known:
    x = o.value()
    shape = o.full_shape(x) if isinstance(x, Value) else x.shape
    if o.op == "Size":
        return np.array(np.prod([float(d) for d in shape]), np.int64)
    rank = len(shape)
    start, end = o.integer("start", 0), o.integer("end", rank)
    return np.array(shape[slice(start, end)], np.int64)


def supported() -> Mapping[str, Handler]:
    """The operations that have handlers, for tables of what is supported."""
    return HANDLERS
