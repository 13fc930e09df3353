"""TensorFlow SavedModels → the float graph, through ONNX; checked against TensorFlow itself.

A SavedModel is a program that TensorFlow executes. It does so in a process of its own, with bounds on its time; what
that process can reach, it can reach as the user who starts it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.errors import ModelError
from thumbnet.importers.imported import Imported, imported
from thumbnet.importers.onnx import converted
from thumbnet.importers.onnx_reader import MAX_FILE_BYTES, read_onnx

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
    if not (folder / "saved_model.pb").is_file():
        raise ModelError(f"{folder} is not a SavedModel: it has no saved_model.pb.")
    if sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) > MAX_FILE_BYTES:
        raise ModelError(f"{folder} has more bytes than any model for a microcontroller.")
    if missing := [name for name in ("tensorflow", "tf2onnx") if importlib.util.find_spec(name) is None]:
        raise ModelError(
            f"Reading SavedModels takes the package '{missing[0]}'.", "Run: pip install 'thumbnet[tensorflow]'."
        )
    run = TensorFlowRunner(folder)
    content = read_onnx(run.onnx, str(folder))
    made = converted(content, str(folder), folder.resolve().name)
    return imported(made.graph, made.inputs, made.outputs, run, run.runtime, batch=made.batch)


class TensorFlowRunner:
    """A SavedModel in a process that TensorFlow has to itself; it ends with this object. `onnx`: the same as ONNX."""

    def __init__(self, folder: Path) -> None:
        self._where = str(folder)
        self._work = tempfile.TemporaryDirectory(prefix="thumbnet-")
        self._process = subprocess.Popen(
            # -P: the script's own folder has modules named as packages that it imports
            [sys.executable, "-P", str(_SCRIPT), str(folder.resolve()), self._work.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **_ENVIRONMENT},
            text=True,
        )
        self._end = weakref.finalize(self, _end, self._process, self._work)
        described = self._answered(_LOAD_SECONDS)
        try:
            self.runtime, self._count = str(described["runtime"]), int(described["outputs"])
            self.onnx = (Path(self._work.name) / "model.onnx").read_bytes()
        except (KeyError, TypeError, ValueError, OSError) as e:
            raise self._failed("gives an answer that is none") from e

    def __call__(self, inputs: list[Array]) -> list[Array]:
        path = Path(self._work.name) / "batch.npz"
        np.savez(path, allow_pickle=False, **{f"i{k}": np.asarray(x, np.float32) for k, x in enumerate(inputs)})
        self._ask(path.name)
        self._answered(_RUN_SECONDS)
        try:
            with np.load(path, allow_pickle=False) as made:
                return [np.asarray(made[f"o{k}"], np.float32) for k in range(self._count)]
        except (KeyError, ValueError, OSError) as e:
            raise self._failed("gives outputs that are none") from e

    def close(self) -> None:
        self._end()

    def _ask(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError) as e:
            raise self._failed("has ended") from e

    def _answered(self, seconds: float) -> Mapping[str, Any]:
        """The next line of the process. Raises `ModelError` for none in time, or one that tells of an error."""
        assert self._process.stdout is not None
        timer = threading.Timer(seconds, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            in_time = timer.is_alive()
            timer.cancel()
        try:
            answer = dict(json.loads(line))
        except (ValueError, TypeError) as e:
            raise self._failed("ended without an answer" if in_time else f"took longer than {seconds:g} s") from e
        if "error" in answer:
            raise self._failed(f"refuses it: {answer['error']}")
        return answer

    def _failed(self, how: str) -> ModelError:
        self.close()
        return ModelError(f"{self._where}: TensorFlow {how}.", "Save it again with model.export(folder).")


def _end(process: subprocess.Popen[str], work: tempfile.TemporaryDirectory[str]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    work.cleanup()
