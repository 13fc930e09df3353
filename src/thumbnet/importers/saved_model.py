"""TensorFlow SavedModels → the float graph, through ONNX; checked against TensorFlow itself.

A SavedModel is a program that TensorFlow executes. It does so in a process of its own, with bounds on its time; what
that process can reach, it can reach as the user who starts it.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy.typing as npt

from thumbnet.errors import ModelError
from thumbnet.importers.child import Child, ChildError
from thumbnet.importers.imported import Imported, imported
from thumbnet.importers.model_file import MAX_FILE_BYTES
from thumbnet.importers.onnx import check_bytes, converted
from thumbnet.importers.onnx_reader import read_onnx
from thumbnet.importers.report import NodeReport

Array = npt.NDArray[Any]

_LOAD_SECONDS = 600  # to import TensorFlow, load and convert
_RUN_SECONDS = 120  # for one batch
_SCRIPT = Path(__file__).with_name("saved_model_child.py")
_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "TF_ENABLE_ONEDNN_OPTS": "0"}


def import_saved_model(folder: Path) -> Imported:
    """The network of the signature `serving_default` of a SavedModel.

    Raises `ModelError` for a folder that is none, that TensorFlow cannot load in time, or that differs from it, and
    `UnsupportedOpError` for an operation that the graph does not have.
    """
    folder = Path(folder)
    run = _opened(folder)
    made = converted(read_onnx(run.onnx, str(folder)), str(folder), folder.resolve().name)
    return imported(made.graph, made.inputs, made.outputs, run, run.runtime, batch=made.batch)


def check_saved_model(folder: Path) -> list[NodeReport]:
    """What can be said of each operation, as tf2onnx spells it. Raises `ModelError` where TensorFlow cannot load it."""
    folder = Path(folder)
    return check_bytes(_opened(folder).onnx, str(folder))


def _opened(folder: Path) -> TensorFlowRunner:
    if not (folder / "saved_model.pb").is_file():
        raise ModelError(f"{folder} is not a SavedModel: it has no saved_model.pb.")
    if sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) > MAX_FILE_BYTES:
        raise ModelError(f"{folder} has more bytes than any model for a microcontroller.")
    if missing := [name for name in ("tensorflow", "tf2onnx") if importlib.util.find_spec(name) is None]:
        raise ModelError(
            f"Reading SavedModels takes the package '{missing[0]}'.", "Run: pip install 'thumbnet[tensorflow]'."
        )
    return TensorFlowRunner(folder)


class TensorFlowRunner:
    """A SavedModel in a process that TensorFlow has to itself; it ends with this object. `onnx`: the same as ONNX."""

    def __init__(self, folder: Path) -> None:
        self._where = str(folder)
        self._child = Child(_SCRIPT, [str(folder.resolve())], _ENVIRONMENT)
        try:
            described = self._child.ask(_LOAD_SECONDS)
            self.runtime = str(described["runtime"])
            self.onnx = (self._child.work / "model.onnx").read_bytes()
        except (ChildError, KeyError, OSError) as e:
            self._child.close()
            raise self._failed(e if isinstance(e, ChildError) else ChildError("gives an answer that is none")) from e

    def __call__(self, inputs: list[Array]) -> list[Array]:
        try:
            return self._child.compute(_RUN_SECONDS, inputs)
        except ChildError as e:
            raise self._failed(e) from e

    def _failed(self, e: ChildError) -> ModelError:
        return ModelError(f"{self._where}: TensorFlow {e}.", "Save it again with model.export(folder).")
