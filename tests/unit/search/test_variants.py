"""Local distillation: what blocks can become, what that costs, what is inherited."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from training_cases import preprocessing, residual_network, some_inputs, stripes

from thumbnet.data import Augmentation
from thumbnet.errors import ModelError
from thumbnet.graph.blocks import part, regions, with_part
from thumbnet.graph.evaluate import evaluate_graph
from thumbnet.graph.graph import Graph
from thumbnet.kept import load_variants, save_variants
from thumbnet.search.lesson import Lesson
from thumbnet.search.moves import InheritTaught, SetBits
from thumbnet.search.recipe import Context, Recipe
from thumbnet.search.variants import Variant, Workshop, coarse_layers, exchanges, forms, teach, teachable, total_steps
from thumbnet.training.distill import Distillation
from thumbnet.training.images import Images
from thumbnet.training.normalize import insert_batch_norm


@pytest.fixture(scope="module")
def graph() -> Graph:
    return insert_batch_norm(
        residual_network(size=64), Images.of(stripes(size=64).train, preprocessing(64)).normalized(slice(None))
    )


@pytest.fixture(scope="module")
def lesson() -> Lesson:
    data = stripes(size=64)
    teacher = torch.nn.functional.one_hot(torch.from_numpy(data.train.labels)).float() * 4
    return Lesson(data.train, data.val, preprocessing(64), teacher, Distillation(teacher), Augmentation(), seed=0)


def taught(graph: Graph, lesson: Lesson, steps: int) -> list[list[Variant]]:
    workshop = Workshop(graph, lesson, steps, frozenset({"add"}))
    return [teach(workshop, b, lambda n, i: None) for b in teachable(graph)]


def test_parts_put_back_are_the_graph(graph: Graph) -> None:
    x = some_inputs(2, 64).numpy()
    for block in regions(graph):
        again = with_part(graph, block, part(graph, block))
        np.testing.assert_array_equal(evaluate_graph(again, x), evaluate_graph(graph, x))


def test_learning_makes_variants_cheaper_to_take(graph: Graph, lesson: Lesson) -> None:
    little, much = taught(graph, lesson, 8), taught(graph, lesson, 160)
    pairs = [(a, b) for x, y in zip(little, much, strict=True) for a, b in zip(x, y, strict=True)]
    learned = [(a.loss, b.loss) for a, b in pairs if a.taught]
    assert learned
    assert sum(b for _, b in learned) < sum(a for a, _ in learned)
    assert all(v.loss == 0 for own in much for v in own if not v.moves and not v.skipped)
    assert {v.block for own in much for v in own if v.skipped} == {"add"}


def test_steps_heard_are_steps_taken(graph: Graph, lesson: Lesson) -> None:
    heard: list[int] = []
    workshop = Workshop(graph, lesson, 8, frozenset())
    found = [v for b in teachable(graph) for v in teach(workshop, b, lambda n, i: heard.append(n))]
    promised = sum(total_steps(part(graph, b), 8) for b in teachable(graph))
    assert sum(heard) == promised == sum(v.steps for v in found)


def test_what_was_learned_is_inherited_and_kept(graph: Graph, lesson: Lesson, tmp_path: Path) -> None:
    variants = tuple(tuple(own) for own in taught(graph, lesson, 8))
    save_variants(tmp_path, variants)
    again = load_variants(tmp_path)
    assert [[v.name for v in own] for own in again] == [[v.name for v in own] for own in variants]
    for one, other in zip(variants, again, strict=True):
        for a, b in zip(one, other, strict=True):
            assert (a.loss, a.steps, a.skipped, a.moves) == (b.loss, b.steps, b.skipped, b.moves)
            assert {n: set(w) for n, w in a.taught.items()} == {n: set(w) for n, w in b.taught.items()}
    variant = next(v for own in again for v in own if v.taught)
    context = Context({}, taught={variant.name: variant.taught})
    changed = Recipe((*variant.moves, InheritTaught((variant.name,)))).apply(graph, context)
    for name, weights in variant.taught.items():
        for key, weight in weights.items():
            np.testing.assert_array_equal(changed.by_name[name].weights[key], weight)
    with pytest.raises(ModelError, match="Nothing was taught"):
        InheritTaught(("never",)).apply(graph, context)


def test_forms_are_each_exchange_with_eight_and_four_bits(graph: Graph) -> None:
    for block in teachable(graph):
        whole = part(graph, block)
        assert exchanges(whole)[0] == ()
        for exchange in exchanges(whole):
            plain, *coarse = forms(exchange, whole)
            assert plain == exchange
            assert len(coarse) <= 1
            for form in coarse:
                assert isinstance(form[-1], SetBits)
                assert set(form[-1].bits.values()) == {4}
                assert set(form[-1].bits) <= set(coarse_layers(_made(whole, exchange)))


def _made(graph: Graph, moves: tuple[object, ...]) -> Graph:
    for move in moves:
        graph = move.apply(graph, Context({}))  # type: ignore[attr-defined]
    return graph
