"""The order of execution is the best of all, and changes nothing but memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from random_integer_graphs import integer_graphs

from thumbnet.cost.kernels import choose
from thumbnet.cost.memory import plan_arena
from thumbnet.cost.order import reordered
from thumbnet.cost.probes import ProbeBuilder
from thumbnet.cost.schedule import single
from thumbnet.integer.graph import IntegerGraph, IntegerNode
from thumbnet.integer.simulate import run


@st.composite
def branching(draw: st.DrawFn) -> IntegerGraph:
    """Up to eight elementwise and pointwise nodes on any earlier tensors, joined at the end."""
    b = ProbeBuilder(draw(st.integers(0, 9)))
    values = [b.input(2, 2, draw(st.integers(1, 40)))]
    for _ in range(draw(st.integers(2, 6))):
        x = draw(st.sampled_from(values))
        values.append(b.conv2d(x, draw(st.integers(1, 80))) if draw(st.booleans()) else b.lut(x))
    read = {v for node in b.nodes for v in node.inputs}
    b.concat(*(v for v in values if v not in read))
    return b.graph()


def orders(ig: IntegerGraph) -> Iterator[list[IntegerNode]]:
    def more(done: list[IntegerNode]) -> Iterator[list[IntegerNode]]:
        if len(done) == len(ig.nodes):
            yield done
        there = {*ig.inputs, *(n.name for n in done)}
        for node in ig.nodes:
            if node.name not in there and there.issuperset(node.inputs):
                yield from more([*done, node])

    return more([])


def bound(ig: IntegerGraph) -> int:
    """What the planner knows of this order before it searches."""
    units = tuple(single(step, choose(node, ig, "dsp")) for step, node in enumerate(ig.nodes))
    return plan_arena(ig, "dsp", units, max_nodes=0).lower_bound_bytes


@settings(max_examples=60, deadline=None)
@given(branching())
def test_no_order_is_better(ig: IntegerGraph) -> None:
    best = min(bound(replace(ig, nodes=tuple(order))) for order in orders(ig))
    assert bound(reordered(ig, "dsp")) == best


@settings(max_examples=40, deadline=None)
@given(integer_graphs())
def test_outputs_and_nodes_stay(ig: IntegerGraph) -> None:
    other = reordered(ig, "generic")
    assert {n.name for n in other.nodes} == {n.name for n in ig.nodes}
    x = np.random.default_rng(0).integers(-128, 128, (2, *ig.tensors[ig.inputs[0]].shape)).astype(np.int8)
    for name in ig.outputs:
        assert np.array_equal(run(other, x)[name], run(ig, x)[name])
    assert reordered(other, "generic") is other


def test_a_branch_that_frees_memory_runs_first() -> None:
    """One branch blows its input up, the other shrinks it: the second leaves less behind."""
    b = ProbeBuilder()
    x = b.input(8, 8, 16)
    wide = b.global_avg_pool(b.conv2d(x, 128))
    narrow = b.conv2d(b.conv2d(x, 4), 128, (8, 8), (8, 8), (0, 0, 0, 0))
    b.add(wide, narrow)
    ig = b.graph()
    assert bound(reordered(ig, "dsp")) < bound(ig)


def test_chains_are_left_alone() -> None:
    b = ProbeBuilder()
    b.conv2d(b.lut(b.conv2d(b.input(4, 4, 4), 8)), 2)
    ig = b.graph()
    assert reordered(ig, "dsp") is ig
