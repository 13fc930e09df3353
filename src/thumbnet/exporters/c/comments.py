"""What model.c says about itself: a title for each layer, and who lives where in the arena."""

from __future__ import annotations

from dataclasses import dataclass

from thumbnet.cost.kernel import window_of
from thumbnet.cost.latency import macs
from thumbnet.cost.plan import ArenaPlan
from thumbnet.exporters.c import spell
from thumbnet.integer.graph import IntegerGraph, IntegerNode

_WINDOWED = ("conv2d", "depthwise_conv2d", "max_pool2d", "avg_pool2d")


@dataclass(frozen=True)
class Place:
    """A line of the arena's map. Layers count from 1, as in the titles; `end` is the first byte behind."""

    first: int
    end: int
    layers: str
    what: str


def title(step: int, ig: IntegerGraph) -> str:
    """ "3. name: conv2d 3x3, stride 2x2, 48x48x8 -> 24x24x16, 1,327,104 MACs" for the node at `step`."""
    node = ig.nodes[step]
    sources = ", ".join(_shape(v, ig) for v in node.inputs)
    facts = [*_window(node, ig), f"{sources} -> {_shape(node.name, ig)}"]
    count = macs(node, ig)
    if count:
        facts.append(f"{count:,} MACs")
    return spell.comment(f"{step + 1}. {node.name}: {node.op} {', '.join(facts)}")


def arena_map(ig: IntegerGraph, plan: ArenaPlan) -> list[Place]:
    """Every buffer in the order of first use. Tensors without one of their own, such as reshaped ones, share a line."""
    owners = {b.name for b in plan.buffers if b.kind == "activation"}
    tenants: dict[str, list[str]] = {name: [name] for name in owners}
    for node in ig.nodes:
        if node.name not in owners:
            tenants[node.name] = tenants[plan.aliases[node.name]]
            tenants[node.name].append(node.name)
    places = []
    for b in sorted(plan.buffers, key=lambda b: (b.first, b.kind != "activation", b.offset)):
        what = ", ".join(tenants[b.name]) if b.kind == "activation" else f"scratch of {b.name}"
        layers = f"{b.first + 1}" if b.first == b.last else f"{b.first + 1}-{b.last + 1}"
        places.append(Place(b.offset, b.offset + b.bytes, layers, spell.comment(what)))
    return places


def _window(node: IntegerNode, ig: IntegerGraph) -> list[str]:
    if node.op not in _WINDOWED:
        return []
    w = window_of(node, ig)
    stride = [] if w.stride == (1, 1) else [f"stride {_pair(w.stride)}"]
    dilation = [] if w.dilation == (1, 1) else [f"dilation {_pair(w.dilation)}"]
    return [_pair(w.kernel), *stride, *dilation]


def _pair(values: tuple[int, int]) -> str:
    return f"{values[0]}x{values[1]}"


def _shape(name: str, ig: IntegerGraph) -> str:
    return "x".join(str(d) for d in ig.tensors[name].shape)
