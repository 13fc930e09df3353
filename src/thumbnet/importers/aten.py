"""What the handlers of aten operations work with: the graph being built, constants, names, and refusals."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import fx

from thumbnet.errors import ModelError, UnsupportedOpError
from thumbnet.graph.graph import Graph, Input, Node, Shape
from thumbnet.graph.ops import op_of

# What an fx node stands for: a value of the graph, a constant, or the outputs of an operation with several.
Value: TypeAlias = "Ref | torch.Tensor | list[Value]"
Handler: TypeAlias = "Callable[[Builder, fx.Node, list[Any]], Value]"
MAX_CONSTANT = 1 << 28  # elements of a constant computed during import


class Ref(str):
    """The name of a value, to tell it from a text among an operation's arguments."""


class Builder:
    """Collects the nodes of a graph while an fx graph is walked in its order."""

    def __init__(self, name: str, batch: int) -> None:
        self.name = name
        self.batch = batch
        self.inputs: list[Input] = []
        self.nodes: list[Node] = []
        self.shapes: dict[str, Shape] = {}
        self.by_name: dict[str, Node] = {}

    def add_input(self, name: str, shape: Shape) -> Ref:
        name = self._free(name)
        self.inputs.append(Input(name, shape))
        self.shapes[name] = shape
        return Ref(name)

    def add(
        self,
        origin: fx.Node,
        op: str,
        inputs: Sequence[str],
        attrs: Mapping[str, Any] | None = None,
        weights: Mapping[str, npt.NDArray[np.float32]] | None = None,
    ) -> Ref:
        """Appends a node, called after the module it comes from, and returns the name of its value."""
        node = Node(self._free(_path(origin, op)), op, tuple(inputs), dict(attrs or {}), dict(weights or {}))
        self.shapes[node.name] = op_of(node).infer_shape(node, [self.shapes[v] for v in inputs])
        self.nodes.append(node)
        self.by_name[node.name] = node
        return Ref(node.name)

    def graph(self, outputs: Sequence[str]) -> Graph:
        return Graph(self.name, tuple(self.inputs), tuple(self.nodes), tuple(outputs))

    # --- reading fx nodes

    def value(self, origin: fx.Node, argument: Any) -> Ref:
        """The argument as a value of the graph. Raises `UnsupportedOpError` for constants and lists."""
        if isinstance(argument, Ref):
            return argument
        raise refuse(origin, f"It reads {_kind(argument)} where only a computed value is supported.")

    def constant(self, origin: fx.Node, argument: Any) -> npt.NDArray[np.float32]:
        """The argument as float32 weights."""
        if isinstance(argument, torch.Tensor):
            return argument.detach().to(torch.float32).cpu().contiguous().numpy().copy()
        raise refuse(origin, "Its weights are computed from the input; only fixed weights are supported.")

    def output_shape(self, origin: fx.Node) -> Shape:
        """Per-sample shape of what the fx node computes. Raises where the batch axis is not the first one."""
        return sample_shape(origin, self.batch)

    def axis(self, origin: fx.Node, axis: int, rank: int) -> int:
        """Axis of a sample for an axis of a batch of rank `rank` + 1; the batch axis itself is refused."""
        axis = axis + rank + 1 if axis < 0 else axis
        if axis == 0:
            raise refuse(origin, "It works along the batch axis; each image must be treated by itself.")
        return axis - 1

    def _free(self, name: str) -> str:
        taken = self.shapes
        if name not in taken:
            return name
        k = 2
        while f"{name}_{k}" in taken:
            k += 1
        return f"{name}_{k}"


def sample_shape(origin: fx.Node, batch: int) -> Shape:
    """Shape without the batch axis. Raises `UnsupportedOpError` where the first axis is not the batch."""
    value = origin.meta.get("val")
    if not isinstance(value, torch.Tensor):
        raise refuse(origin, "Its result is not a tensor.")
    shape = tuple(_size(origin, s) for s in value.shape[1:])
    if value.ndim < 2 or (isinstance(value.shape[0], int) and value.shape[0] != batch):
        raise refuse(origin, "It mixes the images of a batch; keep the batch as the first axis throughout.")
    return shape


def _size(origin: fx.Node, size: Any) -> int:
    if isinstance(size, int):
        return size
    raise ModelError(
        f"The size {size} of '{origin.name}' is not fixed.",
        "Export with a fixed height and width (batch may vary).",
    )


def refuse(origin: fx.Node, why: str) -> UnsupportedOpError:
    """The error for an operation that cannot be imported, naming it and its place in the module."""
    return UnsupportedOpError(op_name(origin), _path(origin, op_name(origin)), why)


def op_name(origin: fx.Node) -> str:
    """`conv2d` for `aten.conv2d.default` and its in-place form `conv2d_`."""
    target = origin.target
    if isinstance(target, torch._ops.OpOverload):
        name = target._schema.name.removeprefix("aten::")
        return name[:-1] if name.endswith("_") and not name.startswith("__") else name
    return str(getattr(target, "__name__", target))


def is_in_place(origin: fx.Node) -> bool:
    return isinstance(origin.target, torch._ops.OpOverload) and origin.target._schema.is_mutable


def arguments(origin: fx.Node, count: int) -> list[Any]:
    """Positional and keyword arguments in the order of the schema, defaults filled in, `count` at least."""
    schema = origin.target._schema if isinstance(origin.target, torch._ops.OpOverload) else None
    given = list(origin.args)
    for spec in schema.arguments[len(given) :] if schema else ():
        given.append(origin.kwargs.get(spec.name, spec.default_value))
    return given + [None] * (count - len(given))


def pair(value: Any, default: Any = None) -> list[int]:
    """[height, width] of an aten argument that may be one number, a list of one or two, or empty."""
    if value is None or value == []:
        value = default
    if isinstance(value, int):
        return [value, value]
    values = [int(v) for v in value]
    return values * 2 if len(values) == 1 else values


def per_channel(array: npt.NDArray[np.float32], shape: Shape) -> npt.NDArray[np.float32] | None:
    """A constant that is broadcast over a value of this sample shape, as one number per channel; None if it
    is not.
    """
    if array.size == 1:
        return np.full(shape[0], array.reshape(-1)[0], np.float32)
    full = array.reshape((1,) * (len(shape) + 1 - array.ndim) + array.shape) if array.ndim <= len(shape) + 1 else array
    if full.ndim == len(shape) + 1 and full.shape[1] == shape[0] and full.size == shape[0]:
        return full.reshape(-1).copy()
    return None


def _kind(argument: Any) -> str:
    if isinstance(argument, torch.Tensor):
        return f"a constant of shape {tuple(argument.shape)}"
    return "several values" if isinstance(argument, list) else f"'{argument}'"


def _path(origin: fx.Node, op: str) -> str:
    """Name after the module path; operations of a composite module get their own name behind it."""
    stack = list((origin.meta.get("nn_module_stack") or {}).values())
    path, kind = (str(stack[-1][0]), stack[-1][1]) if stack else ("", "")
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    path = re.sub(r"[^\w.]+", "_", path).strip("._")
    if not path:
        return op
    return path if kind.startswith("torch.nn.modules.") and ".container." not in kind else f"{path}.{op}"
