"""The process in which TFLM runs: `python tflm_child.py REQUEST RESULT`, both `.npz` without pickles.

REQUEST holds `model`, `arena`, `outputs` and `input0`, `input1`, …; RESULT gets `output0`, …. Run by its path, it
imports nothing of Thumbnet, so that it starts fast.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Int8s = npt.NDArray[np.int8]


def invoke_all(model: bytes, arena: int, feeds: Sequence[Int8s], outputs: int) -> list[Int8s]:
    """Every sample through one interpreter; feeds [N, *shape], returns [N, *shape] per output, in the file's types."""
    from tflite_micro.python.tflite_micro import runtime

    with contextlib.redirect_stdout(io.StringIO()):  # the package prints its count of variables
        interpreter = runtime.Interpreter.from_bytes(model, arena_size=arena)
    results: list[list[Int8s]] = [[] for _ in range(outputs)]
    for k in range(len(feeds[0])):
        for i, x in enumerate(feeds):
            interpreter.set_input(x[k : k + 1], i)
        interpreter.invoke()
        for i, result in enumerate(results):
            result.append(np.array(interpreter.get_output(i)))
    return [np.concatenate(r) for r in results]


def main(request: str, result: str) -> None:
    with np.load(request, allow_pickle=False) as r:
        feeds = [r[f"input{i}"] for i in range(len(r.files) - 3)]
        outputs = invoke_all(r["model"].tobytes(), int(r["arena"]), feeds, int(r["outputs"]))
    np.savez(result, **{f"output{i}": y for i, y in enumerate(outputs)})  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
