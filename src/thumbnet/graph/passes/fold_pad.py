"""Explicit zero padding moved into the padding of the convolution or pool that reads it."""

from __future__ import annotations

from thumbnet.graph.graph import Graph, Node
from thumbnet.graph.passes.rewrite import substitute

_NOT_NEGATIVE = ("relu", "relu6", "sigmoid", "hard_sigmoid", "softmax")


def fold_pad(graph: Graph) -> Graph:
    """Folds a pad into the convolutions and max pools behind it, and into a pad behind it.

    Keeps: the function, exactly. A max pool pads with −∞, so it takes in zeros only where its input has no
    negative values and every window meets the image. Readers that cannot take the padding in keep the pad
    alive: average pools among them, since padding that counts in the mean has no TFLite form but an explicit
    one.
    """
    for name in [n.name for n in graph.nodes if n.op == "pad"]:
        pad = graph.by_name[name]
        folded = {r.name: _padded(graph, pad, r) for r in graph.consumers[name]}
        changed = {k: v for k, v in folded.items() if v is not None}
        if not changed:
            continue
        keep = len(changed) < len(folded) or name in graph.outputs
        graph = graph.with_nodes(changed.get(n.name, n) for n in graph.nodes if keep or n.name != name)
    return graph


def _padded(graph: Graph, pad: Node, reader: Node) -> Node | None:
    """The reader with the padding taken in and the pad's input as its own, or None."""
    if pad.attrs.get("mode", "constant") != "constant" or reader.attrs.get("mode", "constant") != "constant":
        return None
    extra = pad.attrs["padding"]
    own = reader.attrs.get("padding", (0, 0, 0, 0))
    if reader.op == "max_pool2d":
        if not never_negative(graph, pad.inputs[0]):
            return None
        kernel = reader.attrs["kernel"]
        if any(own[k] + extra[k] >= kernel[k % 2] for k in range(4)):
            return None
    elif reader.op not in ("conv2d", "depthwise_conv2d", "pad"):
        return None
    total = [int(a) + int(b) for a, b in zip(own, extra, strict=True)]
    return substitute([reader.with_attrs(padding=total)], {pad.name: pad.inputs[0]})[0]


def never_negative(graph: Graph, value: str) -> bool:
    """Whether the operations that make the value leave it no way to be below zero."""
    node = graph.by_name.get(value)
    if node is None:
        return False
    if node.op in ("max_pool2d", "avg_pool2d", "resize", "slice", "flatten"):
        return never_negative(graph, node.inputs[0])
    return node.op in _NOT_NEGATIVE or node.attrs.get("activation") in ("relu", "relu6")
