"""`check`: what Thumbnet makes of a model, node by node, before any work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from thumbnet.cost import estimate
from thumbnet.errors import ModelError, ThumbnetError
from thumbnet.exporters.c import emit
from thumbnet.exporters.onnx_float import to_onnx
from thumbnet.exporters.onnx_qdq import to_qdq
from thumbnet.exporters.tflite import to_tflite
from thumbnet.exporters.torch_module import to_torch
from thumbnet.graph.graph import Graph
from thumbnet.graph.passes import clean
from thumbnet.importers.imported import Check
from thumbnet.importers.load import check_nodes, load_imported
from thumbnet.importers.quantized_models import is_quantized, load_quantized
from thumbnet.importers.report import REFUSED, SUPPORTED, UNCHECKED, NodeReport
from thumbnet.importers.torch_export import Shapes
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.lower import lower, refused
from thumbnet.integer.passes import lossless
from thumbnet.integer.passes.join_inputs import join_ports
from thumbnet.results import Costs
from thumbnet.targets import Target, load_target

EXITS = ("tflite", "onnx", "c", "onnx-float", "torch")


@dataclass(frozen=True, eq=False)
class Checked:
    """Every node of the source, and what can be done with the whole.

    `error` says why `optimize` cannot take the model, empty where it can. `exits` tells for each format why it cannot
    be written, empty where it can. `costs` are those of the network as it is, in int8, on `target`.
    """

    model: str
    nodes: tuple[NodeReport, ...]
    error: str
    agreement: Check | None
    target: Target
    costs: Costs | None
    exits: Mapping[str, str]
    quantized: bool

    def __str__(self) -> str:
        return "\n".join([*(f"{n.name} ({n.op}): {n.reason}" for n in self.listed()), *self.lines()])

    @property
    def ok(self) -> bool:
        return not self.error and all(n.state == SUPPORTED for n in self.nodes)

    @property
    def refused(self) -> tuple[NodeReport, ...]:
        return tuple(n for n in self.nodes if n.state == REFUSED)

    def listed(self, *, everything: bool = False) -> list[NodeReport]:
        """What a table of nodes must show: those refused, or where there are none those that could not be checked."""
        if everything:
            return list(self.nodes)
        return list(self.refused) or [n for n in self.nodes if n.state != SUPPORTED]

    def json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "ok": self.ok,
            "error": self.error,
            "nodes": [asdict(n) for n in self.nodes],
            "agreement": self.agreement.json() if self.agreement else None,
            "target": self.target.name,
            "flash_bytes": self.costs.flash_bytes if self.costs else None,
            "ram_bytes": self.costs.ram_bytes if self.costs else None,
            "exits": dict(self.exits),
        }

    def lines(self) -> list[str]:
        """What there is to say of the whole, for the terminal."""
        said = [self._counted()] if self.nodes else []
        if self.error and not self.refused:
            said.append(self.error)
        if self.agreement:
            said.append(f"The imported network {self.agreement.sentence()}")
        if self.costs:
            said.append(self._fit(self.costs))
        said += [f"Cannot be written as {name}: {why}" for name, why in self.exits.items() if why]
        if self.exits and not any(self.exits.values()):
            said.append("Can be written as " + ", ".join(self.exits) + ".")
        if self.quantized:
            said.append("It is quantized: 'thumbnet compile' takes it as it is, byte for byte.")
        return said

    def _counted(self) -> str:
        count = len(self.nodes)
        if all(n.state == SUPPORTED for n in self.nodes):
            return f"All {count} nodes are supported." if count > 1 else "Its one node is supported."
        refused, hidden = len(self.refused), sum(n.state == UNCHECKED for n in self.nodes)
        said = f"{refused} of {count} nodes {'is' if refused == 1 else 'are'} not supported"
        return said + (f", and {hidden} behind could not be checked." if hidden else ".")

    def _fit(self, costs: Costs) -> str:
        t = self.target
        fits = costs.flash_bytes <= t.flash_bytes and costs.ram_bytes <= t.ram_bytes
        verdict = "fits as it is" if fits else "does not fit as it is; 'thumbnet optimize' looks for a form that does"
        return (
            f"As int8 on {t.title}: {costs.flash_bytes / 1024:.0f} of {t.flash_bytes / 1024:.0f} KB of flash, "
            f"{costs.ram_bytes / 1024:.0f} of {t.ram_bytes / 1024:.0f} KB of RAM (estimated): it {verdict}."
        )


def check(
    model: Any,
    target: str = "nrf52840",
    *,
    input_shape: Shapes | None = None,
    weights: str | Path | None = None,
) -> Checked:
    """What is supported of a model, what is not, and what to do about it, node by node; nothing is trained or built.

    `model`, `input_shape` and `weights` are as for `optimize`. Raises `ModelError` only where a file cannot be read
    at all, or the shape of the input is missing.
    """
    board = load_target(target)
    nodes = tuple(check_nodes(model, input_shape, weights))
    name = Path(model).name if isinstance(model, str | Path) else type(model).__name__
    taken = _compiled(model) if is_quantized(model) else None
    quantized = taken is not None
    try:
        made = load_imported(model, input_shape, weights)
        graph = clean(made.graph)
        failed = refused(graph)
    except ModelError as e:
        return Checked(name, nodes, str(e), None, board, *_whole(taken, None, board), quantized)
    nodes = nodes or tuple(NodeReport(n.name, n.op, SUPPORTED, "") for n in made.graph.nodes)  # a graph of our own
    if failed:
        return Checked(name, _marked(nodes, failed), str(failed[0]), made.check, board, None, {}, quantized)
    integer = lower(graph, None)
    return Checked(name, nodes, "", made.check, board, *_whole(integer, graph, board), quantized)


def _compiled(model: Any) -> IntegerGraph | None:
    """The integer graph that `compile` would make of a quantized file."""
    try:
        return lossless(load_quantized(model).graph)
    except ThumbnetError:
        return None


def _whole(integer: IntegerGraph | None, graph: Graph | None, target: Target) -> tuple[Costs | None, dict[str, str]]:
    """Costs on the target, and for each exit why it cannot be taken."""
    if integer is None:
        return None, {}
    firmware = join_ports(integer)
    ways: dict[str, Callable[[], object]] = {
        "tflite": lambda: to_tflite(integer),
        "onnx": lambda: to_qdq(integer),
        "c": lambda: emit(firmware, target),
    }
    if graph is not None:
        ways |= {"onnx-float": lambda: to_onnx(graph), "torch": lambda: to_torch(graph)}
    return estimate(firmware, target), {name: _why_not(way) for name, way in ways.items()}


def _why_not(way: Callable[[], object]) -> str:
    try:
        way()
    except ThumbnetError as e:
        return str(e)
    return ""


def _marked(nodes: Sequence[NodeReport], failed: Sequence[ModelError]) -> tuple[NodeReport, ...]:
    """The nodes, those refused that have no integer form. Such a node is called as in the source, or nearly so."""
    reasons = {str(getattr(e, "node", "")): e for e in failed}
    marked = tuple(
        NodeReport(n.name, n.op, REFUSED, reasons.pop(n.name).hint) if n.name in reasons else n for n in nodes
    )
    return marked + tuple(NodeReport(k, str(getattr(e, "op", "")), REFUSED, e.hint) for k, e in reasons.items())
