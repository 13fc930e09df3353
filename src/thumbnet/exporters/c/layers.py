"""Constants and calls of all nodes, cascades included, in the order of the graph."""

from __future__ import annotations

from dataclasses import dataclass

from thumbnet.cost.kernel import Kernel
from thumbnet.cost.memory import offsets
from thumbnet.cost.plan import ArenaPlan
from thumbnet.cost.schedule import Unit
from thumbnet.exporters.c import spell
from thumbnet.exporters.c.calls import call, convolution_constants
from thumbnet.exporters.c.comments import title
from thumbnet.exporters.c.site import Site
from thumbnet.integer.graph import IntegerGraph


@dataclass(frozen=True)
class Layer:
    """A node in model.c: a comment's text, definitions, and statements of `model_invoke`."""

    title: str
    constants: str
    statements: tuple[str, ...]


def layers(ig: IntegerGraph, plan: ArenaPlan, units: tuple[Unit, ...]) -> list[Layer]:
    """One for each node. A cascade's only statement stands at its last node."""
    place = offsets(ig, plan)
    scratch = {b.name: b.offset for b in plan.buffers if b.kind == "scratch"}
    names = spell.identifiers(node.name for node in ig.nodes)

    def site(step: int, kernel: Kernel, last: int) -> Site:
        node = ig.nodes[step]
        working = scratch.get(ig.nodes[last].name)
        inputs = tuple(_address(place[v]) for v in node.inputs)
        output = _address(place[node.name])
        return Site(
            node, ig, kernel, names[node.name], inputs, output, "NULL" if working is None else _address(working)
        )

    found: list[Layer] = []
    for unit in units:
        sites = [site(step, kernel, unit.last) for step, kernel in zip(unit.nodes, unit.kernels, strict=True)]
        if unit.rows:
            found += _cascade(ig, unit, sites, [place[ig.nodes[step].name] for step in unit.nodes])
        else:
            made = call(sites[0])
            found.append(Layer(title(unit.first, ig), "\n".join(made.constants), made.statements))
    return found


def _cascade(ig: IntegerGraph, unit: Unit, sites: list[Site], places: list[int]) -> list[Layer]:
    first, last = sites[0], sites[-1]
    stages = [
        f"{{.run = {s.kernel.called}, .clamp = {s.kernel.clamp or 'NULL'}, "
        f".params = &{s.name}, .offset = {0 if s is last else place}}}"
        for s, place in zip(sites, places, strict=True)
    ]
    table = f"static const tn_stage {first.name}_stages[{len(sites)}] = {{\n{spell.wrapped(stages)}\n}};\n"
    statement = (
        f"tn_cascade({first.name}_stages, {len(sites)}, {unit.rows}, "
        f"{first.inputs[0]}, {last.output}, m, {last.scratch});"
    )
    found = []
    for step, s in zip(unit.nodes, sites, strict=True):
        constants = convolution_constants(s)
        rows = f"; by rows, {unit.first + 1}-{unit.last + 1} in turns"
        definitions = "\n".join((*constants, table) if s is last else constants)
        found.append(Layer(title(step, ig) + rows, definitions, (statement,) if s is last else ()))
    return found


def _address(offset: int) -> str:
    return f"m + {offset}" if offset else "m"
