"""What may change in a network: channel groups, skippable blocks, cut points, resolutions."""

from __future__ import annotations

from dataclasses import dataclass, replace

from thumbnet.errors import ModelError
from thumbnet.graph.blocks import Block, cut_points, skippable_blocks
from thumbnet.graph.channels import ChannelGroup, channel_groups
from thumbnet.graph.graph import Graph, Input

MIN_SIDE = 32  # pixels; below that, pre-trained features of photographs mean little
RESOLUTION_STEPS = (1.0, 0.875, 0.75, 0.625, 0.5)


@dataclass(frozen=True, eq=False)
class Space:
    """Everything the moves may touch, for one reference."""

    graph: Graph  # the normalized reference that recipes start from
    groups: tuple[ChannelGroup, ...]  # removable ones only
    blocks: tuple[Block, ...]  # what SkipBlock can leave out
    cuts: tuple[str, ...]  # values for Truncate, deepest first; the whole network is always an option too
    resolutions: tuple[tuple[int, int], ...]  # (height, width), largest first
    greys: tuple[bool, ...] = (False,)  # whether the input may, or should, be one channel instead of three colours

    def summary(self) -> str:
        return (
            f"{len(self.groups)} channel groups ({sum(g.size for g in self.groups)} channels), {len(self.blocks)} "
            f"skippable blocks, {len(self.cuts)} cut points, {len(self.resolutions)} resolutions"
        )


def explore_space(graph: Graph, *, resizable: bool = True, greys: tuple[bool, ...] = (False,)) -> Space:
    """The design space around `graph`. Without `resizable` its input keeps its size: that of data which is no image, or
    has targets that are maps of it."""
    sizes = resolutions(graph)
    return Space(
        graph=graph,
        groups=tuple(g for g in channel_groups(graph) if not g.pinned),
        blocks=skippable_blocks(graph),
        cuts=cuts(graph),
        resolutions=sizes if resizable else sizes[:1],
        greys=greys,
    )


def cuts(graph: Graph) -> tuple[str, ...]:
    """Cut points, deepest first, without the wide insides of inverted bottlenecks.

    A value with more than twice the channels of a neighbouring cut point carries an expansion, not a summary. None
    where the network does not end in one vector: what is cut short does.
    """
    if len(graph.outputs) != 1 or len(graph.shapes[graph.outputs[0]]) != 1:
        return ()
    points = cut_points(graph)
    width = [graph.shapes[v][0] for v in points]
    keep = []
    for k, value in enumerate(points):
        neighbours = width[max(0, k - 1) : k] + width[k + 1 : k + 2]
        if not neighbours or width[k] <= 2 * min(neighbours):
            keep.append(value)
    return tuple(reversed(keep))


def resolutions(graph: Graph) -> tuple[tuple[int, int], ...]:
    """Smaller inputs that the network accepts, in multiples of 8 pixels."""
    first = graph.inputs[0]
    if len(first.shape) != 3:
        return ()
    channels, height, width = first.shape
    found = [(height, width)]
    for factor in RESOLUTION_STEPS[1:]:
        size = (8 * round(height * factor / 8), 8 * round(width * factor / 8))
        if min(size) < MIN_SIDE or size in found:
            continue
        try:
            replace(graph, inputs=(Input(first.name, (channels, *size)), *graph.inputs[1:])).validate()
        except ModelError:
            break  # a dense layer fixes the size
        found.append(size)
    return tuple(found)
