"""Rewrites from integer graph to integer graph, one per file, each stating what it keeps.

All keep every output byte, except `drop_softmax`, which is run on request only. See docs/lossless.md.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.passes.common_nodes import common_nodes
from thumbnet.integer.passes.dead_channels import dead_channels
from thumbnet.integer.passes.dead_nodes import dead_nodes
from thumbnet.integer.passes.depthwise_forms import depthwise_forms
from thumbnet.integer.passes.drop_softmax import drop_softmax
from thumbnet.integer.passes.fold_pad import fold_pad
from thumbnet.integer.passes.fuse_clamps import fuse_clamps
from thumbnet.integer.passes.fuse_tables import fuse_tables
from thumbnet.integer.passes.join_outputs import join_outputs
from thumbnet.integer.passes.merge_moves import merge_moves
from thumbnet.integer.passes.remove_identity import remove_identity
from thumbnet.integer.passes.report import lossless_report, macs
from thumbnet.integer.passes.silence_constants import silence_constants
from thumbnet.integer.passes.trim_windows import trim_windows
from thumbnet.integer.passes.validate import validate

Pass = Callable[[IntegerGraph], IntegerGraph]

PASSES: tuple[Pass, ...] = (
    dead_nodes,
    common_nodes,
    remove_identity,
    merge_moves,
    fold_pad,
    depthwise_forms,
    fuse_clamps,
    fuse_tables,
    silence_constants,
    dead_channels,
    trim_windows,
)


def lossless(ig: IntegerGraph, *, drop_softmax: bool = False, channel_multiple: int = 1) -> IntegerGraph:
    """The same function in fewer operations and bytes: all passes, again and again until none finds anything.

    Every output byte stays, for every input. With `drop_softmax` the outputs of a final softmax are its logits. With
    `channel_multiple` tensors keep so many dead channels that their counts are multiples of it where they were. The
    graph is validated before and after each pass: raises `ModelError` for one that does not fit together. Equal graphs
    give equal graphs; one in which there is nothing to do is returned as it is.
    """
    validate(ig)
    if drop_softmax:
        ig = _drop_softmax(ig)
    steps = [partial(s, multiple=channel_multiple) if s is dead_channels else s for s in PASSES]
    while True:
        before = ig
        for step in steps:
            ig = _checked(step, ig)
        if ig is before:
            return ig


def _checked(step: Pass, ig: IntegerGraph) -> IntegerGraph:
    """Every pass returns the very graph it was given where it changes nothing; and each change takes something away."""
    after = step(ig)
    if after is not ig:
        validate(after)
    return after


_drop_softmax = drop_softmax

__all__ = [
    "PASSES",
    "common_nodes",
    "dead_channels",
    "dead_nodes",
    "depthwise_forms",
    "drop_softmax",
    "fold_pad",
    "fuse_clamps",
    "fuse_tables",
    "join_outputs",
    "lossless",
    "lossless_report",
    "macs",
    "merge_moves",
    "remove_identity",
    "silence_constants",
    "trim_windows",
    "validate",
]
