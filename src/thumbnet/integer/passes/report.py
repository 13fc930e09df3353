"""What the passes took away, in words."""

from __future__ import annotations

from collections import Counter
from math import prod

from thumbnet.integer.graph import IntegerGraph, IntegerNode

_CONVOLUTIONS = ("conv2d", "depthwise_conv2d")


def lossless_report(before: IntegerGraph, after: IntegerGraph) -> list[str]:
    """One line per kind of saving, then multiply-accumulates and weight bytes; empty where nothing changed."""
    if before.digest == after.digest:
        return []
    lines = [*_nodes(before, after), *_channels(before, after), *_silenced(before, after)]
    if before.outputs != after.outputs:
        lines.append(f"Outputs are {', '.join(after.outputs)} instead of {', '.join(before.outputs)}.")
    a, b = macs(before), macs(after)
    if a != b:
        lines.append(f"Multiply-accumulates: {a:,} to {b:,}.")
    if before.weight_bytes != after.weight_bytes:
        lines.append(f"Bytes of weights and tables: {before.weight_bytes:,} to {after.weight_bytes:,}.")
    return lines


def macs(ig: IntegerGraph) -> int:
    """Multiply-accumulates of convolutions and dense layers for one input."""
    return sum(_macs(ig, n) for n in ig.nodes if "weight" in n.arrays)


def _macs(ig: IntegerGraph, node: IntegerNode) -> int:
    seen = node.inputs[0] if node.op == "conv_transpose2d" else node.name  # which pixels meet every weight
    pixels = prod(ig.tensors[seen].shape[:-1])
    return pixels * int(node.arrays["weight"].size)


def _nodes(before: IntegerGraph, after: IntegerGraph) -> list[str]:
    kept = {n.name: n.op for n in after.nodes if n.op in _CONVOLUTIONS}  # one may have become the other
    fewer = Counter(kept.get(n.name, n.op) if n.op in _CONVOLUTIONS else n.op for n in before.nodes)
    fewer.subtract(Counter(n.op for n in after.nodes))
    return [
        f"{count} {op} node{'s' if count > 1 else ''} removed, folded or merged."
        for op, count in sorted(fewer.items())
        if count > 0
    ]


def _pairs(before: IntegerGraph, after: IntegerGraph) -> list[tuple[IntegerNode, IntegerNode]]:
    """The weighted nodes that both graphs have."""
    return [(n, after.by_name[n.name]) for n in before.nodes if "weight" in n.arrays and n.name in after.by_name]


def _channels(before: IntegerGraph, after: IntegerGraph) -> list[str]:
    pairs = _pairs(before, after)
    had = sum(before.tensors[a.name].shape[-1] for a, _ in pairs)
    has = sum(after.tensors[b.name].shape[-1] for _, b in pairs)
    layers = sum(before.tensors[a.name].shape[-1] != after.tensors[b.name].shape[-1] for a, b in pairs)
    if had == has:
        return []
    return [f"{had - has} of {had} channels removed in {layers} layers: constant for every input, or never read."]


def _silenced(before: IntegerGraph, after: IntegerGraph) -> list[str]:
    pairs = [(a, b) for a, b in _pairs(before, after) if a.arrays["weight"].shape == b.arrays["weight"].shape]
    layers = sum(any((a.arrays[k] != b.arrays[k]).any() for k in ("weight", "bias", "shift")) for a, b in pairs)
    if not layers:
        return []
    return [f"Constant channels that must stay freed of their weights in {layers} layer{'s' if layers > 1 else ''}."]
