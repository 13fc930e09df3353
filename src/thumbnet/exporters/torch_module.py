"""Float `Graph` → a PyTorch source file with its weights, for going on with training.

`model.py` is code as a person would write it: a class with layers as attributes, a `forward`, and `load()`, which fills
it from `model.safetensors` beside it. It needs torch and safetensors, and nothing of Thumbnet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from thumbnet.errors import UnsupportedOpError
from thumbnet.exporters.torch_names import attribute_names, class_name, variable_names
from thumbnet.exporters.torch_spelling import SPELLINGS, Site, Spelled
from thumbnet.graph.graph import Graph, Node

SOURCE, WEIGHTS = "model.py", "model.safetensors"
_LINE = 120

_PAGE = '''"""{title}

Written by Thumbnet. `load()` gives the network with its weights, ready to go on training: call `.train()` on it.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn


class {name}(nn.Module):
    """{ports}"""

    def __init__(self) -> None:
        super().__init__()
{layers}

    def forward(self, {parameters}) -> {result}:
{lines}
        return {returned}


def load(weights: str | Path = Path(__file__).with_name("{weights}")) -> {name}:
    """The network in evaluation mode, with the weights of the file."""
    model = {name}()
    model.load_state_dict(load_file(weights))
    return model.eval()
'''


@dataclass(frozen=True, eq=False)
class TorchSource:
    """The text of `model.py`, and the bytes of `model.safetensors`."""

    source: str
    weights: bytes

    def files(self) -> dict[str, bytes]:
        return {SOURCE: self.source.encode(), WEIGHTS: self.weights}


def to_torch(graph: Graph) -> TorchSource:
    """Equal graphs give equal files. Raises `UnsupportedOpError` for an operation without a spelling."""
    layers, variables = attribute_names(graph), variable_names(graph)
    written, made, lines = {}, [], []
    for node in graph.nodes:
        spelled = _spelled(graph, node, layers[node.name], variables)
        lines.append(f"{variables[node.name]} = {spelled.value}")
        if spelled.layer:
            made.append(f"self.{layers[node.name]} = {spelled.layer}")
        written.update({f"{layers[node.name]}.{k}": _array(w) for k, w in spelled.weights.items()})
    returned = [variables[v] for v in graph.outputs]
    source = _PAGE.format(
        title=_title(graph),
        name=class_name(graph.name),
        ports=_ports(graph),
        layers=_indented(made or ["pass"]),
        lines=_indented(lines or ["pass"]),
        parameters=", ".join(f"{variables[i.name]}: torch.Tensor" for i in graph.inputs),
        result="torch.Tensor" if len(returned) == 1 else "tuple[torch.Tensor, ...]",
        returned=", ".join(returned),
        weights=WEIGHTS,
    )
    return TorchSource(source, save(written))


def _spelled(graph: Graph, node: Node, layer: str, variables: Mapping[str, str]) -> Spelled:
    if node.op not in SPELLINGS:
        raise UnsupportedOpError(node.op, node.name, "It cannot be written as PyTorch code; replace it.")
    return SPELLINGS[node.op](Site(graph, node, layer, tuple(variables[v] for v in node.inputs)))


def _array(weight: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    kind = np.int64 if np.issubdtype(weight.dtype, np.integer) else np.float32
    return np.array(weight, kind, order="C")


def _title(graph: Graph) -> str:
    plain = " ".join(re.findall(r"[\w.-]+", graph.name))[: _LINE // 2] or "A network"
    return f"{plain}: {graph.parameters:,} parameters, {graph.macs / 1e6:.2f} M multiply-accumulates per sample."


def _ports(graph: Graph) -> str:
    """Shapes of inputs and outputs, for the docstring."""

    def shapes(values: list[tuple[int, ...]]) -> str:
        return ", ".join(f"[N, {', '.join(map(str, shape))}]" for shape in values)

    inputs = shapes([i.shape for i in graph.inputs])
    return f"float32 {inputs} to {shapes([graph.shapes[v] for v in graph.outputs])}."


def _indented(lines: list[str]) -> str:
    return "\n".join(f"        {line}" for line in lines)
