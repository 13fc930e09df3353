"""The integer network in numpy: bit for bit what TFLM, and the generated firmware, compute.

Convolutions and dense layers run through BLAS: sums of int8 products are exact in float32 below 2^24 and in float64
below 2^53, so no rounding happens before the integer requantization.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.errors import ModelError
from thumbnet.integer.arithmetic import Int8s
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.kernels import KERNELS

Inputs = npt.NDArray[np.int8] | Mapping[str, npt.NDArray[np.int8]]

_BATCH_ELEMENTS = 1 << 20  # activations of one step's largest tensor, batch included: keeps temporaries in the cache


def run(graph: IntegerGraph, inputs: Inputs) -> dict[str, Int8s]:
    """Outputs by name, int8 [N, *shape], for inputs int8 [N, *shape] (an array, or several by name).

    Raises `ModelError` where inputs do not fit the graph.
    """
    return _batched(graph, inputs, keep_all=False)


def trace(graph: IntegerGraph, inputs: Inputs) -> dict[str, Int8s]:
    """Every tensor by name, int8 [N, *shape], inputs included. Memory grows with N: for a few samples."""
    return _batched(graph, inputs, keep_all=True)


def _batched(graph: IntegerGraph, inputs: Inputs, keep_all: bool) -> dict[str, Int8s]:
    feeds = _checked(graph, inputs)
    count = len(next(iter(feeds.values())))
    names = tuple(graph.tensors) if keep_all else graph.outputs
    out = {v: np.empty((count, *graph.tensors[v].shape), np.int8) for v in names}
    widest = max(t.bytes for t in graph.tensors.values())
    step = max(1, min(64, _BATCH_ELEMENTS // widest))
    for start in range(0, count, step):
        part = {v: x[start : start + step] for v, x in feeds.items()}
        values = _forward(graph, part, keep_all)
        for v in names:
            out[v][start : start + step] = values[v]
    return out


def _checked(graph: IntegerGraph, inputs: Inputs) -> dict[str, npt.NDArray[np.int8]]:
    feeds = dict(inputs) if isinstance(inputs, Mapping) else {graph.inputs[0]: inputs}
    if set(feeds) != set(graph.inputs):
        raise ModelError(f"The integer graph takes {list(graph.inputs)}, not {sorted(feeds)}.")
    for name, x in feeds.items():
        if x.dtype != np.int8 or x.shape[1:] != graph.tensors[name].shape:
            raise ModelError(
                f"Input '{name}' must be int8 [N, {', '.join(map(str, graph.tensors[name].shape))}], "
                f"not {x.dtype} {list(x.shape)}."
            )
    if len({len(x) for x in feeds.values()}) != 1:
        raise ModelError("The inputs have different numbers of samples.")
    return feeds


def _forward(graph: IntegerGraph, feeds: dict[str, Any], keep_all: bool) -> dict[str, Int8s]:
    values = dict(feeds)
    last_use = {v: k for k, node in enumerate(graph.nodes) for v in node.inputs}
    for k, node in enumerate(graph.nodes):
        kernel = KERNELS.get(node.op)
        if kernel is None:
            raise ModelError(f"The simulator has no operation '{node.op}' (node '{node.name}').")
        tensors = [graph.tensors[v] for v in node.inputs]
        values[node.name] = kernel(node, [values[v] for v in node.inputs], tensors, graph.tensors[node.name])
        for v in set(node.inputs):
            if not keep_all and last_use[v] == k and v not in graph.outputs:
                del values[v]
    return values
