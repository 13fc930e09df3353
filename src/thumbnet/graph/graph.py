"""The float graph: what importers make, passes rewrite, and training fills with weights.

Shapes are per sample, the batch axis left out: `(channels, height, width)` for images (NCHW without N),
`(features,)` for vectors; 1-D signals are images of height 1. So the channel axis is always 0. Each node has
exactly one output value, which carries the node's name.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save

from thumbnet.errors import ModelError
from thumbnet.files import read_json, write_bytes_atomic, write_json_atomic

Shape = tuple[int, ...]
Array = npt.NDArray[Any]

MAX_ELEMENTS = 1 << 31  # of any tensor
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Input:
    """A graph input: its name and its shape without the batch axis."""

    name: str
    shape: Shape


@dataclass(frozen=True, eq=False)
class Node:
    """One occurrence of an operation.

    `attrs` holds JSON values only (numbers, strings, bools, lists of them); `weights` holds float32 arrays in
    the operation's own layout (see `thumbnet.graph.ops`). Both are read-only by convention.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Array] = field(default_factory=dict)

    def __deepcopy__(self, memo: dict[int, Any]) -> Node:
        return self  # immutable

    def __repr__(self) -> str:
        weights = ", ".join(f"{k} {list(w.shape)}" for k, w in self.weights.items())
        return f"<{self.name} = {self.op}({', '.join(self.inputs)}) {dict(self.attrs)} {weights}>"

    def with_attrs(self, **attrs: Any) -> Node:
        return replace(self, attrs={**self.attrs, **attrs})

    def with_weights(self, **weights: Array) -> Node:
        return replace(self, weights={**self.weights, **weights})

    @property
    def parameters(self) -> int:
        """Number of weight values."""
        return sum(int(w.size) for w in self.weights.values())


@dataclass(frozen=True, eq=False)
class Graph:
    """An immutable network: inputs, nodes in an order that can be executed, and output values by name."""

    name: str
    inputs: tuple[Input, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]

    def __deepcopy__(self, memo: dict[int, Any]) -> Graph:
        return self  # immutable

    def __repr__(self) -> str:
        lines = [f"Graph '{self.name}': {self.parameters} parameters, {list(self.inputs)} -> {list(self.outputs)}"]
        return "\n  ".join([*lines, *(repr(n) for n in self.nodes)])

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        return MappingProxyType({n.name: n for n in self.nodes})

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """Shape of every value, inferred op by op."""
        from thumbnet.graph.ops import (
            op_of,
        )  # ops need Node; the import is late to keep the types free of torch

        shapes: dict[str, Shape] = {i.name: i.shape for i in self.inputs}
        for node in self.nodes:
            shapes[node.name] = op_of(node).infer_shape(node, [shapes[v] for v in node.inputs])
        return MappingProxyType(shapes)

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read each value."""
        users: dict[str, list[Node]] = {v: [] for v in (*(i.name for i in self.inputs), *self.by_name)}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                users[value].append(node)
        return MappingProxyType({k: tuple(v) for k, v in users.items()})

    @property
    def parameters(self) -> int:
        return sum(n.parameters for n in self.nodes)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        from thumbnet.graph.ops import op_of

        shapes = self.shapes
        return sum(op_of(n).macs(n, [shapes[v] for v in n.inputs], shapes[n.name]) for n in self.nodes)

    def with_nodes(self, nodes: Iterable[Node], outputs: tuple[str, ...] | None = None) -> Graph:
        return replace(self, nodes=tuple(nodes), outputs=self.outputs if outputs is None else outputs)

    def validate(self) -> None:
        """Raises `ModelError` unless names are unique, inputs are defined before use, and shapes fit."""
        seen = {i.name for i in self.inputs}
        if len(seen) != len(self.inputs):
            raise ModelError(f"Graph '{self.name}' has two inputs of one name.")
        for node in self.nodes:
            missing = [v for v in node.inputs if v not in seen]
            if missing:
                raise ModelError(
                    f"Node '{node.name}' ({node.op}) reads '{missing[0]}', which nothing defines before it."
                )
            if node.name in seen:
                raise ModelError(f"Two values are called '{node.name}'.")
            seen.add(node.name)
        for value in self.outputs:
            if value not in seen:
                raise ModelError(f"Output '{value}' of graph '{self.name}' is not computed by any node.")
        for value, shape in self.shapes.items():  # inferred here, which raises where they do not fit
            if not shape or min(shape) < 1 or math.prod(shape) > MAX_ELEMENTS:
                raise ModelError(f"'{value}' has an impossible shape {shape}.")

    @cached_property
    def digest(self) -> str:
        """SHA-256 over structure and weights: equal digests mean equal functions."""
        h = hashlib.sha256(json.dumps(_structure(self), sort_keys=True).encode())
        for node in self.nodes:
            for key in sorted(node.weights):
                h.update(np.ascontiguousarray(node.weights[key]).tobytes())
        return h.hexdigest()

    def save(self, path: Path) -> None:
        """Writes `path` (JSON) and `path` with suffix `.safetensors` beside it."""
        tensors = {f"{n.name}/{k}": np.ascontiguousarray(w) for n in self.nodes for k, w in n.weights.items()}
        write_bytes_atomic(path.with_suffix(".safetensors"), save(tensors))
        write_json_atomic(path, _structure(self))

    @staticmethod
    def load(path: Path) -> Graph:
        data = read_json(path)
        if data.get("format") != FORMAT_VERSION:
            raise ModelError(f"{path} is not a Thumbnet graph of format {FORMAT_VERSION}.", "Create it again.")
        tensors = load_file(path.with_suffix(".safetensors"))
        nodes = tuple(
            Node(
                name=n["name"],
                op=n["op"],
                inputs=tuple(n["inputs"]),
                attrs=n["attrs"],
                weights={k: tensors[f"{n['name']}/{k}"] for k in n["weights"]},
            )
            for n in data["nodes"]
        )
        inputs = tuple(Input(i["name"], tuple(i["shape"])) for i in data["inputs"])
        return Graph(data["name"], inputs, nodes, tuple(data["outputs"]))


def _structure(graph: Graph) -> dict[str, Any]:
    return {
        "format": FORMAT_VERSION,
        "name": graph.name,
        "inputs": [{"name": i.name, "shape": list(i.shape)} for i in graph.inputs],
        "nodes": [
            {
                "name": n.name,
                "op": n.op,
                "inputs": list(n.inputs),
                "attrs": dict(n.attrs),
                "weights": {k: list(n.weights[k].shape) for k in sorted(n.weights)},
            }
            for n in graph.nodes
        ],
        "outputs": list(graph.outputs),
    }
