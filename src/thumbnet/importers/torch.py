"""PyTorch through `torch.export`: every aten operation translated, and the result compared with the module
itself.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from thumbnet.errors import ModelError
from thumbnet.graph.evaluate import evaluate_values
from thumbnet.graph.graph import Graph, Shape
from thumbnet.graph.passes.dead_nodes import dead_nodes
from thumbnet.importers.aten import (
    MAX_CONSTANT,
    Builder,
    Handler,
    Ref,
    Value,
    arguments,
    is_in_place,
    op_name,
    refuse,
    sample_shape,
)
from thumbnet.importers.aten_layers import LAYERS
from thumbnet.importers.aten_values import VALUES
from thumbnet.importers.nearest import NEAREST

HANDLERS: dict[str, Handler] = {**LAYERS, **VALUES}
TOLERANCE = 1e-4  # of the largest output; float32 networks stay two orders of magnitude below
_BATCH = 2  # with 1, an operation that drops or mixes the batch axis would go unseen
_ROUNDS = 2  # random batches compared
# What torch raises when a module and its input do not go together, or when it cannot be traced.
_TORCH_ERRORS = (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError, AssertionError)


@dataclass(frozen=True, eq=False)
class Imported:
    """A graph and how far its outputs are from those of the model it comes from."""

    graph: Graph
    max_difference: float
    tolerance: float


Runner = Callable[[list[torch.Tensor]], list[torch.Tensor]]


def import_torch(model: nn.Module | ExportedProgram, input_shape: Sequence[int] | None = None, name: str = "") -> Graph:
    """The graph of `imported(...)`."""
    return imported(model, input_shape, name=name).graph


def imported(
    model: nn.Module | ExportedProgram,
    input_shape: Sequence[int] | None = None,
    *,
    name: str = "",
    samples: npt.NDArray[np.float32] | None = None,
) -> Imported:
    """Translates a module (in evaluation mode) or an exported program, and checks the result numerically.

    `input_shape` is (channels, height, width), the batch left out; an exported program brings its own.
    `samples`, float32 [N, *input_shape], are compared in addition to random inputs. The module itself stays
    as it was.

    Raises `UnsupportedOpError` for an operation Thumbnet lacks, and `ModelError` for an input shape that the
    module does not accept, for a module that cannot be exported, and for outputs that differ by more than the
    tolerance.
    """
    if isinstance(model, ExportedProgram):
        return _imported(model, lambda x: _interpret(model, x), name or "network", samples)
    if input_shape is None:
        raise ModelError(
            f"{type(model).__name__} does not tell the shape of its input.",
            "Give input_shape=(channels, height, width), or an input size where the data tells the channels.",
        )
    with _evaluating(model):
        program = _export(model, tuple(int(s) for s in input_shape))
        return _imported(program, lambda x: _flat(model(*x)), name or type(model).__name__, samples)


def _imported(program: ExportedProgram, run: Runner, name: str, samples: npt.NDArray[np.float32] | None) -> Imported:
    graph = dead_nodes(translate(program, name))
    graph.validate()
    difference, tolerance = _compare(graph, run, _batch_size(program), samples)
    return Imported(graph, difference, tolerance)


# --- export


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for the time being; every sub-module gets its own mode back."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for m, mode in modes:
            m.training = mode


def _export(module: nn.Module, shape: Shape) -> ExportedProgram:
    kind = type(module).__name__
    x = torch.zeros(_BATCH, *shape)
    try:
        module(x)
    except _TORCH_ERRORS as e:
        raise ModelError(
            f"{kind} does not accept an input of shape {shape} (channels, height, width): {_first_line(e)}",
            "Check the input size and the number of channels.",
        ) from e
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about its own workings
            return torch.export.export(module, (x,))
    except _TORCH_ERRORS as e:
        raise ModelError(
            f"torch.export cannot trace {kind}: {_first_line(e)}",
            "Remove control flow that depends on the input's values, or export the model yourself.",
        ) from e


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200].rstrip(".") + "."


# --- translation


def translate(program: ExportedProgram, name: str) -> Graph:
    """The exported program as a graph, node by node."""
    builder = Builder(name, _batch_size(program))
    constants = _constants(program)
    values: dict[fx.Node, Value] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder":
            given = constants.get(node.name)
            values[node] = builder.add_input(node.name, sample_shape(node, builder.batch)) if given is None else given
        elif node.op == "call_function":
            values[node] = _translate_call(builder, values, node)
            _mutate(values, node)
        elif node.op != "output":
            raise refuse(node, "The exported program calls code that is not an aten operation.")
    by_name = {node.name: value for node, value in values.items()}
    outputs = [by_name[n] for n in program.graph_signature.user_outputs if isinstance(n, str)]
    if not outputs or not all(isinstance(v, Ref) and v in builder.by_name for v in outputs):
        raise ModelError(f"The outputs of {name} are not all computed from its input.")
    return builder.graph([str(v) for v in outputs])


def _translate_call(builder: Builder, values: dict[fx.Node, Value], node: fx.Node) -> Value:
    if node.target is operator.getitem:
        source, index = node.args
        group = values[source] if isinstance(source, fx.Node) else None
        if not isinstance(group, list) or not isinstance(index, int):
            raise refuse(node, "Only the parts of a chunk or split can be picked.")
        return group[index]
    if not isinstance(node.target, torch._ops.OpOverload) or node.target.namespace not in ("aten", "prim"):
        raise refuse(node, "Only PyTorch's own operations are supported.")
    if not isinstance(node.meta.get("val"), torch.Tensor | list | tuple):
        return torch.empty(0)  # sizes and assertions: shapes come from the export itself
    args = fx.map_arg(arguments(node, 9), lambda n: values[n])
    if not _reads_values(args):
        return _constant_result(node, args)
    handler = HANDLERS.get(op_name(node))
    if handler is None:
        raise refuse(node, NEAREST.get(op_name(node), ""))
    value = handler(builder, node, args)
    if isinstance(value, Ref) and builder.shapes[value] != builder.output_shape(node):
        raise ModelError(f"'{value}' has shape {builder.output_shape(node)} in PyTorch, not {builder.shapes[value]}.")
    return value


def _reads_values(argument: Any) -> bool:
    if isinstance(argument, list | tuple):
        return any(_reads_values(a) for a in argument)
    return isinstance(argument, Ref)


def _constant_result(node: fx.Node, args: list[Any]) -> Value:
    """An operation on constants alone, carried out now."""
    shape = node.meta["val"]
    if not isinstance(shape, torch.Tensor) or shape.numel() > MAX_CONSTANT:
        raise refuse(node, "It computes a constant that is no single tensor of reasonable size.")
    target = node.target
    assert isinstance(target, torch._ops.OpOverload)
    names = [a.name for a in target._schema.arguments]
    count = sum(not a.kwarg_only for a in target._schema.arguments)
    result = target(*args[:count], **dict(zip(names[count:], args[count : len(names)], strict=True)))
    if not isinstance(result, torch.Tensor):
        raise refuse(node, "It computes a constant that is no tensor.")
    return result


def _mutate(values: dict[fx.Node, Value], node: fx.Node) -> None:
    """After an in-place operation, whoever reads what it overwrote, under whatever name, reads the result."""
    if not is_in_place(node) or not isinstance(node.args[0], fx.Node):
        return
    old = values[node.args[0]]
    for key, value in values.items():
        if value is old or (isinstance(value, Ref) and value == old):
            values[key] = values[node]


def _constants(program: ExportedProgram) -> dict[str, torch.Tensor]:
    """Parameters, buffers and constants by the name of their placeholder."""
    found: dict[str, torch.Tensor] = {}
    for spec in program.graph_signature.input_specs:
        if spec.kind == InputKind.USER_INPUT:
            continue
        if spec.target is None or spec.kind not in (
            InputKind.PARAMETER,
            InputKind.BUFFER,
            InputKind.CONSTANT_TENSOR,
        ):
            raise ModelError(f"The exported program holds '{spec.target}', which is not a tensor.")
        value = program.state_dict.get(spec.target)
        found[spec.arg.name] = program.constants[spec.target] if value is None else value
    return found


def _batch_size(program: ExportedProgram) -> int:
    """Fixed batch size of the exported program, or `_BATCH` where it may vary."""
    inputs = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.op == "placeholder" and node.name in inputs and isinstance(value, torch.Tensor) and value.ndim:
            return value.shape[0] if isinstance(value.shape[0], int) else _BATCH
    raise ModelError("The exported program has no tensor as its input.")


# --- comparison


def _compare(graph: Graph, run: Runner, batch: int, samples: npt.NDArray[np.float32] | None) -> tuple[float, float]:
    """Largest difference over all outputs, and what is tolerated. Raises `ModelError` where it is more."""
    worst, largest = 0.0, 1.0
    with torch.inference_mode():
        for inputs in _batches(graph, batch, samples):
            expected = run(inputs)
            values = evaluate_values(graph, {i.name: x for i, x in zip(graph.inputs, inputs, strict=True)})
            for name, reference in zip(graph.outputs, expected, strict=True):
                if not bool(torch.isfinite(reference).all()):
                    raise ModelError(f"The output '{name}' of {graph.name} is not finite for ordinary inputs.")
                worst = max(worst, float((values[name] - reference).abs().max()))
                largest = max(largest, float(reference.abs().max()))
    tolerance = TOLERANCE * largest
    if worst > tolerance:
        raise ModelError(
            f"The imported {graph.name} differs from the original by {worst:.3g} (tolerated: {tolerance:.3g}).",
            "This is a fault of the importer; please report the model.",
        )
    return worst, tolerance


def _batches(graph: Graph, batch: int, samples: npt.NDArray[np.float32] | None) -> Iterator[list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    for _ in range(_ROUNDS):
        yield [torch.randn(batch, *i.shape, generator=generator) for i in graph.inputs]
    if samples is not None:
        for start in range(0, len(samples) - batch + 1, batch):
            yield [torch.from_numpy(np.array(samples[start : start + batch], np.float32))]


def _interpret(program: ExportedProgram, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """Runs the program's operations one by one, and nothing else that a file may have brought along."""
    constants, rest = _constants(program), iter(inputs)
    placeholders = [n for n in program.graph.nodes if n.op == "placeholder"]
    given = [constants[n.name] if n.name in constants else next(rest) for n in placeholders]
    return _flat(fx.Interpreter(program.graph_module).run(*given))


def _flat(outputs: Any) -> list[torch.Tensor]:
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    values = outputs.values() if isinstance(outputs, dict) else outputs
    return [tensor for value in values for tensor in _flat(value)]
