"""Two elementwise nodes in a row, made one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from thumbnet.integer import build
from thumbnet.integer.arithmetic import Int8s
from thumbnet.integer.graph import IntegerGraph, IntegerNode
from thumbnet.integer.passes.elementwise import part, table_of
from thumbnet.integer.passes.intervals import Bounds, bounds_of
from thumbnet.integer.passes.rewrite import has_one_reader, merge

_ELEMENTWISE = ("lut", "requantize")


def fuse_tables(ig: IntegerGraph) -> IntegerGraph:
    """Merges a table or requantization with the table or requantization it reads, if it is the only reader.

    Contract: every output byte stays: the merged node is compared on every value its input can have. Two
    requantizations round twice and merge only where a single one does the same; with a table among them, the two become
    one table (of the kind "table", which TFLite cannot spell).
    """
    bounds = bounds_of(ig)
    for name in [n.name for n in ig.nodes]:
        node = ig.by_name.get(name)
        before = ig.by_name.get(node.inputs[0]) if node is not None else None
        if node is None or before is None or {node.op, before.op} - set(_ELEMENTWISE):
            continue
        if has_one_reader(ig, before.name):
            merged = _merged(ig, before, node, bounds)
            if merged is not None:
                ig = merge(ig, before, node, merged)
                bounds = bounds_of(ig)
    return ig


def _merged(ig: IntegerGraph, before: IntegerNode, node: IntegerNode, bounds: dict[str, Bounds]) -> IntegerNode | None:
    first, second = table_of(ig, before), table_of(ig, node)
    assert first is not None  # both are elementwise
    assert second is not None
    table: Int8s = second[first.astype(np.int64) + 128]
    span = bounds[before.inputs[0]].range
    single = _requantization(ig, before, node, part(table, span), span)
    if single is not None or "lut" not in (before.op, node.op):
        return single
    return IntegerNode(node.name, "lut", before.inputs, {"kind": "table"}, {"table": table})


def _requantization(
    ig: IntegerGraph, before: IntegerNode, node: IntegerNode, wanted: Int8s, span: tuple[int, int]
) -> IntegerNode | None:
    """One requantization, with an activation or without, that gives `wanted` for the values in `span`."""
    x, out = ig.tensors[before.inputs[0]], ig.tensors[node.name]
    candidates = [build.requantize(node.name, x, out)]
    candidates += [build.relu(node.name, x, out, activation=a) for a in ("relu", "relu6")]
    for candidate in candidates:
        table = table_of(ig, replace(candidate, inputs=before.inputs))
        if table is not None and np.array_equal(part(table, span), wanted):
            return candidate
    return None
