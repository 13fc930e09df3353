"""ONNX Runtime as the reference, in a process of its own: it runs what the bounded reader has read, and nothing else of
a file; it may crash over that nevertheless, as it does over a Split with an output left out.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from thumbnet.errors import ModelError
from thumbnet.importers.child import Child, ChildError

Array = npt.NDArray[Any]

_SCRIPT = Path(__file__).with_name("onnx_runtime_child.py")
_LOAD_SECONDS, _RUN_SECONDS, _SHAPE_SECONDS = 120.0, 120.0, 60.0


class _Server:
    """The one process for all models, started when it is first needed, and again when it has ended."""

    def __init__(self) -> None:
        self._child: Child | None = None
        self._owner = 0
        self.dropped: deque[str] = deque()  # models that nobody needs any more

    def child(self) -> Child:
        if self._child is None or not self._child.alive or self._owner != os.getpid():  # a fork must not share it
            self._child, self._owner = Child(_SCRIPT), os.getpid()
            self.dropped.clear()
        return self._child

    def drops(self) -> list[str]:
        return [self.dropped.popleft() for _ in range(len(self.dropped))]


_SERVER = _Server()
_keys = itertools.count()


class OnnxRunner:
    """Runs a model given as bytes that hold all of it. Raises `ModelError` where ONNX Runtime refuses it or fails."""

    def __init__(self, model: bytes, inputs: Sequence[str], outputs: Sequence[str], where: str) -> None:
        if importlib.util.find_spec("onnxruntime") is None:
            raise ModelError(
                "ONNX models are compared with ONNX Runtime, which is not installed.",
                "Run: pip install 'thumbnet[onnx]'.",
            )
        self._model, self._where = model, where
        self._names = {"feeds": list(inputs), "fetches": list(outputs)}
        self._key = f"{os.getpid()}-{next(_keys)}"
        self._child: Child | None = None
        self.runtime = "ONNX Runtime"
        weakref.finalize(self, _SERVER.dropped.append, self._key)
        self._loaded()

    def __call__(self, inputs: list[Array]) -> list[Array]:
        child = self._loaded()
        try:
            return child.compute(_RUN_SECONDS, inputs, do="run", key=self._key, **self._names)
        except ChildError as e:
            raise self._refused(e) from e

    def _loaded(self) -> Child:
        """The process, with the model in it."""
        child = _SERVER.child()
        if child is not self._child:
            path = child.work / "model.onnx"
            path.write_bytes(self._model)
            try:
                answer = child.ask(_LOAD_SECONDS, do="load", key=self._key, path=str(path), drop=_SERVER.drops())
            except ChildError as e:
                raise self._refused(e) from e
            self._child, self.runtime = child, f"ONNX Runtime {answer.get('version', '')}".strip()
        return child

    def _refused(self, e: ChildError) -> ModelError:
        return ModelError(f"{self._where}: {self.runtime} {e}.", "Export the model again.")


def inferred_shapes(model: bytes) -> Mapping[str, tuple[int | None, ...]]:
    """The shapes of a model's values that ONNX itself works out, as far as it can. None: a size that is not fixed."""
    child = _SERVER.child()
    path = child.work / "model.onnx"
    path.write_bytes(model)
    try:
        found = child.ask(_SHAPE_SECONDS, do="shapes", path=str(path))["shapes"]
        return {str(k): tuple(int(d) or None for d in dims) for k, dims in found.items()}
    except (ChildError, KeyError, TypeError, ValueError, AttributeError):
        return {}
