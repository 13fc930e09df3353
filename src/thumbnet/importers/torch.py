"""PyTorch through `torch.export`: every aten operation translated, and the result compared with the module
itself.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from thumbnet.errors import ModelError
from thumbnet.graph.graph import Graph
from thumbnet.importers import imported as check
from thumbnet.importers.aten import (
    MAX_CONSTANT,
    AtenBuilder,
    Computed,
    Handler,
    arguments,
    is_in_place,
    op_name,
    origin,
    refuse,
    sample_shape,
)
from thumbnet.importers.aten_layers import LAYERS
from thumbnet.importers.aten_values import VALUES
from thumbnet.importers.builder import Value
from thumbnet.importers.imported import Array, Imported
from thumbnet.importers.nearest import NEAREST
from thumbnet.importers.report import REFUSED, SUPPORTED, UNCHECKED, NodeReport
from thumbnet.importers.torch_export import BATCH, Shapes, evaluating, exported, no_shape, shapes_of

HANDLERS: dict[str, Handler] = {**LAYERS, **VALUES}
Runner = Callable[[list[torch.Tensor]], list[torch.Tensor]]


def import_torch(model: nn.Module | ExportedProgram, input_shape: Shapes | None = None, name: str = "") -> Graph:
    """The graph of `imported(...)`."""
    return imported(model, input_shape, name=name).graph


def imported(
    model: nn.Module | ExportedProgram,
    input_shape: Shapes | None = None,
    *,
    name: str = "",
    samples: npt.NDArray[np.float32] | None = None,
) -> Imported:
    """Translates a module (in evaluation mode) or an exported program, and checks the result numerically.

    `input_shape` is (channels, height, width), the batch left out, or one such shape for each input; (channels, 1,
    time) also stands for the (channels, time) of a signal. An exported program brings its own. `samples`, float32
    [N, *shape of the graph's input], are compared in addition to random inputs. The module itself stays as it was.

    Raises `UnsupportedOpError` for an operation Thumbnet lacks, and `ModelError` for an input shape that the
    module does not accept, for a module that cannot be exported, and for outputs that differ by more than the
    tolerance.
    """
    if isinstance(model, ExportedProgram):
        made = _imported(model, lambda x: _interpret(model, x), name or "network")
        return made if samples is None else made.checked([samples])
    if input_shape is None:
        raise no_shape(model)
    with evaluating(model):
        program = exported(model, shapes_of(input_shape))

    def run(inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        with evaluating(model):
            return _flat(model(*inputs))

    made = _imported(program, run, name or type(model).__name__)
    return made if samples is None else made.checked([samples])


def _imported(program: ExportedProgram, run: Runner, name: str) -> Imported:
    builder, inputs, outputs = translate(program, name)
    graph, fixed = builder.graph(outputs), _fixed_batch(program)

    def run_arrays(arrays: list[Array]) -> list[Array]:
        return [y.detach().cpu().numpy() for y in run([torch.from_numpy(np.ascontiguousarray(a)) for a in arrays])]

    runtime = f"PyTorch {torch.__version__}"
    return check.imported(graph, inputs, outputs, run_arrays, runtime, batch=fixed)


# --- translation


def translate(program: ExportedProgram, name: str) -> tuple[AtenBuilder, list[Value], list[Value]]:
    """The exported program node by node: the graph in the making, its inputs and its outputs."""
    builder = AtenBuilder(name, _batch_size(program))
    values, inputs = _given(program, builder)
    for node in program.graph.nodes:
        if node.op == "call_function":
            values[node] = _translate_call(builder, values, node)
            _mutate(values, node)
        elif node.op not in ("placeholder", "output"):
            raise refuse(node, "The exported program calls code that is not an aten operation.")
    found = {node.name: (node, value) for node, value in values.items()}
    outputs = [found[n] for n in program.graph_signature.user_outputs if isinstance(n, str)]
    if not outputs or not all(isinstance(v, Value) for _, v in outputs):
        raise ModelError(f"The outputs of {name} are not all computed from its input.")
    return builder, inputs, [builder.output(origin(node), v) for node, v in outputs if isinstance(v, Value)]


def _given(program: ExportedProgram, builder: AtenBuilder) -> tuple[dict[fx.Node, Computed], list[Value]]:
    """What the placeholders stand for, and the inputs among them."""
    constants = _constants(program)
    values: dict[fx.Node, Computed] = {}
    inputs: list[Value] = []
    for node in program.graph.nodes:
        if node.op != "placeholder":
            continue
        given = constants.get(node.name)
        if given is None:
            inputs.append(builder.input(node.name, sample_shape(node, builder.batch)))
        values[node] = inputs[-1] if given is None else given
    return values, inputs


def check_torch(model: nn.Module | ExportedProgram, input_shape: Shapes | None = None) -> list[NodeReport]:
    """What can be said of each operation of a module or an exported program.

    Behind a refused operation its result is taken as given, so that everything that is in the way is told at once.
    """
    if isinstance(model, ExportedProgram):
        program = model
    elif input_shape is None:
        raise no_shape(model)
    else:
        with evaluating(model):
            program = exported(model, shapes_of(input_shape))
    builder = AtenBuilder("network", _batch_size(program))
    values, _ = _given(program, builder)
    reports = []
    for node in program.graph.nodes:
        if node.op != "call_function":
            continue
        where = origin(node)
        told = where.op not in ("getitem", "sym_size", "_assert_tensor_metadata")
        if any(n not in values for n in node.all_input_nodes):
            if node.target is operator.getitem:  # one of the results of a refused operation
                _stand_in(builder, values, node)
                continue
            hidden = "It reads what a refused operation before it would make."
            reports += [NodeReport(where.name, where.op, UNCHECKED, hidden)] if told else []
            continue
        try:
            values[node] = _translate_call(builder, values, node)
            _mutate(values, node)
            reports += [NodeReport(where.name, where.op, SUPPORTED, "")] if told else []
        except ModelError as e:
            reports.append(NodeReport(where.name, where.op, REFUSED, e.hint or e.message))
            _stand_in(builder, values, node)
    return reports


def _stand_in(builder: AtenBuilder, values: dict[fx.Node, Computed], node: fx.Node) -> None:
    """A value of the right shape for what a refused node would compute, where it is one tensor for each image."""
    try:
        values[node] = builder.input(node.name, sample_shape(node, builder.batch))
    except ModelError:
        return


def _translate_call(builder: AtenBuilder, values: dict[fx.Node, Computed], node: fx.Node) -> Computed:
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
    args: list[Any] = fx.map_arg(arguments(node, 9), lambda n: values[n])  # type: ignore[arg-type,return-value]
    if not _reads_values(args):
        return _constant_result(node, args)
    handler = HANDLERS.get(op_name(node))
    if handler is None:
        raise refuse(node, NEAREST.get(op_name(node), ""))
    value = handler(builder, node, args)
    if isinstance(value, Value) and value.shape != builder.output_shape(node):
        raise ModelError(f"'{value.ref}' has shape {builder.output_shape(node)} in PyTorch, not {value.shape}.")
    return value


def _reads_values(argument: Any) -> bool:
    if isinstance(argument, list | tuple):
        return any(_reads_values(a) for a in argument)
    return isinstance(argument, Value)


def _constant_result(node: fx.Node, args: list[Any]) -> Computed:
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


def _mutate(values: dict[fx.Node, Computed], node: fx.Node) -> None:
    """After an in-place operation, whoever reads what it overwrote, under whatever name, reads the result."""
    if not is_in_place(node) or not isinstance(node.args[0], fx.Node):
        return
    old, new = values[node.args[0]], values[node]
    for key, value in values.items():
        if value is old:
            values[key] = new
        elif isinstance(value, Value) and isinstance(old, Value) and value.ref == old.ref and key is not node:
            if not isinstance(new, Value) or new.layout.stored != value.layout.stored:
                raise refuse(node, "It overwrites a value that is read under another shape; leave out the underscore.")
            values[key] = Value(new.ref, value.layout)


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
    """Batch size of the exported program, or `BATCH` where it may vary."""
    return _fixed_batch(program) or BATCH


def _fixed_batch(program: ExportedProgram) -> int | None:
    """The only batch size that the program takes; None where it may vary."""
    inputs = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.op == "placeholder" and node.name in inputs and isinstance(value, torch.Tensor) and value.ndim:
            return value.shape[0] if isinstance(value.shape[0], int) else None
    raise ModelError("The exported program has no tensor as its input.")


# --- the source's own answers


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
