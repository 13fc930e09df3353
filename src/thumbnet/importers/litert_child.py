"""The process in which LiteRT runs: `python litert_child.py REQUEST RESULT`, both `.npz` without pickles.

REQUEST holds `model`, `tensors` (the indices of those to give; none: the outputs) and `input0`, `input1`, … of float32,
[N, *shape] each; RESULT gets `output0`, …. Quantized inputs are rounded to what the model takes, quantized outputs
become real numbers. Run by its path, it imports nothing of
Thumbnet, so that it starts fast.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def invoke_all(model: bytes, feeds: Sequence[Array], tensors: Sequence[int] = ()) -> list[Array]:
    """Every sample by itself, by LiteRT's own kernels, without delegates."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(
        model_content=model,
        experimental_op_resolver_type=plain,
        num_threads=1,
        experimental_preserve_all_tensors=len(tensors) > 0,
    )
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if len(tensors):
        details = {d["index"]: d for d in interpreter.get_tensor_details()}
        outputs = [details[int(i)] for i in tensors]
    results: list[list[Array]] = [[] for _ in outputs]
    for k in range(len(feeds[0])):
        for x, detail in zip(feeds, inputs, strict=True):
            interpreter.set_tensor(detail["index"], _stored(x[k], detail))
        interpreter.invoke()
        for made, detail in zip(results, outputs, strict=True):
            made.append(_real(interpreter.get_tensor(detail["index"]), detail))
    return [np.concatenate(r) if r[0].ndim and len(r[0]) == 1 else np.stack(r) for r in results]


def _stored(x: Array, detail: Any) -> Array:
    dtype, (scale, zero) = detail["dtype"], detail["quantization"]
    if dtype != np.float32:
        limits = np.iinfo(dtype)
        x = np.clip(np.rint(x / scale) + zero, limits.min, limits.max)
    return x.reshape(detail["shape"]).astype(dtype)


def _real(y: Array, detail: Any) -> Array:
    scale, zero = detail["quantization"]
    return y if y.dtype == np.float32 else ((y.astype(np.float32) - zero) * scale).astype(np.float32)


def main(request: str, result: str) -> None:
    with np.load(request, allow_pickle=False) as r:
        feeds = [r[f"input{i}"] for i in range(len(r.files) - 2)]
        outputs = invoke_all(r["model"].tobytes(), feeds, list(r["tensors"]))
    np.savez(result, **{f"output{i}": y for i, y in enumerate(outputs)})  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
