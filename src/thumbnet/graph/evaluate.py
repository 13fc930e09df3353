"""A graph evaluated as it stands: the float reference for imports, passes and lowering."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from thumbnet.errors import ModelError
from thumbnet.graph.graph import Graph
from thumbnet.graph.ops import op_of

FloatArray = npt.NDArray[np.float32]


def evaluate_values(graph: Graph, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Every value of the graph, by name, for inputs with a leading batch axis."""
    values = dict(inputs)
    for node in graph.nodes:
        weights = {k: _tensor(w) for k, w in node.weights.items()}
        values[node.name] = op_of(node).forward(node, weights, [values[v] for v in node.inputs])
    return values


def evaluate_graph(graph: Graph, inputs: FloatArray, batch: int = 64) -> FloatArray:
    """Outputs [N, *shape] of the graph's first output for float32 inputs [N, *shape] of its one input.

    Raises `ModelError` when the graph has several inputs or the array does not have the input's shape.
    """
    if len(graph.inputs) != 1:
        raise ModelError(f"Graph '{graph.name}' has {len(graph.inputs)} inputs; only one can be fed here.")
    first = graph.inputs[0]
    if inputs.ndim != len(first.shape) + 1 or inputs.shape[1:] != first.shape:
        raise ModelError(f"Graph '{graph.name}' takes inputs (N, {str(first.shape)[1:-1]}), not {inputs.shape}.")
    outputs = []
    with torch.inference_mode():
        for start in range(0, len(inputs), batch):
            x = _tensor(inputs[start : start + batch].astype(np.float32, copy=False))
            outputs.append(evaluate_values(graph, {first.name: x})[graph.outputs[0]].numpy())
    return np.concatenate(outputs) if outputs else np.zeros((0, *graph.shapes[graph.outputs[0]]), np.float32)


def _tensor(array: npt.NDArray[np.generic]) -> torch.Tensor:
    return torch.from_numpy(np.array(array))  # a copy: arrays of a graph may be read-only
