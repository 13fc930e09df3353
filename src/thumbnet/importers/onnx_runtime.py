"""ONNX Runtime as the reference: it runs what the bounded reader has read of a file, and nothing else of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.errors import ModelError

Array = npt.NDArray[Any]
_THREADS = 2


class OnnxRunner:
    """Runs a model given as bytes that hold all of it. Raises `ModelError` where ONNX Runtime refuses it."""

    def __init__(self, model: bytes, inputs: Sequence[str], outputs: Sequence[str], where: str) -> None:
        try:
            import onnxruntime
        except ImportError as e:
            raise ModelError(
                "ONNX models are compared with ONNX Runtime, which is not installed.",
                "Run: pip install 'thumbnet[onnx]'.",
            ) from e
        self.runtime = f"ONNX Runtime {onnxruntime.__version__}"
        self._inputs, self._outputs, self._where = tuple(inputs), list(outputs), where
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = _THREADS
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        # as the file says: fusions of quantizers, say, would round differently
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as e:  # its errors have no class in common
            raise self._refused(e) from e

    def __call__(self, inputs: list[Array]) -> list[Array]:
        feeds = {k: np.ascontiguousarray(x, np.float32) for k, x in zip(self._inputs, inputs, strict=True)}
        try:
            made = self._session.run(self._outputs, feeds)
        except Exception as e:
            raise self._refused(e) from e
        return [np.asarray(y, np.float32) for y in made]

    def _refused(self, e: Exception) -> ModelError:
        lines = str(e).splitlines() or [type(e).__name__]
        return ModelError(f"{self._where}: {self.runtime} refuses it: {lines[0][:300]}", "Export the model again.")
