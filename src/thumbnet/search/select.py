"""Which variant each block gets: integer programming under the limits.

With the streams between blocks at a fraction of their widths, each variant costs flash and products and loses what
local distillation found. The least loss within the limits is a knapsack with one choice per block (HiGHS solves it to
the optimum in milliseconds). Its answer is a structure; `Fitter` then finds widths that fill the limits.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp

from thumbnet.graph.blocks import Block, part
from thumbnet.graph.graph import Graph
from thumbnet.graph.ops import op_of
from thumbnet.search.moves import SetBits
from thumbnet.search.moves.layers import CHANNEL_BYTES
from thumbnet.search.recipe import Context, Move
from thumbnet.search.shape import Plan
from thumbnet.search.variants import Variant

FRACTIONS = (1.0, 0.75, 0.5, 0.375, 0.25)  # of the reference's widths, for which a structure is chosen
LAYER_BYTES = 56  # of code that calls a layer's kernel, about
ALTERNATIVES = 2  # structures for each fraction: the best, and the best that differs in `DIFFERENT` blocks
DIFFERENT = 3
UNIFORM = (("bits",), ("separate",), ("bits", "separate"))  # exchanges that all blocks may get at once


@dataclass(frozen=True)
class Price:
    """What a variant costs with all channels at a fraction of their number."""

    flash_bytes: float
    macs: float


def price(graph: Graph, fraction: float, without: Iterable[str] = ()) -> Price:
    """Of the layers of `graph`, those named left out: weights, parameters of channels, calls; products."""
    flash = macs = 0.0
    left_out = set(without)
    for node in graph.nodes:
        weight = node.weights.get("weight")
        if weight is None or node.op == "batch_norm" or node.name in left_out:
            continue
        thin = node.op == "depthwise_conv2d" or weight.shape[1] <= 3  # one side of it scales
        scale = fraction if thin else fraction**2
        flash += weight.size * scale * int(node.attrs.get("weight_bits", 8)) / 8
        flash += CHANNEL_BYTES * weight.shape[0] * fraction + LAYER_BYTES
        shapes = [graph.shapes[v] for v in node.inputs]
        macs += op_of(node).macs(node, shapes, graph.shapes[node.name]) * scale
    return Price(flash, macs)


def choose(
    losses: Sequence[Sequence[float]],
    costs: Mapping[str, Sequence[Sequence[float]]],
    limits: Mapping[str, float],
    unlike: Sequence[Sequence[int]] = (),
) -> list[int] | None:
    """The option of each block, so that the sum of losses is least and sums of costs keep the limits; None: impossible.

    `costs[name][block][option]`; `unlike` are choices from which the answer must differ in `DIFFERENT` blocks.
    """
    sizes = [len(block) for block in losses]
    first = np.concatenate([[0], np.cumsum(sizes)])
    total = int(first[-1])
    one = np.zeros((len(sizes), total))
    for block, size in enumerate(sizes):
        one[block, first[block] : first[block] + size] = 1
    constraints = [LinearConstraint(one, 1, 1)]
    for name, limit in limits.items():
        row = np.concatenate([np.asarray(block, float) for block in costs[name]])
        constraints.append(LinearConstraint(row[None], -np.inf, limit))
    for other in unlike:
        row = np.zeros(total)
        row[[first[block] + option for block, option in enumerate(other)]] = 1
        constraints.append(LinearConstraint(row[None], -np.inf, len(sizes) - min(DIFFERENT, len(sizes))))
    aim = np.concatenate([np.asarray(block, float) for block in losses])
    with _quiet_library():
        found = milp(aim, integrality=np.ones(total), bounds=Bounds(0, 1), constraints=constraints)
    if found.x is None:
        return None
    taken: npt.NDArray[np.intp] = np.flatnonzero(found.x > 0.5)
    return [int(k - first[block]) for block, k in enumerate(taken)]


@contextmanager
def _quiet_library() -> Iterator[None]:
    """HiGHS, as SciPy 1.17 has it, prints lines for its own developers to standard output, whatever it is told."""
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # closed
        yield
        return
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 1)
        try:
            yield
        finally:
            with suppress(OSError, AttributeError):
                ctypes.CDLL(None).fflush(None)  # what C still holds back belongs there, too
            os.dup2(kept, 1)
            os.close(kept)


def plans(
    graph: Graph,
    blocks: Sequence[Block],
    variants: Sequence[Sequence[Variant]],
    limits: Mapping[str, float],
    code_bytes: int,
) -> list[Plan]:
    """Structures for the limits, one or two for each fraction of the widths.

    `limits` holds `flash_bytes` and `macs`, where they are limited; `code_bytes` is what the kernels need, about.
    """
    parts = [[_made(part(graph, b), v) for v in own] for b, own in zip(blocks, variants, strict=True)]
    losses = [[v.loss for v in own] for own in variants]
    inside = {n for b in blocks for n in b.nodes}
    found: dict[Plan, None] = {}
    for fraction in FRACTIONS:
        prices = [[price(g, fraction) if g else Price(0, 0) for g in own] for own in parts]
        costs = {name: [[getattr(p, name) for p in own] for own in prices] for name in limits}
        outside = price(graph, fraction, inside)
        left = {name: limit - getattr(outside, name) for name, limit in limits.items()}
        if "flash_bytes" in left:
            left["flash_bytes"] -= code_bytes
        taken: list[list[int]] = []
        for _ in range(ALTERNATIVES):
            choice = choose(losses, costs, left, taken)
            if choice is None:
                break
            taken.append(choice)
            found[_plan([own[k] for own, k in zip(variants, choice, strict=True)])] = None
    return list(found)


def uniform_plans(variants: Sequence[Sequence[Variant]], skips: Sequence[str] = ()) -> Iterator[Plan]:
    """The same kind of variant in every block that has it, these blocks left out: what a person would try first."""
    gone = set(skips)
    kinds = sorted({_kinds(v) for own in variants for v in own if v.moves} & set(UNIFORM))
    for kind in kinds:
        chosen = [next((v for v in own if _kinds(v) == kind), own[0]) for own in variants if own[0].block not in gone]
        plan = _plan(chosen)
        yield Plan(tuple(skips), plan.exchanges, plan.taught)


def _kinds(variant: Variant) -> tuple[str, ...]:
    return tuple(sorted({m.kind for m in variant.moves}))


def _made(block: Graph, variant: Variant) -> Graph | None:
    if variant.skipped:
        return None
    for move in variant.moves:
        block = move.apply(block, Context({}))
    return block


def _plan(chosen: Sequence[Variant]) -> Plan:
    """The variants' moves together; those of bits as one, at the end."""
    moves: list[Move] = [m for v in chosen for m in v.moves if not isinstance(m, SetBits)]
    coarse = {n: bits for v in chosen for m in v.moves if isinstance(m, SetBits) for n, bits in m.bits.items()}
    if coarse:
        moves.append(SetBits(coarse))
    taught = tuple(v.name for v in chosen if v.taught)
    return Plan(tuple(v.block for v in chosen if v.skipped), tuple(moves), taught)
