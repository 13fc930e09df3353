"""Quantized TFLite files compared with LiteRT layer by layer.

Rounding adds up over a network, so that its outputs alone would prove little. Here every layer gets what LiteRT gave
the same layer, and must give what LiteRT gave to within a few steps of the quantized numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from thumbnet.errors import ModelError
from thumbnet.graph.graph import Graph
from thumbnet.graph.ops import op_of
from thumbnet.importers.builder import Value
from thumbnet.importers.imported import Array, Port
from thumbnet.importers.tflite_reader import FileTensor
from thumbnet.importers.tflite_values import RANGES

MAX_STEPS = 2.0
"""Of a layer's quantized numbers. Rounding alone makes 0.5; LiteRT rounds twice in places."""
MAX_HYBRID = 0.05
"""Of a layer's largest number, where weights are int8 and the rest is float: LiteRT then rounds inputs to int8."""
_SAMPLES = 2

Intermediate = Callable[[list[Array], list[int]], list[Array]]
"""Inputs [N, *shape] and indices of tensors → these tensors as real numbers."""


def compare_layers(
    graph: Graph,
    inputs: Sequence[Value],
    values: Mapping[int, Value],
    tensors: Sequence[FileTensor],
    given_to: Sequence[int],
    run: Intermediate,
    where: str,
) -> float:
    """The largest difference, in steps of the quantized numbers; `values` are those of the file's tensors,
    `given_to` the indices of its inputs.

    Raises `ModelError` where a layer differs by more than `MAX_STEPS`.
    """
    shapes = graph.shapes
    ports = {i: Port.of(v, shapes[v.ref]) for i, v in values.items() if v.ref in graph.by_name}
    order = list(ports)
    given = _drawn([Port.of(v, shapes[v.ref]) for v in inputs], [tensors[i] for i in given_to])
    found = dict(zip(order, run([p.to_source(x) for p, x in given], order), strict=True))
    computed = {p.name: torch.from_numpy(np.ascontiguousarray(x)) for p, x in given}
    worst = 0.0
    for node in graph.nodes:
        weights = {k: torch.from_numpy(np.array(w)) for k, w in node.weights.items()}
        with torch.inference_mode():
            own = op_of(node).forward(node, weights, [computed[v] for v in node.inputs])
        held = [i for i in order if ports[i].name == node.name]
        for i in held:
            reference = found[i].reshape(_SAMPLES, *ports[i].shape)
            worst = max(worst, _steps(ports[i].to_source(own.numpy()), reference, tensors[i], where))
        if held:
            reference = found[held[0]].reshape(_SAMPLES, *ports[held[0]].shape)
            own = torch.from_numpy(np.ascontiguousarray(ports[held[0]].to_graph(reference)))
        computed[node.name] = own
    return worst


def _drawn(ports: Sequence[Port], tensors: Sequence[FileTensor]) -> list[tuple[Port, Array]]:
    """Numbers that the inputs can hold as they are."""
    rng, made = np.random.default_rng(0), []
    for port, t in zip(ports, tensors, strict=True):
        x, limits = rng.normal(size=(_SAMPLES, *port.own)), range_of(t)
        if limits is not None:
            low, high = limits
            x = np.clip((low + high) / 2 + x * (high - low) / 8, low, high)
            x = np.rint(x / float(t.scales[0])) * float(t.scales[0])
        made.append((port, x.astype(np.float32)))
    return made


def range_of(t: FileTensor) -> tuple[float, float] | None:
    """What a quantized tensor can hold."""
    if t.dtype not in RANGES or len(t.scales) != 1:
        return None
    low, high = (float((v - int(t.zero_points[0])) * float(t.scales[0])) for v in RANGES[t.dtype])
    return low, high


def _steps(own: Array, reference: Array, t: FileTensor, where: str) -> float:
    """How far apart they are, in steps; numbers that the tensor cannot hold count as the nearest that it can."""
    limits = range_of(t)
    if limits is not None:
        steps = float(np.abs(np.clip(own, *limits) - reference).max()) / float(t.scales[0])
    else:
        relative = float(np.abs(own - reference).max()) / max(float(np.abs(reference).max()), 1e-6)
        steps = relative * MAX_STEPS / MAX_HYBRID
    if not steps <= MAX_STEPS:
        raise ModelError(
            f"{where}: '{t.name.split(';')[0]}' differs from what LiteRT computes by {steps:.3g} steps of its "
            f"quantized numbers (tolerated: {MAX_STEPS:g}).",
            "This is a fault of the importer; please report the model.",
        )
    return steps
