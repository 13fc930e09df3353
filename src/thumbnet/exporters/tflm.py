"""TensorFlow Lite for Microcontrollers on this machine, from the optional package `tflite-micro`."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from thumbnet.errors import ToolchainError
from thumbnet.exporters import tflm_child

Int8s = npt.NDArray[np.int8]

_OVERHEAD_BYTES = 1 << 16  # of the interpreter, plus so much per tensor
_TENSOR_BYTES = 1 << 10
_WIDEST_BYTES = 4  # of a computed value: float32 at the ends of a file
_KEPT_LOG = 400  # characters of what TFLM printed


def run_tflm(model: bytes, inputs: Int8s | Sequence[Int8s], *, isolated: bool = True) -> Int8s | tuple[Int8s, ...]:
    """Runs a TFLite file sample by sample: inputs int8 [N, *shape] (one array, or one per input of the file), N ≥ 1.

    Files that take and give other types than int8 get and return these. Returns int8 [N, *output shape]; a tuple of
    them where the file has several outputs. TFLM aborts its process on files it cannot run: `isolated` gives it a
    process of its own. Raises `ToolchainError` where the package is absent or refuses the file.
    """
    if importlib.util.find_spec("tflite_micro") is None:
        raise ToolchainError(
            "The Python package 'tflite-micro' is not installed.",
            "Install it with `pip install 'thumbnet[tflm]'` (Linux on x86-64 or AArch64).",
        )
    feeds = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
    arena, outputs = _inspect(model)
    if isolated:
        results = _in_child(model, arena, feeds, outputs)
    else:
        try:
            results = tflm_child.invoke_all(model, arena, feeds, outputs)
        except (RuntimeError, ValueError) as e:
            raise _refused(str(e)) from e
    return results[0] if outputs == 1 else tuple(results)


def _inspect(model: bytes) -> tuple[int, int]:
    """(arena that surely suffices, number of outputs)."""
    content = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    graph = content.subgraphs[0]
    computed = [t for t in graph.tensors if content.buffers[t.buffer].data is None]
    activations = sum(_WIDEST_BYTES * prod(int(s) for s in t.shape) for t in computed if t.shape is not None)
    arena = _OVERHEAD_BYTES + 2 * activations + _TENSOR_BYTES * len(graph.tensors) + 8 * len(model)
    return arena, len(graph.outputs)


def _in_child(model: bytes, arena: int, feeds: Sequence[Int8s], outputs: int) -> list[Int8s]:
    with tempfile.TemporaryDirectory(prefix="thumbnet-") as folder:
        request, result = Path(folder, "request.npz"), Path(folder, "result.npz")
        arrays = {f"input{i}": x for i, x in enumerate(feeds)}
        scalars = {"arena": np.int64(arena), "outputs": np.int64(outputs)}
        np.savez(request, model=np.frombuffer(model, np.uint8), **scalars, **arrays)  # type: ignore[arg-type]
        command = [sys.executable, tflm_child.__file__, str(request), str(result)]
        process = subprocess.run(command, capture_output=True, check=False)
        if process.returncode != 0:
            raise _refused(process.stderr.decode(errors="replace").strip()[-_KEPT_LOG:])
        with np.load(result, allow_pickle=False) as r:
            return [r[f"output{i}"] for i in range(outputs)]


def _refused(log: str) -> ToolchainError:
    return ToolchainError(f"TensorFlow Lite Micro cannot run the file: {log}", "Please report this model.")
