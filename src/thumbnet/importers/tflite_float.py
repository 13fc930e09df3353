"""TFLite files → the float graph: float files as they are, quantized ones as the float network behind the numbers.

To build firmware of a quantized file with its own numbers, see `thumbnet.importers.tflite`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from thumbnet.errors import ModelError, ThumbnetError, UnsupportedOpError
from thumbnet.importers import litert_child
from thumbnet.importers.builder import Builder, Floats, Origin, Value
from thumbnet.importers.imported import TOLERANCE, Array, Imported, imported
from thumbnet.importers.model_file import model_bytes
from thumbnet.importers.report import REFUSED, SUPPORTED, UNCHECKED, NodeReport
from thumbnet.importers.tflite_float_layers import COMPUTING
from thumbnet.importers.tflite_float_moves import MOVING
from thumbnet.importers.tflite_operator import OperatorReader, short
from thumbnet.importers.tflite_quantized import compare_layers, range_of
from thumbnet.importers.tflite_reader import FileOperator, TfliteContent, read_tflite
from thumbnet.importers.tflite_values import RANGES, Convert, FloatOperator, own_shape

OPERATORS: dict[str, Convert] = {**COMPUTING, **MOVING}
QUANTIZED_TOLERANCE = 2.0
"""Of what an output varies: int8 rounds every value of every layer, and a softmax turns that into other classes where
random inputs lie between two. What proves the import is the comparison layer by layer."""

_TIMEOUT_S = 300
_INTEGERS = ("int32", "int64")


def import_tflite(path: Path, *, isolated: bool = True) -> Imported:
    """The graph of a `.tflite` file, checked against LiteRT, which runs in a process of its own if `isolated`.

    Raises `ModelError` for files that are no TFLite models, `UnsupportedOpError` for operators that Thumbnet lacks.
    """
    path = Path(path)
    data = model_bytes(path)
    conversion = _Conversion(read_tflite(data, str(path)), str(path), path.stem)
    for operator in conversion.content.operators:
        conversion.convert(operator)
    outputs = conversion.outputs()
    content = conversion.content
    ranges = [range_of(content.tensors[i]) for i in content.inputs]
    graph, run, quantized = (
        conversion.builder.graph(outputs),
        _LiteRT(data, str(path), isolated),
        _is_quantized(content),
    )
    if quantized:
        compare_layers(graph, conversion.inputs, conversion.values, content.tensors, content.inputs, run, str(path))
    return imported(
        graph,
        conversion.inputs,
        outputs,
        run,
        f"LiteRT {version('ai-edge-litert')}",
        tolerance_factor=QUANTIZED_TOLERANCE if quantized else TOLERANCE,
        ranges=ranges if any(ranges) else (),
    )


def check_tflite(path: Path) -> list[NodeReport]:
    """What is supported of a file's operators, all of them. Raises `ModelError` where it cannot be read at all."""
    path = Path(path)
    conversion = _Conversion(read_tflite(model_bytes(path), str(path)), str(path), path.stem)
    reports: list[NodeReport] = []
    for operator in conversion.content.operators:
        name = short(conversion.content.tensors[operator.outputs[0]])
        try:
            conversion.convert(operator)
        except ThumbnetError as e:
            lost = conversion.stand_in(operator)
            state = UNCHECKED if lost and not isinstance(e, UnsupportedOpError) else REFUSED
            reports.append(NodeReport(name, operator.op, state, e.hint or e.message))
        else:
            reports.append(NodeReport(name, operator.op, SUPPORTED, ""))
    return reports


def _is_quantized(content: TfliteContent) -> bool:
    """Whether LiteRT rounds: activations are quantized, or weights are, for which it quantizes them on the fly."""
    return any(len(t.scales) and t.dtype in (*RANGES, "int4") for t in content.tensors)


class _Conversion:
    """One pass over the operators, in the file's order."""

    def __init__(self, content: TfliteContent, where: str, name: str) -> None:
        from thumbnet.importers.tflite import NEAREST

        self.content, self.where, self.nearest = content, where, NEAREST
        self.builder = Builder(name, channels_last=True)
        self.values: dict[int, Value] = {}
        self.constants: dict[int, Floats] = {}
        self.inputs: list[Value] = []
        if not content.operators or not content.inputs:
            raise ModelError(f"{where} computes nothing: it has no operators or no inputs.")
        for index in content.inputs:
            t = content.tensors[index]
            reader = OperatorReader(FileOperator(-1, "INPUT", (), (index,), {}), content, where)
            if index in self.values or t.stored is not None or not t.shape or t.shape[0] != 1:
                raise ModelError(
                    f"{where}: its input '{short(t)}' has the shape {list(t.shape)}, or is named twice.",
                    "Convert the model for a batch of 1.",
                )
            self.values[index] = self.builder.input(short(t), own_shape(t, reader))
            self.inputs.append(self.values[index])

    def convert(self, operator: FileOperator) -> None:
        reader = FloatOperator(operator, self.content, self.where, self.builder, self.values, self.constants)
        made = [self.content.tensors[i] for i in operator.outputs]
        if operator.op != "DEQUANTIZE" and all(t.dtype in _INTEGERS and not len(t.scales) for t in made):
            if operator.op in ("ARG_MAX", "ARG_MIN", "CUSTOM"):
                raise reader.refuse(self.nearest[operator.op])
            return  # arithmetic with shapes, which the file holds already
        handler = OPERATORS.get(operator.op)
        if handler is None:
            raise reader.refuse(self.nearest.get(operator.op, ""))
        handler(reader)

    def stand_in(self, operator: FileOperator) -> bool:
        """New inputs of the graph for what could not be computed; whether an input of the operator was missing."""
        missing = any(
            i >= 0 and i not in self.values and i not in self.constants and self.content.tensors[i].stored is None
            for i in operator.inputs
        )
        for index in operator.outputs:
            t = self.content.tensors[index]
            reader = OperatorReader(operator, self.content, self.where)
            try:
                shape = own_shape(t, reader)
            except ThumbnetError:
                continue
            self.values.setdefault(index, self.builder.input(f"{short(t)}.refused", shape or (1,)))
        return missing

    def outputs(self) -> list[Value]:
        if not self.content.outputs or any(i not in self.values for i in self.content.outputs):
            raise ModelError(f"{self.where}: nothing computes its output as real numbers.", "The file may be damaged.")
        return [self.builder.output(Origin("output", "output"), self.values[i]) for i in self.content.outputs]


# --- LiteRT


@dataclass(frozen=True)
class _LiteRT:
    """Runs the file: the outputs, or the tensors of these indices."""

    data: bytes
    where: str
    isolated: bool

    def __call__(self, inputs: list[Array], tensors: Sequence[int] = ()) -> list[Array]:
        feeds = [np.asarray(x, np.float32) for x in inputs]
        if not self.isolated:
            return litert_child.invoke_all(self.data, feeds, tensors)
        return _in_child(self.data, self.where, feeds, tensors)


def _in_child(data: bytes, where: str, feeds: list[Array], tensors: Sequence[int]) -> list[Array]:
    """LiteRT is native code and may crash on files that it cannot run; it then takes no one with it."""
    with tempfile.TemporaryDirectory(prefix="thumbnet-") as folder:
        request, result = Path(folder, "request.npz"), Path(folder, "result.npz")
        arrays = {f"input{i}": x for i, x in enumerate(feeds)}
        model, indices = np.frombuffer(data, np.uint8), np.asarray(tensors, np.int64)
        np.savez(request, model=model, tensors=indices, **arrays)  # type: ignore[arg-type]
        command = [sys.executable, litert_child.__file__, str(request), str(result)]
        try:
            process = subprocess.run(command, capture_output=True, check=False, timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired as e:
            raise ModelError(f"{where}: LiteRT has not run it in {_TIMEOUT_S} s.", "Use a smaller network.") from e
        if process.returncode != 0:
            told = (process.stderr.decode(errors="replace").strip().splitlines() or ["it crashed"])[-1][:300]
            raise ModelError(f"{where}: LiteRT cannot run it: {told}", "Convert the model again.")
        with np.load(result, allow_pickle=False) as r:
            return [r[f"output{i}"] for i in range(len(r.files))]
