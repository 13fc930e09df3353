"""What the handlers of aten operations work with: the graph being built, constants, names, and refusals."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import fx

from thumbnet.errors import ModelError, UnsupportedOpError
from thumbnet.graph.graph import Shape
from thumbnet.importers.builder import Builder, Floats, Origin, Value

# What an fx node stands for: a value of the graph, a constant, or the outputs of an operation with several.
Computed: TypeAlias = "Value | torch.Tensor | list[Computed]"
Handler: TypeAlias = "Callable[[AtenBuilder, fx.Node, list[Any]], Computed]"
MAX_CONSTANT = 1 << 28  # elements of a constant computed during import


@dataclass(frozen=True)
class AtenOrigin(Origin):
    """Nodes are called after the module they come from; those of a composite module get their own name behind it."""

    scope: str = ""
    is_layer: bool = False

    def node_name(self, op: str) -> str:
        return self.scope if self.is_layer else f"{self.scope}.{op}".strip(".")


class AtenBuilder(Builder):
    """A graph in the making, and how to read fx nodes. Axes of aten count the batch, those of the builder do not."""

    def __init__(self, name: str, batch: int) -> None:
        super().__init__(name, channels_last=False)
        self.batch = batch

    def value(self, node: fx.Node, argument: Any) -> Value:
        """The argument as a computed value. Raises `UnsupportedOpError` for constants and lists."""
        if isinstance(argument, Value):
            return argument
        raise refuse(node, f"It reads {_kind(argument)} where only a computed value is supported.")

    def constant(self, node: fx.Node, argument: Any) -> Floats:
        """The argument as float32 weights."""
        if isinstance(argument, torch.Tensor):
            return argument.detach().to(torch.float32).cpu().contiguous().numpy().copy()
        raise refuse(node, "Its weights are computed from the input; only fixed weights are supported.")

    def output_shape(self, node: fx.Node) -> Shape:
        """Per-sample shape of what the fx node computes. Raises where the batch axis is not the first one."""
        return sample_shape(node, self.batch)

    def axis(self, node: fx.Node, axis: int, rank: int) -> int:
        """Axis of a sample for an axis of a batch of rank `rank` + 1; the batch axis itself is refused."""
        axis = axis + rank + 1 if axis < 0 else axis
        if axis == 0:
            raise refuse(node, "It works along the batch axis; each image must be treated by itself.")
        return axis - 1


def sample_shape(node: fx.Node, batch: int) -> Shape:
    """Shape without the batch axis. Raises `UnsupportedOpError` where the first axis is not the batch."""
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor):
        raise refuse(node, "Its result is not a tensor.")
    shape = tuple(_size(node, s) for s in value.shape[1:])
    if value.ndim < 1 or (isinstance(value.shape[0], int) and value.shape[0] != batch):
        raise refuse(node, "It mixes the images of a batch; keep the batch as the first axis throughout.")
    return shape


def _size(node: fx.Node, size: Any) -> int:
    if isinstance(size, int):
        return size
    raise ModelError(
        f"The size {size} of '{node.name}' is not fixed.",
        "Export with a fixed height and width (batch may vary).",
    )


def refuse(node: fx.Node, why: str) -> UnsupportedOpError:
    """The error for an operation that cannot be imported, naming it and its place in the module."""
    return origin(node).refuse(why)


def op_name(node: fx.Node) -> str:
    """`conv2d` for `aten.conv2d.default` and its in-place form `conv2d_`."""
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        name = target._schema.name.removeprefix("aten::")
        return name[:-1] if name.endswith("_") and not name.startswith("__") else name
    return str(getattr(target, "__name__", target))


def is_in_place(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def arguments(node: fx.Node, count: int) -> list[Any]:
    """Positional and keyword arguments in the order of the schema, defaults filled in, `count` at least."""
    schema = node.target._schema if isinstance(node.target, torch._ops.OpOverload) else None
    given = list(node.args)
    for spec in schema.arguments[len(given) :] if schema else ():
        given.append(node.kwargs.get(spec.name, spec.default_value))
    return given + [None] * (count - len(given))


def pair(value: Any, default: Any = None) -> list[int]:
    """[height, width] of an aten argument that may be one number, a list of one or two, or empty."""
    if value is None or value == []:
        value = default
    if isinstance(value, int):
        return [value, value]
    values = [int(v) for v in value]
    return values * 2 if len(values) == 1 else values


def along(value: Any, rank: int, default: Any = None, neutral: int = 1) -> list[int]:
    """[height, width] of an argument for images (`rank` 3), or for signals, which have a height of 1."""
    if rank == 3:
        return pair(value, default)
    return [neutral, pair(value, default)[-1]]


def _kind(argument: Any) -> str:
    if isinstance(argument, torch.Tensor):
        return f"a constant of shape {tuple(argument.shape)}"
    return "several values" if isinstance(argument, list) else f"'{argument}'"


def origin(node: fx.Node) -> AtenOrigin:
    """Where an fx node comes from."""
    op = op_name(node)
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path, kind = (str(stack[-1][0]), stack[-1][1]) if stack else ("", "")
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    path = re.sub(r"[^\w.]+", "_", path).strip("._")
    is_layer = bool(path) and kind.startswith("torch.nn.modules.") and ".container." not in kind
    return AtenOrigin(op, path if is_layer else f"{path}.{op}".strip("."), path, is_layer)
