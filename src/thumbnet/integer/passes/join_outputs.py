"""Several outputs as one, for what takes one output only."""

from __future__ import annotations

from dataclasses import replace

from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor

_NAME = "outputs"


def join_outputs(ig: IntegerGraph) -> IntegerGraph:
    """The outputs' bytes one after the other, as a vector called "outputs"; a graph with one output stays as it is.

    Its scale and zero point mean nothing: each part has its own.
    """
    if len(ig.outputs) == 1:
        return ig
    tensors, nodes = dict(ig.tensors), list(ig.nodes)
    names = []
    for k, v in enumerate(ig.outputs):
        x = ig.tensors[v]
        flat = replace(x, name=free_name(f"{_NAME}/{k}", tensors), shape=(x.bytes,))
        tensors[flat.name] = flat
        nodes.append(IntegerNode(flat.name, "reshape", (v,), {"shape": [x.bytes]}))
        names.append(flat.name)
    whole = QTensor(free_name(_NAME, tensors), (sum(tensors[n].bytes for n in names),), 1.0, 0)
    nodes.append(IntegerNode(whole.name, "concat", tuple(names), {"axis": 0}))
    return replace(ig, tensors={**tensors, whole.name: whole}, nodes=tuple(nodes), outputs=(whole.name,))


def free_name(name: str, taken: dict[str, QTensor]) -> str:
    """The name, or one like it that is not taken."""
    while name in taken:
        name += "_"
    return name
