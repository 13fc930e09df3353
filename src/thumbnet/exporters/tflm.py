"""TensorFlow Lite for Microcontrollers on this machine, from the optional package `tflite-micro`."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from thumbnet.errors import ToolchainError

_OVERHEAD_BYTES = 1 << 16  # of the interpreter, plus so much per tensor
_TENSOR_BYTES = 1 << 10


def run_tflm(
    model: bytes, inputs: npt.NDArray[np.int8] | Sequence[npt.NDArray[np.int8]]
) -> npt.NDArray[np.int8] | tuple[npt.NDArray[np.int8], ...]:
    """Runs a TFLite file sample by sample: inputs int8 [N, *shape] (one array, or one per input of the file).

    Returns int8 [N, *output shape]; a tuple of them where the file has several outputs. Raises `ToolchainError` where
    the package is absent or refuses the file.
    """
    try:
        from tflite_micro.python.tflite_micro import runtime
    except ImportError as e:
        raise ToolchainError(
            "The Python package 'tflite-micro' is not installed.",
            "Install it with `pip install 'thumbnet[tflm]'` (Linux on x86-64 or AArch64).",
        ) from e
    feeds = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
    arena, outputs = _inspect(model)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the package prints its count of variables
            interpreter = runtime.Interpreter.from_bytes(model, arena_size=arena)
        samples = [_invoke(interpreter, [x[k : k + 1] for x in feeds], outputs) for k in range(len(feeds[0]))]
    except (RuntimeError, ValueError) as e:
        raise ToolchainError(f"TensorFlow Lite Micro refuses the file: {e}.", "Please report this model.") from e
    stacked = tuple(np.concatenate([s[k] for s in samples]) for k in range(outputs))
    return stacked[0] if outputs == 1 else stacked


def _invoke(interpreter: Any, feeds: list[npt.NDArray[np.int8]], outputs: int) -> list[npt.NDArray[np.int8]]:
    for k, x in enumerate(feeds):
        interpreter.set_input(x, k)
    interpreter.invoke()
    return [np.array(interpreter.get_output(k), np.int8) for k in range(outputs)]


def _inspect(model: bytes) -> tuple[int, int]:
    """(arena that surely suffices, number of outputs)."""
    graph = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0)).subgraphs[0]
    activations = sum(prod(int(s) for s in t.shape) for t in graph.tensors if t.buffer == 0)
    return _OVERHEAD_BYTES + 2 * activations + _TENSOR_BYTES * len(graph.tensors) + 8 * len(model), len(graph.outputs)
