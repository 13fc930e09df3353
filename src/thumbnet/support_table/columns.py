"""What each exit makes of an operation, found out by taking it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache

import torch

from thumbnet.cost.cmsis_nn import units as cmsis_nn_units
from thumbnet.cost.schedule import Unit, schedule
from thumbnet.errors import ThumbnetError, UnsupportedOpError
from thumbnet.exporters.c import emit
from thumbnet.exporters.onnx_float import to_onnx
from thumbnet.exporters.onnx_qdq import to_qdq
from thumbnet.exporters.tflite import to_tflite
from thumbnet.exporters.torch_module import to_torch
from thumbnet.graph.graph import Graph, Node
from thumbnet.graph.passes import clean, fold_batch_norm
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.lower import lower
from thumbnet.integer.passes.join_inputs import join_ports
from thumbnet.support_table.cases import CASES, Case
from thumbnet.targets import Isa, Target, available_targets, load_target
from thumbnet.training.quantize_aware import QuantizedModule

YES, NO, FAST, OURS, LEFT_OUT = "yes", "–", "fast", "ours", "left out"


@dataclass(frozen=True, eq=False)
class Taken:
    """A case as a float and as an integer graph; `removed` where cleaning takes the operation away."""

    graph: Graph
    integer: IntegerGraph | None
    removed: bool


@cache
def taken(case: Case) -> Taken:
    graph = case.graph()
    for form in (graph, clean(graph)):  # cleaning may make other operations of it
        with suppress(UnsupportedOpError):
            return Taken(graph, lower(form, None), False)
    return Taken(graph, None, all(n.op != case.op for n in clean(_behind(graph)).nodes))


def _behind(graph: Graph) -> Graph:
    """The node behind another, which cleaning can make the output in its place."""
    (node,), first = graph.nodes, Node("before", "abs", (graph.inputs[0].name,))
    return graph.with_nodes((first, replace(node, inputs=(first.name, *node.inputs[1:]))))


Column = Callable[[Taken], str]


def _tried(way: Callable[[], object]) -> str:
    try:
        way()
    except ThumbnetError:
        return NO
    return YES


def _integer(way: Callable[[IntegerGraph], str]) -> Column:
    def column(t: Taken) -> str:
        if t.integer is None:
            return LEFT_OUT if t.removed else NO
        return way(t.integer)

    return column


def _training(t: Taken) -> str:
    """Whether quantization-aware training passes a gradient through it, batch norms folded as always before it."""
    if t.integer is None:
        return LEFT_OUT if t.removed else NO
    module = QuantizedModule(fold_batch_norm(t.graph), {}).train()
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(2, *i.shape, generator=generator).requires_grad_() for i in t.graph.inputs]
    try:
        made = module(*inputs)
    except ThumbnetError:
        return NO
    assert isinstance(made, torch.Tensor)
    weighted = (made * torch.randn(made.shape, generator=generator)).sum()
    gradients = torch.autograd.grad(weighted, [*inputs, *module.parameters()], allow_unused=True)
    return YES if all(g is not None and bool(torch.isfinite(g).all()) for g in gradients) else NO


def _c(target: Target) -> Column:
    isa = target.core.isa

    def way(ig: IntegerGraph) -> str:
        firmware = join_ports(ig)
        if _tried(lambda: emit(firmware, target)) == NO:
            return NO
        return FAST if _families(schedule(firmware, isa)) & {isa} - {"generic"} else YES

    return _integer(way)


def _cmsis_nn(target: Target) -> Column:
    def way(ig: IntegerGraph) -> str:
        firmware = join_ports(ig)
        units = cmsis_nn_units(firmware, target.core.isa)
        if _tried(lambda: emit(firmware, target, units=units)) == NO:
            return NO
        return YES if "cmsis_nn" in _families(units) else OURS

    return _integer(way)


def _families(units: tuple[Unit, ...]) -> set[str]:
    """The folders of the kernels that compute a network."""
    return {source.split("/")[0] for unit in units for source in unit.sources}


def _by_isa() -> Mapping[Isa, list[Target]]:
    """The cores of each family of kernels, in the order of their names."""
    cores = [load_target(n) for n in available_targets() if n.startswith("cortex-")]
    found: dict[Isa, list[Target]] = {}
    for core in sorted(cores, key=lambda t: int("".join(c for c in t.core.name if c.isdigit()))):
        found.setdefault(core.core.isa, []).append(core)
    return found


def _short(core: str) -> str:
    return core.removeprefix("cortex-").replace("plus", "+").upper()


def columns() -> dict[str, Column]:
    """Title → what to try."""
    cores = _by_isa()
    return {
        "int8": _integer(lambda _: YES),
        "training": _training,
        "TFLite": _integer(lambda ig: _tried(lambda: to_tflite(ig))),
        "QDQ ONNX": _integer(lambda ig: _tried(lambda: to_qdq(ig))),
        "float ONNX": lambda t: _tried(lambda: to_onnx(t.graph)),
        "PyTorch source": lambda t: _tried(lambda: to_torch(t.graph)),
        **{"C, " + "/".join(_short(t.core.name) for t in some): _c(some[0]) for some in cores.values()},
        "CMSIS-NN": _cmsis_nn(cores["dsp"][0]),
    }


def cell(column: Column, operation: str) -> str:
    """What an exit makes of all forms of an operation; where they differ, which forms it takes how."""
    found = {case.what: column(taken(case)) for case in CASES if case.op == operation}
    if len(set(found.values())) == 1:
        return next(iter(found.values()))
    by_state: dict[str, list[str]] = {}
    for what, state in found.items():
        by_state.setdefault(state, []).append(what)
    return "; ".join(f"{state} ({', '.join(some)})" for state, some in by_state.items())
