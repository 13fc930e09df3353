"""Integer programming over variants: against every combination, and what plans hold."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_cases import residual_network, some_inputs

from thumbnet.graph.blocks import part, regions
from thumbnet.search.moves import Separate, SetBits
from thumbnet.search.recipe import Context
from thumbnet.search.select import DIFFERENT, choose, plans, price, uniform_plans
from thumbnet.search.variants import Variant
from thumbnet.training.normalize import insert_batch_norm

Table = list[list[float]]


@st.composite
def problems(draw: st.DrawFn) -> tuple[Table, Table, Table, float, float]:
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=5))

    def table() -> Table:
        return [[float(draw(st.integers(0, 20))) for _ in range(size)] for size in sizes]

    return table(), table(), table(), float(draw(st.integers(0, 60))), float(draw(st.integers(0, 60)))


def total(table: Table, choice: list[int] | tuple[int, ...]) -> float:
    return sum(block[k] for block, k in zip(table, choice, strict=True))


@given(problems())
@settings(max_examples=60, deadline=None)
def test_it_is_the_best_of_all_combinations(problem: tuple[Table, Table, Table, float, float]) -> None:
    losses, flash, macs, flash_limit, macs_limit = problem
    found = choose(losses, {"flash_bytes": flash, "macs": macs}, {"flash_bytes": flash_limit, "macs": macs_limit})
    allowed = [
        c
        for c in product(*(range(len(block)) for block in losses))
        if total(flash, c) <= flash_limit and total(macs, c) <= macs_limit
    ]
    if not allowed:
        assert found is None
        return
    assert found is not None
    assert tuple(found) in allowed
    assert total(losses, found) == min(total(losses, c) for c in allowed)


def test_the_next_answer_differs_in_several_blocks() -> None:
    losses = [[0.0, 1.0] for _ in range(6)]
    first = choose(losses, {}, {})
    assert first == [0] * 6
    second = choose(losses, {}, {}, [first])
    assert second is not None
    assert sum(second) == DIFFERENT


def test_plans_hold_the_moves_of_the_chosen_variants() -> None:
    graph = insert_batch_norm(residual_network(size=64), some_inputs(8, 64))
    blocks = regions(graph)
    names = [b.name for b in blocks]
    assert "add" in names
    own = {b.name: [Variant(b.name, (), False, 0.0, {})] for b in blocks}
    own["add"].append(Variant("add", (), True, 0.5, {}))
    own["add"].append(Variant("add", (SetBits({"expand": 4}),), False, 0.1, {"expand": {}}))
    whole = sum(price(part(graph, b), 1.0).flash_bytes for b in blocks)
    roomy = plans(graph, blocks, list(own.values()), {"flash_bytes": whole + 1e6}, 0)
    assert roomy[0].skips == () == roomy[0].exchanges
    outside = price(graph, 1.0, {n for b in blocks for n in b.nodes}).flash_bytes
    tight = plans(graph, blocks, list(own.values()), {"flash_bytes": whole + outside - 1}, 0)
    assert tight[0].exchanges == (SetBits({"expand": 4}),)
    assert tight[0].taught == (own["add"][2].name,)
    (uniform,) = uniform_plans(list(own.values()))
    assert uniform.exchanges == (SetBits({"expand": 4}),)


def test_prices_are_bytes_as_stored() -> None:
    graph = insert_batch_norm(residual_network(size=64), some_inputs(8, 64))
    (block,) = [b for b in regions(graph) if any("stem" in n for n in b.nodes)]
    stem = part(graph, block)
    full, half = price(stem, 1.0), price(stem, 0.5)
    assert half.flash_bytes < full.flash_bytes
    assert half.macs == pytest.approx(full.macs / 2)  # three colours stay three
    dense = Separate.options(graph)
    for option in dense:
        changed = option.apply(graph, Context({}))
        assert price(changed, 1.0).flash_bytes < price(graph, 1.0).flash_bytes
