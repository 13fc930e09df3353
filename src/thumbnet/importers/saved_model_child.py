"""The process in which TensorFlow runs a SavedModel: turns it into ONNX, then computes what it is asked to.

Started by `saved_model.py` as a script, so it imports nothing of ours. Arguments: the SavedModel's folder, and one to
work in. It writes `model.onnx` there, then answers lines on its standard input, each with one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

_OPSET = 17
_SIGNATURE = "serving_default"
# What a graph can do beyond computing. Restoring its own variables is not among them.
_REFUSED_OPS = (
    "PyFunc",
    "PyFuncStateless",
    "EagerPyFunc",
    "ReadFile",
    "WriteFile",
    "MatchingFiles",
    "LookupTableExportV2",
)


class _RefusedError(Exception):
    """The text says why."""


def main(folder: Path, work: Path) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what TensorFlow prints is no answer
    try:
        model = _Model(folder, work)
    except Exception as e:
        _answer(answers, error=_told(e))
        return
    _answer(answers, **model.described)
    for line in sys.stdin:
        try:
            model.run(work / line.strip())
        except Exception as e:
            _answer(answers, error=_told(e))
        else:
            _answer(answers)


class _Model:
    """A loaded SavedModel. Inputs and outputs are in the order of their names in its signature."""

    def __init__(self, folder: Path, work: Path) -> None:
        import tensorflow as tf
        import tf2onnx

        _check_ops(tf, folder)
        v1 = tf.compat.v1
        self.session = v1.Session(graph=tf.Graph())
        with self.session.graph.as_default():
            meta = v1.saved_model.load(self.session, ["serve"], str(folder))
            signature = meta.signature_def.get(_SIGNATURE)
            if signature is None:
                raise _RefusedError(f"it has no signature '{_SIGNATURE}'")
            keys = [sorted(signature.inputs), sorted(signature.outputs)]
            self.inputs = [signature.inputs[k] for k in keys[0]]
            self.outputs = [signature.outputs[k] for k in keys[1]]
            _check_types([*self.inputs, *self.outputs], tf)
            names = [[t.name for t in ends] for ends in (self.inputs, self.outputs)]
            ends = [name.split(":")[0] for name in names[1]]
            frozen = v1.graph_util.convert_variables_to_constants(self.session, self.session.graph_def, ends)
            inlined = tf2onnx.tf_loader.tf_optimize(*names, frozen)  # a graph that calls functions is not taken below
        made, _ = tf2onnx.convert.from_graph_def(
            inlined, input_names=names[0], output_names=names[1], opset=_OPSET, name="network"
        )
        _ordered(made.graph.input, names[0])
        _ordered(made.graph.output, names[1])
        _rename(made.graph, dict(zip(names[0] + names[1], keys[0] + keys[1], strict=True)))
        (work / "model.onnx").write_bytes(made.SerializeToString())
        self.described = {"runtime": f"TensorFlow {tf.__version__}", "inputs": len(names[0]), "outputs": len(names[1])}

    def run(self, path: Path) -> None:
        """`path` holds the inputs as i0, i1, …; the outputs replace them."""
        import numpy as np

        with np.load(path, allow_pickle=False) as given:
            feeds = {t.name: given[f"i{k}"] for k, t in enumerate(self.inputs)}
        made = self.session.run([t.name for t in self.outputs], feeds)
        np.savez(path, allow_pickle=False, **{f"o{k}": np.asarray(y) for k, y in enumerate(made)})


def _check_ops(tf: Any, folder: Path) -> None:
    """Raises `_RefusedError` for a graph that does more than compute, before anything of it runs."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    for meta in saved.meta_graphs:
        graph = meta.graph_def
        for node in (*graph.node, *(n for f in graph.library.function for n in f.node_def)):
            if node.op in _REFUSED_OPS or "Dataset" in node.op:
                raise _RefusedError(f"its operation '{node.op}' does more than compute")


def _check_types(ends: list[Any], tf: Any) -> None:
    for t in ends:
        if t.dtype != tf.float32.as_datatype_enum:
            raise _RefusedError(f"its input or output '{t.name}' is {tf.dtypes.as_dtype(t.dtype).name}, not float32")


def _ordered(ports: Any, names: list[str]) -> None:
    """In the order of `names`."""
    by_name = {p.name: p for p in ports}
    kept = [type(by_name[n]).FromString(by_name[n].SerializeToString()) for n in names]
    del ports[:]
    ports.extend(kept)


def _rename(graph: Any, names: dict[str, str]) -> None:
    """Inputs and outputs as the signature calls them, unless other values are called so."""
    taken = {v for n in graph.node for v in (*n.input, *n.output)} | {t.name for t in graph.initializer}
    if taken & set(names.values()) or len(set(names.values())) != len(names):
        return
    for node in graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(v, v) for v in values]
    for port in (*graph.input, *graph.output):
        port.name = names[port.name]


def _told(e: Exception) -> str:
    lines = [line for line in str(e).splitlines() if line.strip()] or [type(e).__name__]
    return lines[0][:400]


def _answer(stream: TextIO, **what: Any) -> None:
    stream.write(json.dumps(what) + "\n")
    stream.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
