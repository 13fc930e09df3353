"""Whatever a user may call a quantized model, as an integer graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from thumbnet.errors import ModelError, ThumbnetError
from thumbnet.files import read_json
from thumbnet.importers.qdq import QdqModel, import_qdq
from thumbnet.importers.tflite import TfliteModel, import_tflite
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.passes import validate

_HINT = "Give an int8 .tflite file, a quantized (QDQ) .onnx file, or a directory that Thumbnet has written."


@dataclass(frozen=True, eq=False)
class QuantizedModel:
    """An integer graph and where it comes from. `tflite` or `qdq` is the file it was read from, if it was one."""

    name: str
    graph: IntegerGraph
    tflite: TfliteModel | None = None
    qdq: QdqModel | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What users of the firmware must know of its inputs and outputs, a sentence each."""
        ports = (*self.qdq.inputs, *self.qdq.outputs) if self.qdq is not None else ()
        return tuple(p.note for p in ports if p.note)


def is_quantized(model: Any) -> bool:
    """Whether `load_quantized`, rather than `load`, takes it. Looks at names, and into JSON files."""
    if isinstance(model, IntegerGraph | bytes):
        return True
    if not isinstance(model, str | Path):
        return False
    path = Path(model)
    if path.is_dir():
        return (path / "integer.json").is_file()
    if path.suffix.lower() != ".json" or not path.is_file():
        return path.suffix.lower() in _READERS
    try:
        data = read_json(path)
    except ThumbnetError:
        return False
    return isinstance(data, dict) and "tensors" in data


def load_quantized(model: Any) -> QuantizedModel:
    """The integer graph of a quantized model.

    `model`: an `IntegerGraph`; a TFLite file as bytes; or the path of an int8 `.tflite` file, of a QDQ `.onnx` file, of
    an integer graph saved by Thumbnet (`.json`), or of a directory that holds one (a run, a compiled firmware). Raises
    `ModelError` for anything else, `UnsupportedOpError` for an unknown operation.
    """
    if isinstance(model, IntegerGraph):
        validate(model)
        return QuantizedModel(model.name, model)
    if isinstance(model, bytes):
        return _from_tflite(import_tflite(model))
    if not isinstance(model, str | Path):
        raise ModelError(f"A {type(model).__name__} is not a quantized model.", _HINT)
    path = Path(model)
    if not path.exists():
        raise ModelError(f"There is no file {path}.", _HINT)
    if path.is_dir():
        if (path / "original.tflite").is_file():
            return _from_tflite(import_tflite(path / "original.tflite", name=path.name))
        path = path / "integer.json"
        if not path.is_file():
            raise ModelError(f"{model} holds no integer graph (integer.json is missing).", _HINT)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ModelError(f"{path} is not a quantized model.", _HINT)
    return reader(path)


def _from_tflite(model: TfliteModel) -> QuantizedModel:
    return QuantizedModel(model.graph.name, model.graph, model)


def _from_qdq(path: Path) -> QuantizedModel:
    model = import_qdq(path)
    return QuantizedModel(model.graph.name, model.graph, qdq=model)


def load_integer_graph(path: Path) -> IntegerGraph:
    """A graph saved by Thumbnet, checked. Raises `ModelError` for any other file."""
    try:
        graph = IntegerGraph.load(path)
        validate(graph)
    except ModelError:
        raise
    except ThumbnetError as e:
        raise ModelError(e.message, e.hint) from e
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OSError, SafetensorError) as e:
        raise ModelError(f"{path} is not an integer graph saved by Thumbnet ({type(e).__name__}).", _HINT) from e
    return graph


def _saved(path: Path) -> QuantizedModel:
    graph = load_integer_graph(path)
    return QuantizedModel(graph.name, graph)


_READERS: dict[str, Callable[[Path], QuantizedModel]] = {
    ".tflite": lambda path: _from_tflite(import_tflite(path)),
    ".lite": lambda path: _from_tflite(import_tflite(path)),
    ".onnx": _from_qdq,
    ".json": _saved,
}
