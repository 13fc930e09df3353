"""Networks without the memory of their weights: costs depend on shapes alone."""

from __future__ import annotations

import math

import numpy as np

from thumbnet.graph.graph import Graph
from thumbnet.integer.quantization import Floats


def weightless(graph: Graph) -> Graph:
    """The graph with weights of the same shapes that take no memory.

    They are spread as trained ones (He et al. 2015, equation 10): kernels are chosen by how large sums can get, too.
    """
    return graph.with_nodes(
        n.with_weights(**{k: _stand_in(k, w.shape) for k, w in n.weights.items()}) for n in graph.nodes
    )


def _stand_in(key: str, shape: tuple[int, ...]) -> Floats:
    """The same weights for every output channel, 0 for a bias, 1/2 for everything else."""
    if key == "weight" and len(shape) > 1:
        deviation = math.sqrt(2 / max(1, math.prod(shape[1:])))
        one = np.random.default_rng(0).normal(0, deviation, shape[1:]).astype(np.float32)
        return np.broadcast_to(one, shape)
    return np.broadcast_to(np.float32(0 if key == "bias" else 0.5), shape)
