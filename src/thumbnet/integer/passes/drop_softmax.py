"""Softmax at the outputs, taken off on request."""

from __future__ import annotations

from dataclasses import replace

from thumbnet.integer.graph import IntegerGraph


def drop_softmax(ig: IntegerGraph) -> IntegerGraph:
    """Puts out the logits instead of their softmax.

    Contract: the only pass that changes outputs. They are then the softmax's inputs, with their own names, scales and
    zero points; the order of the classes is kept up to values the softmax rounds to the same. A softmax stays where its
    input is a graph input or an output already.
    """
    outputs = list(ig.outputs)
    for at, name in enumerate(outputs):
        node = ig.by_name.get(name)
        if node is None or node.op != "softmax":
            continue
        logits = node.inputs[0]
        if logits not in ig.inputs and logits not in outputs:
            outputs[at] = logits
    return replace(ig, outputs=tuple(outputs)) if tuple(outputs) != ig.outputs else ig
