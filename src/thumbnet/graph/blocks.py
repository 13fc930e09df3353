"""Parts of a network that can be left out: blocks that keep their input's shape, and everything behind a cut
point.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from thumbnet.errors import ModelError
from thumbnet.graph.graph import Graph, Input, Node
from thumbnet.graph.passes.rewrite import substitute

WEIGHTED = ("conv2d", "depthwise_conv2d", "conv_transpose2d", "dense")
# A value that one of these reads alone is no place to cut: the convolution behind would see it without them.
_FOLLOWERS = (
    "batch_norm",
    "relu",
    "relu6",
    "clip",
    "leaky_relu",
    "prelu",
    "elu",
    "hard_swish",
    "hard_sigmoid",
    "sigmoid",
    "tanh",
    "silu",
)


@dataclass(frozen=True)
class Block:
    """Nodes between the value `entry` and the value `exit` of equal shape; nothing else reads or feeds
    them.
    """

    name: str  # that of its exit
    entry: str
    exit: str
    nodes: tuple[str, ...]  # in execution order, the exit's node included


def skippable_blocks(graph: Graph) -> tuple[Block, ...]:
    """Residual branches whose other side is the identity, and chains between cut points of equal shape.

    Blocks whose exit is a graph output are left alone. In the order of their exits; each block holds weights.
    """
    reach = _ancestors(graph)
    found: dict[str, Block] = {}
    for node in graph.nodes:
        if node.op == "add":
            for entry, branch in (node.inputs, node.inputs[::-1]):
                if graph.shapes[entry] == graph.shapes[node.name] and entry in reach[branch]:
                    _record(graph, reach, found, entry, node.name)
    ends = [v for v in _dominating(graph, reach) if _is_stage_end(graph, v) and not _is_depthwise(graph, v)]
    for entry, exit_ in pairwise(ends):
        if graph.shapes[entry] == graph.shapes[exit_]:
            _record(graph, reach, found, entry, exit_)
    order = {n.name: k for k, n in enumerate(graph.nodes)}
    return tuple(sorted(found.values(), key=lambda b: order[b.exit]))


def regions(graph: Graph) -> tuple[Block, ...]:
    """The graph cut into consecutive parts, each from one value that everything passes through to the next: residual
    blocks, separable blocks, single layers. In order; those without weights, and what leads to an output, left out."""
    reach = _ancestors(graph)
    ends = [v for v in _dominating(graph, reach) if _is_stage_end(graph, v) and not _is_depthwise(graph, v)]
    found = []
    for entry, exit_ in pairwise(ends):
        inside = {v for v in reach[exit_] if entry in reach[v]} | {exit_}
        nodes = tuple(n for n in graph.nodes if n.name in inside)
        if exit_ not in graph.outputs and any(n.op in WEIGHTED for n in nodes):
            found.append(Block(exit_, entry, exit_, tuple(n.name for n in nodes)))
    return tuple(found)


def part(graph: Graph, block: Block) -> Graph:
    """The block as a graph of its own, from its entry to its exit."""
    names = set(block.nodes)
    nodes = tuple(n for n in graph.nodes if n.name in names)
    out = Graph(f"{graph.name}.{block.name}", (Input(block.entry, graph.shapes[block.entry]),), nodes, (block.exit,))
    out.validate()
    return out


def with_part(graph: Graph, block: Block, changed: Graph) -> Graph:
    """The graph with `changed` in place of the block: a graph from its entry to its exit."""
    inside = set(block.nodes) - {block.exit}
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.name == block.exit:
            nodes += changed.nodes
        elif node.name not in inside:
            nodes.append(node)
    return graph.with_nodes(nodes)


def skip_block(graph: Graph, block: Block) -> Graph:
    """The graph without the block: its readers read the block's entry.

    An activation fused into the block's last node stays, as a node of its own.
    """
    gone = set(block.nodes)
    last = graph.by_name[block.exit]
    activation = last.attrs.get("activation", "none") if last.op == "add" else "none"
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.name == block.exit and activation != "none":
            nodes.append(Node(block.exit, activation, (block.entry,)))
        elif node.name not in gone:
            nodes.append(node)
    if activation == "none":
        nodes = substitute(nodes, {block.exit: block.entry})
    out = graph.with_nodes(nodes)
    out.validate()
    return out


def cut_points(graph: Graph) -> tuple[str, ...]:
    """Images through which everything passes, in execution order: the network can end there (see `truncate`).

    Only ends of stages count (not the inside of convolution, batch norm, activation), behind at least one
    convolution and with at least one behind them.
    """
    reach = _ancestors(graph)
    convolutions = {n.name for n in graph.nodes if n.op in WEIGHTED[:2]}
    found = []
    for value in _dominating(graph, reach):
        shape = graph.shapes[value]
        before = (reach[value] | {value}) & convolutions
        spatial = len(shape) == 3 and shape[1] * shape[2] > 1
        if spatial and before and convolutions - before and _is_stage_end(graph, value):
            found.append(value)
    return tuple(found)


def truncate(graph: Graph, value: str, classes: int | None = None) -> Graph:
    """Everything up to `value`, then global average pooling and a dense layer of zeros that is to be fitted.

    The dense layer takes over the name of the graph's output, and its size unless `classes` is given. Raises
    `ModelError` where `value` is not an image or the graph does not have one vector as its output.
    """
    shapes = graph.shapes
    if value not in graph.by_name or len(shapes[value]) != 3:
        raise ModelError(f"Graph '{graph.name}' has no image '{value}' to end at.", "See cut_points(graph).")
    if len(graph.outputs) != 1 or len(shapes[graph.outputs[0]]) != 1:
        raise ModelError(f"Graph '{graph.name}' does not end in one vector, so it cannot be cut short.")
    output = graph.outputs[0]
    keep = _ancestors(graph)[value] | {value}
    if output in keep:
        raise ModelError(f"'{value}' lies behind the output of graph '{graph.name}'.")
    size = (shapes[output][0] if classes is None else classes, shapes[value][0])
    weights = {"weight": np.zeros(size, np.float32), "bias": np.zeros(size[0], np.float32)}
    nodes = [n for n in graph.nodes if n.name in keep]
    pool = f"{value}.pool"
    nodes.append(Node(pool, "global_avg_pool", (value,), {"keepdims": False}))
    nodes.append(Node(output, "dense", (pool,), {"activation": "none"}, weights))
    out = graph.with_nodes(nodes)
    out.validate()
    return out


def _ancestors(graph: Graph) -> dict[str, set[str]]:
    """The values that each value is computed from, itself left out."""
    reach: dict[str, set[str]] = {i.name: set() for i in graph.inputs}
    for node in graph.nodes:
        reach[node.name] = set(node.inputs).union(*(reach[v] for v in node.inputs))
    return reach


def _dominating(graph: Graph, reach: dict[str, set[str]]) -> list[str]:
    """Values through which every path from the inputs to the outputs passes, inputs included, in execution
    order.
    """
    needed = set(graph.outputs).union(*(reach[v] for v in graph.outputs))
    nodes = [n for n in graph.nodes if n.name in needed]
    found = []
    for value in (*(i.name for i in graph.inputs), *(n.name for n in nodes)):
        before = reach[value]
        behind = [n for n in nodes if n.name not in before and n.name != value]
        if all(v not in before for n in behind for v in n.inputs) and not before & set(graph.outputs):
            others = {i.name for i in graph.inputs} - before - {value}
            if not any(v in others for n in behind for v in n.inputs):
                found.append(value)
    return found


def _is_stage_end(graph: Graph, value: str) -> bool:
    readers = graph.consumers[value]
    return not (len(readers) == 1 and readers[0].op in _FOLLOWERS)


def _is_depthwise(graph: Graph, value: str) -> bool:
    """Whether the last weighted node on the way to `value` is depthwise: such values lie inside a separable
    block.
    """
    node = graph.by_name.get(value)
    while node is not None and node.op in _FOLLOWERS:
        node = graph.by_name.get(node.inputs[0])
    return node is not None and node.op == "depthwise_conv2d"


def _record(graph: Graph, reach: dict[str, set[str]], found: dict[str, Block], entry: str, exit_: str) -> None:
    """Adds the block between entry and exit if it is closed: fed by the entry alone, read through the exit
    alone.
    """
    if exit_ in graph.outputs:
        return
    inside = {v for v in reach[exit_] if entry in reach[v]} | {exit_}
    nodes = [n for n in graph.nodes if n.name in inside]
    fed = all(v in inside or v == entry for n in nodes for v in n.inputs)
    hidden = inside - {exit_}
    closed = all(r.name in inside for v in hidden for r in graph.consumers[v]) and not hidden & set(graph.outputs)
    weighted = {n.name for n in nodes if n.op in WEIGHTED}
    known = any(weighted <= set(b.nodes) for b in found.values())  # the addition before a relu, say
    if fed and closed and weighted and not known:
        found.setdefault(exit_, Block(exit_, entry, exit_, tuple(n.name for n in nodes)))
