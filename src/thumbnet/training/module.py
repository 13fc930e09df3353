"""A graph as a trainable torch module, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from thumbnet.errors import ModelError
from thumbnet.graph.evaluate import evaluate_graph
from thumbnet.graph.graph import Graph, Node
from thumbnet.graph.ops import Op, op_of
from thumbnet.integer.quantization import weight_bits
from thumbnet.training.rounding import rounded

BATCH_NORM_MOMENTUM = 0.1


class _Layer(nn.Module):
    """The weights of one node as parameters."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.node = node
        self.op: Op = op_of(node)
        self.bits = weight_bits(node)
        for key, weight in node.weights.items():
            tensor = torch.from_numpy(np.array(weight, np.float32))
            if tensor.ndim == 4:  # as the images; `contiguous` would leave kernels of one input channel as they are
                tensor = tensor.to(memory_format=torch.channels_last)
            self.register_parameter(key, nn.Parameter(tensor))

    def forward(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        weights = cast(dict[str, torch.Tensor], self._parameters)
        if self.bits < 8:  # so coarse that a network has to learn with it; 8 bits can wait for the end
            weights = {**weights, "weight": rounded(self.node.op, weights["weight"], self.bits)}
        return self.op.forward(self.node, weights, inputs)

    def add_bias(self) -> None:
        """Gives the node a bias of zeros."""
        zeros = np.zeros(len(self.node.weights["weight"]), np.float32)
        self.node = self.node.with_weights(bias=zeros)
        self.register_parameter("bias", nn.Parameter(torch.from_numpy(zeros.copy())))

    def to_node(self) -> Node:
        """The node with the weights as they are now, copied."""
        state = {k: v.detach().cpu().contiguous().numpy().copy() for k, v in self.state_dict().items()}
        return self.node.with_weights(**{k: state[k] for k in self.node.weights})


class _BatchNorm(_Layer):
    """Batch norm with torch's training semantics; `mean` and `var` are running statistics, not parameters."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        for key in ("mean", "var"):
            del self._parameters[key]
            self.register_buffer(key, torch.from_numpy(np.array(node.weights[key], np.float32)))
        self.mean: torch.Tensor
        self.var: torch.Tensor
        self.weight: nn.Parameter
        self.bias: nn.Parameter
        self.eps = float(node.attrs["eps"])
        self.cumulative = False
        self.batches = 0

    def forward(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        momentum = BATCH_NORM_MOMENTUM
        if self.training and self.cumulative:
            self.batches += 1
            momentum = 1.0 / self.batches
        return F.batch_norm(
            inputs[0],
            self.mean,
            self.var,
            self.weight,
            self.bias,
            self.training,
            momentum,
            self.eps,
        )

    def reset_statistics(self) -> None:
        """Forgets the running statistics; until the next `eval()` they are plain averages over batches."""
        self.cumulative, self.batches = True, 0

    def train(self, mode: bool = True) -> _BatchNorm:
        if not mode:
            self.cumulative = False
        super().train(mode)
        return self


@dataclass(frozen=True)
class _Step:
    """Where a node finds its inputs, and which values nobody needs once it has run."""

    name: str
    inputs: tuple[str, ...]
    dead: tuple[str, ...]


class GraphModule(nn.Module):
    """The graph with its weights as parameters and its batch-norm statistics as buffers.

    Takes one tensor [B, *shape] per graph input; returns a tensor, or a tuple for several outputs. Weights of fewer
    than 8 bits are rounded as they are used (a batch norm behind scales each channel with its grid). In training mode
    batch norms use the statistics of the batch, as torch's do.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.layers = nn.ModuleList(_BatchNorm(n) if n.op == "batch_norm" else _Layer(n) for n in graph.nodes)
        self._position = {n.name: k for k, n in enumerate(graph.nodes)}
        self._steps = _schedule(graph)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        values = self._fed(inputs)
        for step, layer in zip(self._steps, self.layers, strict=True):
            values[step.name] = layer([values[v] for v in step.inputs])
            for value in step.dead:
                del values[value]
        outputs = tuple(values[v] for v in self.graph.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def forward_values(self, *inputs: torch.Tensor, retain_grad: Iterable[str] = ()) -> dict[str, torch.Tensor]:
        """Every value by name, inputs included; those in `retain_grad` will keep their gradient."""
        keep = set(retain_grad)
        values = self._fed(inputs)
        for step, layer in zip(self._steps, self.layers, strict=True):
            value = layer([values[v] for v in step.inputs])
            if step.name in keep and value.requires_grad:
                value.retain_grad()
            values[step.name] = value
        return values

    @torch.no_grad()
    def set_weight(self, node: str, key: str, value: torch.Tensor) -> None:
        """Overwrites a weight in place, batch-norm statistics included; adds a bias where there is none."""
        layer = cast(_Layer, self.layers[self._position[node]])
        if key == "bias" and key not in layer.node.weights and "weight" in layer.node.weights:
            layer.add_bias()
        target = layer.state_dict(keep_vars=True).get(key)
        if target is None or target.shape != value.shape:
            own = "none" if target is None else str(tuple(target.shape))
            raise ModelError(f"Node '{node}' has a '{key}' of shape {own}, not {tuple(value.shape)}.")
        target.copy_(value)

    def weight(self, node: str, key: str) -> torch.Tensor:
        """A weight as it is now."""
        return cast(torch.Tensor, self.layers[self._position[node]].state_dict()[key])

    def to_graph(self) -> Graph:
        """The graph with the weights as trained."""
        return self.graph.with_nodes(layer.to_node() for layer in self.layers)  # type: ignore[operator]

    def _fed(self, inputs: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
        values: dict[str, torch.Tensor] = {}
        for spec, x in zip(self.graph.inputs, inputs, strict=True):
            if x.shape[1:] != spec.shape:
                raise ModelError(f"Input '{spec.name}' has shape {spec.shape}, not {tuple(x.shape[1:])}.")
            # oneDNN is faster with channels last; the layout then passes from layer to layer by itself.
            values[spec.name] = x.to(memory_format=torch.channels_last) if x.ndim == 4 else x
        return values


def _schedule(graph: Graph) -> tuple[_Step, ...]:
    last_use: Mapping[str, int] = {v: k for k, node in enumerate(graph.nodes) for v in node.inputs}
    steps = []
    for k, node in enumerate(graph.nodes):
        dead = tuple(v for v in dict.fromkeys(node.inputs) if last_use[v] == k and v not in graph.outputs)
        steps.append(_Step(node.name, node.inputs, dead))
    return tuple(steps)


__all__ = ["GraphModule", "evaluate_graph"]
