"""Rewrites from graph to graph, one per file, each stating what it keeps."""

from __future__ import annotations

from collections.abc import Callable

from thumbnet.graph.graph import Graph
from thumbnet.graph.passes.dead_channels import dead_channels
from thumbnet.graph.passes.dead_nodes import dead_nodes
from thumbnet.graph.passes.drop_final_softmax import drop_final_softmax
from thumbnet.graph.passes.fold_batch_norm import fold_batch_norm
from thumbnet.graph.passes.fold_pad import fold_pad
from thumbnet.graph.passes.fuse_activations import fuse_activations
from thumbnet.graph.passes.fuse_composites import fuse_composites
from thumbnet.graph.passes.fuse_subsampling import fuse_subsampling
from thumbnet.graph.passes.remove_identity import remove_identity

Pass = Callable[[Graph], Graph]

PASSES: tuple[Pass, ...] = (
    dead_nodes,
    drop_final_softmax,
    remove_identity,
    fuse_composites,
    fold_batch_norm,
    fold_pad,
    fuse_subsampling,
    fuse_activations,
    dead_channels,
    remove_identity,
)


def clean(graph: Graph) -> Graph:
    """All passes in their order, the graph validated after each.

    Keeps the function up to float rounding, except that a final softmax goes (see `drop_final_softmax`).
    """
    for step in PASSES:
        graph = step(graph)
        graph.validate()
    return graph


__all__ = [
    "PASSES",
    "clean",
    "dead_channels",
    "dead_nodes",
    "drop_final_softmax",
    "fold_batch_norm",
    "fold_pad",
    "fuse_activations",
    "fuse_composites",
    "fuse_subsampling",
    "remove_identity",
]
