"""Quantization-aware training: the float network computes with the integer network's rounding.

Works on a cleaned graph (batch norms folded, activations fused), so that what is rounded here is what the firmware
stores: weights per channel (per tensor for dense layers) in ±127, or ±7 where they get 4 bits; activations per tensor
in int8 with an exact zero. The quantization parameters come from the very functions that lowering uses.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from thumbnet.graph.graph import Graph, Node
from thumbnet.graph.ops import op_of
from thumbnet.integer.arithmetic import activation_qparams
from thumbnet.integer.quantization import (
    JOINS,
    KEEPS_QUANTIZATION,
    WEIGHT_AXES,
    check_weight_bits,
    shared_quantization,
    weight_bits,
)
from thumbnet.training.rounding import rounded

# Of the operations that keep their input's quantization, those that only move values about.
_EXACT = KEEPS_QUANTIZATION - {"avg_pool2d", "resize"} - JOINS
MOMENTUM = 0.05  # of the moving average of ranges


class QuantizedModule(nn.Module):
    """A cleaned graph with fake quantization; `ranges()` is what lowering needs.

    While `observing`, every training batch moves the ranges; afterwards they stay (stop observing for the last part
    of the training, so that the weights settle on the final grid). `fixed` gives (scale, zero point) of values whose
    quantization is decided elsewhere, such as the input image; operations with a prescribed output join them. Values
    that lowering stores alike, such as the inputs of a concat, are rounded alike. Weights have the bits of their node's
    attr `weight_bits`.
    """

    def __init__(self, graph: Graph, fixed: Mapping[str, tuple[float, int]]) -> None:
        super().__init__()
        self.graph = graph
        check_weight_bits(graph)
        self._shared, self.fixed = shared_quantization(graph, fixed)
        self.observing = True
        self.params = nn.ParameterDict()
        for node in graph.nodes:
            for key, weight in node.weights.items():
                self.params[_key(node, key)] = nn.Parameter(torch.from_numpy(np.array(weight)))
        self._last_use = {v: k for k, node in enumerate(graph.nodes) for v in node.inputs}
        makers = {i.name: "" for i in graph.inputs} | {n.name: n.op for n in graph.nodes}
        own = [v for v, op in makers.items() if op not in KEEPS_QUANTIZATION or op in JOINS]
        index = {v: k for k, v in enumerate(v for v in own if self._shared[v] not in self.fixed)}
        self._index = index
        self._members: dict[str, list[int]] = {}  # positions of the observed values that share a quantization
        for name, k in index.items():
            self._members.setdefault(self._shared[name], []).append(k)
        self.register_buffer("low", torch.zeros(len(index)))
        self.register_buffer("high", torch.zeros(len(index)))
        self.register_buffer("seen", torch.zeros(len(index), dtype=torch.bool))
        self.low: torch.Tensor
        self.high: torch.Tensor
        self.seen: torch.Tensor

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        values = self.forward_values(*inputs, keep_all=False)
        outputs = tuple(values[v] for v in self.graph.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def forward_values(self, *inputs: torch.Tensor, keep_all: bool = True) -> dict[str, torch.Tensor]:
        """Every value by name, rounded as the integer network stores it; without `keep_all`, the outputs."""
        names = (i.name for i in self.graph.inputs)
        values = {name: self._activation(name, x) for name, x in zip(names, inputs, strict=True)}
        for position, node in enumerate(self.graph.nodes):
            weights = {key: self._weight(node, key) for key in node.weights}
            y = op_of(node).forward(node, weights, [values[v] for v in node.inputs])
            values[node.name] = y if node.op in _EXACT else self._activation(node.name, y)
            for v in set(node.inputs):
                if not keep_all and self._last_use[v] == position and v not in self.graph.outputs:
                    del values[v]  # activations of a large batch are not kept longer than autograd needs them
        return values

    def _weight(self, node: Node, key: str) -> torch.Tensor:
        w: torch.Tensor = self.params[_key(node, key)]
        if key != "weight" or node.op not in WEIGHT_AXES:
            return w
        return rounded(node.op, w, weight_bits(node))

    def _activation(self, name: str, x: torch.Tensor) -> torch.Tensor:
        shared = self._shared[name]
        if shared in self.fixed:
            scale, zero = self.fixed[shared]
            return torch.fake_quantize_per_tensor_affine(x, scale, zero, -128, 127)
        k = self._index.get(name)
        if k is not None and self.training and self.observing:
            with torch.no_grad():
                low, high = torch.aminmax(x.detach())
                if self.seen[k]:
                    self.low[k].lerp_(low, MOMENTUM)
                    self.high[k].lerp_(high, MOMENTUM)
                else:
                    self.low[k], self.high[k], self.seen[k] = low, high, True
        members = self._members[shared]
        lowest, highest = min(float(self.low[m]) for m in members), max(float(self.high[m]) for m in members)
        scale, zero = activation_qparams(lowest, highest)
        return torch.fake_quantize_per_tensor_affine(x, float(scale), int(zero), -128, 127)

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Observed (low, high) of every value; values that keep their input's quantization take over its range."""
        out = {name: (float(self.low[k]), float(self.high[k])) for name, k in self._index.items()}
        for name, (scale, zero) in self.fixed.items():
            out[name] = (scale * (-128 - zero), scale * (127 - zero))
        for node in self.graph.nodes:
            if node.name not in out:
                out[node.name] = (min(out[v][0] for v in node.inputs), max(out[v][1] for v in node.inputs))
        return out

    def to_graph(self) -> Graph:
        """The graph with the weights as trained (float, not rounded)."""
        return self.graph.with_nodes(
            node.with_weights(**{k: self.params[_key(node, k)].detach().numpy().copy() for k in node.weights})
            for node in self.graph.nodes
        )


@torch.no_grad()
def calibrate(module: QuantizedModule, batches: list[torch.Tensor]) -> None:
    """Post-training ranges: moving averages over these batches, weights untouched."""
    module.train()
    module.observing = True
    for x in batches:
        module(x)
    module.eval()


def _key(node: Node, key: str) -> str:
    return f"{node.name}/{key}".replace(".", "_")
