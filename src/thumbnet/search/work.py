"""How much training a run has done, so that others can be given as much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from thumbnet.graph.blocks import regions
from thumbnet.graph.graph import Graph
from thumbnet.graph.ops import op_of
from thumbnet.results import Trial
from thumbnet.search.variants import BATCH, Variant
from thumbnet.training.loop import Point


def training_work(
    reference: Graph,
    variants: Sequence[Sequence[Variant]],
    trials: Sequence[Trial],
    curves: Sequence[Mapping[str, Sequence[Point]]],
    batch: int,
    macs: int,
) -> dict[str, int]:
    """`steps` of whole networks: all candidates and the finalists, whose `curves` after the search are given. `images`:
    what these saw. `block_steps`: of the variants of blocks. `equivalent_steps`: both together, the steps of blocks
    counted by their multiplications against those of a step of the result, whose products are `macs`.
    """
    steps = sum(int(t.curve[-1]["step"]) for t in trials if t.curve)
    steps += sum(int(points[-1]["step"]) for own in curves for k, points in own.items() if k != "search" and points)
    shapes = reference.shapes
    of_block = {b.name: sum(_macs(reference, n, shapes) for n in b.nodes) for b in regions(reference)}
    learned = [(v.steps, of_block[v.block]) for own in variants for v in own]
    products = BATCH * sum(n * m for n, m in learned)
    return {
        "steps": steps,
        "batch": batch,
        "images": steps * batch,
        "block_steps": sum(n for n, _ in learned),
        "equivalent_steps": steps + round(products / max(1, batch * macs)),
    }


def _macs(graph: Graph, name: str, shapes: Mapping[str, tuple[int, ...]]) -> int:
    node = graph.by_name[name]
    return op_of(node).macs(node, [shapes[v] for v in node.inputs], shapes[name])
