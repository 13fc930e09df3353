"""The process in which ONNX Runtime runs models.

Started by `onnx_runtime.py` as a script, so it imports nothing of ours. Answers lines on its standard input, each with
one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

_MAX_BYTES = 12 << 30  # of addresses
_THREADS = 2


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what is printed is no answer
    _bound_memory()
    sessions: dict[str, Any] = {}
    for line in sys.stdin:
        try:
            answer = _answered(json.loads(line), sessions)
        except Exception as e:
            lines = [text for text in str(e).splitlines() if text.strip()] or [type(e).__name__]
            answer = {"error": lines[0][:300]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _bound_memory() -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_BYTES, _MAX_BYTES))


def _answered(question: dict[str, Any], sessions: dict[str, Any]) -> dict[str, Any]:
    """Does what is asked: `load` a model, `run` one, or tell its `shapes`; forgets those in `drop` first."""
    for key in question.get("drop", ()):
        sessions.pop(key, None)
    if question["do"] == "shapes":
        return _shapes(question["path"])
    import onnxruntime

    if question["do"] == "load":
        sessions[question["key"]] = _session(onnxruntime, question["path"])
        return {"version": onnxruntime.__version__}
    _run(sessions[question["key"]], question)
    return {}


def _session(onnxruntime: Any, path: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = _THREADS
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    # as the file says: fusions of quantizers, say, would round differently
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with open(path, "rb") as f:  # bytes, so that it opens no other file
        return onnxruntime.InferenceSession(f.read(), options, providers=["CPUExecutionProvider"])


def _run(session: Any, question: dict[str, Any]) -> None:
    import numpy as np

    path = question["path"]
    with np.load(path, allow_pickle=False) as given:
        feeds = {name: given[f"i{k}"] for k, name in enumerate(question["feeds"])}
    made = session.run(question["fetches"], feeds)
    np.savez(path, allow_pickle=False, **{f"o{k}": np.asarray(y, np.float32) for k, y in enumerate(made)})


def _shapes(path: str) -> dict[str, Any]:
    """Of the values of a model, as far as ONNX can tell; sizes that are not fixed are 0."""
    import onnx

    with open(path, "rb") as f:
        model = onnx.shape_inference.infer_shapes(f.read())
    kinds = {v.name: v.type.tensor_type for v in (*model.graph.value_info, *model.graph.output)}
    return {
        "shapes": {
            name: [int(d.dim_value) if d.HasField("dim_value") else 0 for d in kind.shape.dim]
            for name, kind in kinds.items()
            if kind.HasField("shape")
        }
    }


if __name__ == "__main__":
    main()
