"""Chains of nodes that only move bytes, made one node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from thumbnet.integer.graph import IntegerGraph, IntegerNode
from thumbnet.integer.moves import pad_channels, pad_value
from thumbnet.integer.passes.rewrite import has_one_reader, merge, same_numbers, with_nodes


def merge_moves(ig: IntegerGraph) -> IntegerGraph:
    """Merges reshape with reshape, pad with pad, slice with slice or with the concat it takes a part of, concat with
    concat, and a global pool with the reshape that drops its axes.

    Contract: every output byte stays, and so do the names of the outputs. Nothing is computed twice.
    """
    for name in [n.name for n in ig.nodes]:
        node = ig.by_name.get(name)
        rule = _RULES.get(node.op) if node is not None else None
        if node is not None and rule is not None:
            ig = rule(ig, node)
    return ig


def _producer(ig: IntegerGraph, node: IntegerNode, *ops: str) -> IntegerNode | None:
    """The node behind the first input, if it is one of `ops`."""
    before = ig.by_name.get(node.inputs[0])
    return before if before is not None and before.op in ops else None


def _replaced(ig: IntegerGraph, node: IntegerNode) -> IntegerGraph:
    return with_nodes(ig, [node if n.name == node.name else n for n in ig.nodes])


def _reshape(ig: IntegerGraph, node: IntegerNode) -> IntegerGraph:
    before = _producer(ig, node, "reshape", "global_avg_pool")
    if before is None:
        return ig
    if before.op == "reshape":
        return _replaced(ig, replace(node, inputs=before.inputs))
    x, out = ig.tensors[before.name], ig.tensors[node.name]
    drops_axes = out.shape == x.shape[-1:] and same_numbers(x, out)
    return merge(ig, before, node, before) if drops_axes and has_one_reader(ig, before.name) else ig


def _pad(ig: IntegerGraph, node: IntegerNode) -> IntegerGraph:
    before = _producer(ig, node, "pad")
    if before is None or not has_one_reader(ig, before.name) or any((*pad_channels(before), *pad_channels(node))):
        return ig
    values = [pad_value(n, ig.tensors[n.name]) for n in (before, node)]
    if values[0] != values[1]:
        return ig
    padding = [int(a) + int(b) for a, b in zip(before.attrs["padding"], node.attrs["padding"], strict=True)]
    return merge(ig, before, node, replace(before, attrs={**before.attrs, "padding": padding}))


def _slice(ig: IntegerGraph, node: IntegerNode) -> IntegerGraph:
    before = _producer(ig, node, "slice", "concat")
    if before is None or before.attrs["axis"] != node.attrs["axis"]:
        return ig
    axis, start, stop = (int(node.attrs[k]) for k in ("axis", "start", "stop"))
    if before.op == "slice":
        if not has_one_reader(ig, before.name):
            return ig
        offset = int(before.attrs["start"])
        attrs = {**node.attrs, "start": start + offset, "stop": stop + offset}
        return merge(ig, before, node, replace(before, attrs=attrs))
    at = 0
    for v in before.inputs:
        size = ig.tensors[v].shape[axis]
        if at <= start and stop <= at + size and same_numbers(ig.tensors[v], ig.tensors[node.name]):
            attrs = {**node.attrs, "start": start - at, "stop": stop - at}
            return _replaced(ig, replace(node, inputs=(v,), attrs=attrs))
        at += size
    return ig


def _concat(ig: IntegerGraph, node: IntegerNode) -> IntegerGraph:
    for v in node.inputs:
        inner = ig.by_name.get(v)
        if inner is None or inner.op != "concat" or inner.attrs["axis"] != node.attrs["axis"]:
            continue
        if has_one_reader(ig, v):
            at = node.inputs.index(v)
            inputs = (*node.inputs[:at], *inner.inputs, *node.inputs[at + 1 :])
            rest = [n for n in ig.nodes if n.name != v]
            return with_nodes(ig, [replace(node, inputs=inputs) if n.name == node.name else n for n in rest])
    return ig


_RULES: dict[str, Callable[[IntegerGraph, IntegerNode], IntegerGraph]] = {
    "reshape": _reshape,
    "pad": _pad,
    "slice": _slice,
    "concat": _concat,
}
