"""Files of our ONNX exporters in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.exporters.onnx_qdq_writer import quantized_inputs, real_values
from thumbnet.integer.graph import IntegerGraph

Array = npt.NDArray[Any]


def run_onnx(data: bytes, feeds: Mapping[str, Array], *, optimized: bool = True) -> list[Array]:
    """All outputs, for whole batches; without `optimized` node by node as the file says."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return [np.asarray(y) for y in session.run(None, dict(feeds))]


def run_qdq(data: bytes, graph: IntegerGraph, stored: Mapping[str, Array], *, optimized: bool = True) -> list[Array]:
    """int8 in and out, as the integer graph stores them."""
    feeds = {name: real_values(x, graph.tensors[name]) for name, x in stored.items()}
    outputs = run_onnx(data, feeds, optimized=optimized)
    return [quantized_inputs(y, graph.tensors[v]) for v, y in zip(graph.outputs, outputs, strict=True)]
