"""Several inputs as one, for what takes one input only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor
from thumbnet.integer.passes.join_outputs import free_name, join_outputs

_NAME = "inputs"
Int8s = npt.NDArray[np.int8]


def join_inputs(ig: IntegerGraph) -> IntegerGraph:
    """The inputs' bytes one after the other, as a vector called "inputs"; a graph with one input stays as it is.

    Its scale and zero point mean nothing: each part has its own. Every input becomes a copy of its part.
    """
    if len(ig.inputs) == 1:
        return ig
    tensors, nodes, start = dict(ig.tensors), [], 0
    name = free_name(_NAME, tensors)
    for v in ig.inputs:
        x = ig.tensors[v]
        part = QTensor(free_name(f"{name}/{v}", tensors), (x.bytes,), 1.0, 0)
        tensors[part.name] = part
        attrs = {"axis": 0, "start": start, "stop": start + x.bytes}
        nodes.append(IntegerNode(part.name, "slice", (name,), attrs))
        nodes.append(IntegerNode(v, "reshape", (part.name,), {"shape": list(x.shape)}))
        start += x.bytes
    whole = {name: QTensor(name, (start,), 1.0, 0)}
    return replace(ig, tensors={**whole, **tensors}, inputs=(name,), nodes=(*nodes, *ig.nodes))


def join_ports(ig: IntegerGraph) -> IntegerGraph:
    """One input and one output, as the firmware has them."""
    return join_outputs(join_inputs(ig))


def joined_inputs(ig: IntegerGraph, feeds: Mapping[str, Int8s]) -> Int8s:
    """Inputs by name, int8 [N, *shape], as `join_ports(ig)` takes them."""
    if len(ig.inputs) == 1:
        return feeds[ig.inputs[0]]
    return np.concatenate([feeds[v].reshape(len(feeds[v]), -1) for v in ig.inputs], axis=1)


def separate_inputs(ig: IntegerGraph, joined: Int8s) -> dict[str, Int8s]:
    """The inverse of `joined_inputs`."""
    found, start = {}, 0
    rows = joined.reshape(len(joined), -1)
    for v in ig.inputs:
        x = ig.tensors[v]
        found[v] = np.ascontiguousarray(rows[:, start : start + x.bytes]).reshape(-1, *x.shape)
        start += x.bytes
    return found
