"""Moves, recipes, importance, fitting, halving."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training_cases import chain_network, preprocessing, residual_network, some_inputs, stripes, training_images

from thumbnet.cost import estimate
from thumbnet.data import Augmentation
from thumbnet.errors import ModelError
from thumbnet.graph.evaluate import evaluate_graph
from thumbnet.graph.graph import Graph
from thumbnet.graph.passes import clean
from thumbnet.integer.lower import lower
from thumbnet.progress import Progress
from thumbnet.results import Constraints, TrialState
from thumbnet.search import halving
from thumbnet.search.efforts import EFFORTS, Effort, effort_named
from thumbnet.search.fit import Fitter
from thumbnet.search.halving import search
from thumbnet.search.importance import importance
from thumbnet.search.lesson import Lesson
from thumbnet.search.moves import SetResolution, SetWidths, SkipBlock, Truncate
from thumbnet.search.propose import Bench, propose
from thumbnet.search.recipe import Context, Move, Recipe
from thumbnet.search.space import Space, explore_space
from thumbnet.targets import load_target
from thumbnet.training.distill import CrossEntropy, Distillation
from thumbnet.training.loop import Images
from thumbnet.training.normalize import insert_batch_norm


@pytest.fixture(scope="module")
def space() -> Space:
    return explore_space(insert_batch_norm(residual_network(size=64), some_inputs(8, 64)))


@pytest.fixture(scope="module")
def context(space: Space) -> Context:
    rng = np.random.default_rng(0)
    return Context({g.id: rng.random(g.size) for g in space.groups})


def fitter(space: Space, context: Context, **limits: int) -> Fitter:
    return Fitter(space, context, load_target("nrf52840"), Constraints(**limits))


def bench(space: Space, context: Context, **limits: int) -> Bench:
    return Bench(space, context, load_target("nrf52840"), Constraints(**limits))


def test_the_space_holds_what_the_network_allows(space: Space) -> None:
    assert {g.id.removesuffix(".linear"): g.size for g in space.groups} == {"stem": 16, "expand": 48, "down": 32}
    assert [b.name for b in space.blocks] == ["add"]
    assert space.cuts == ("add", "stem")
    assert space.resolutions == ((64, 64), (56, 56), (48, 48), (40, 40), (32, 32))


EXAMPLES: list[Move] = [
    SetWidths({"stem.linear": 8, "expand.linear": 12}),
    SkipBlock("add"),
    Truncate("add"),
    SetResolution(32, 40),
]


@pytest.mark.parametrize("move", EXAMPLES, ids=lambda m: m.kind)
def test_every_move_gives_a_valid_smaller_network_and_survives_json(space: Space, context: Context, move: Move) -> None:
    recipe = Recipe((move,))
    changed = recipe.apply(space.graph, context)
    assert changed.macs < space.graph.macs
    again = Recipe.from_json(json.loads(json.dumps(recipe.json())))
    assert again == recipe
    assert again.id == recipe.id
    assert again.apply(space.graph, context).digest == changed.digest
    evaluate_graph(changed, np.zeros((2, *changed.inputs[0].shape), np.float32))


def test_the_most_important_channels_stay(space: Space, context: Context) -> None:
    scores = context.importance["stem.linear"]
    kept = np.sort(np.argsort(-scores)[:4])
    narrow = SetWidths({"stem.linear": 4}).apply(space.graph, context)
    np.testing.assert_array_equal(
        narrow.by_name["stem.linear"].weights["weight"], space.graph.by_name["stem.linear"].weights["weight"][kept]
    )


def test_importance_is_zero_for_a_channel_that_nobody_hears_and_largest_for_one_that_matters() -> None:
    graph = residual_network()
    down = graph.by_name["down"]
    out = graph.by_name["out"]
    weight = out.weights["weight"].copy()
    weight[:, 3] = 0.0
    weight[:, 5] *= 50.0
    bias = down.weights["bias"].copy()
    bias[5] = 1.0
    nodes = [
        out.with_weights(weight=weight) if n.name == "out" else down.with_weights(bias=bias) if n.name == "down" else n
        for n in graph.nodes
    ]
    graph = graph.with_nodes(nodes)
    groups = explore_space(graph).groups
    scores = importance(graph, groups, (), training_images(), CrossEntropy(), torch.arange(48)).channels
    assert scores["down"][3] == 0.0
    assert int(scores["down"].argmax()) == 5


def with_fitted_head(graph: Graph) -> Graph:
    """Numbers in place of the zeros that a cut network's last layer starts with."""
    head = graph.by_name[graph.outputs[0]]
    if head.weights["weight"].any():
        return graph
    weight = np.random.default_rng(0).normal(0, 0.2, head.weights["weight"].shape).astype(np.float32)
    return graph.with_nodes(n.with_weights(weight=weight) if n is head else n for n in graph.nodes)


@settings(max_examples=15, deadline=None)
@given(flash=st.integers(8, 24), ram=st.integers(6, 60), shape=st.integers(0, 49))
def test_what_is_fitted_keeps_its_limits_or_says_by_how_much_not(flash: int, ram: int, shape: int) -> None:
    space, context = _SPACE, _CONTEXT
    fit = fitter(space, context, flash_bytes=flash << 10, ram_bytes=ram << 10)
    shapes = list(fit.shapes())
    fitted = fit.fit(shapes[shape % len(shapes)])
    assert fitted is not None
    # costs again, from the real candidate instead of the skeleton; a new head is fitted before it is built
    candidate = with_fitted_head(clean(fitted.recipe.apply(space.graph, context)))
    real = estimate(lower(candidate, None), fit.target)
    assert (real.flash_bytes, real.ram_bytes, real.macs) == (
        fitted.costs.flash_bytes,
        fitted.costs.ram_bytes,
        fitted.costs.macs,
    )
    assert fitted.fits == (real.flash_bytes <= flash << 10 and real.ram_bytes <= ram << 10)


_SPACE = explore_space(insert_batch_norm(residual_network(size=64), some_inputs(8, 64)))
_CONTEXT = Context({g.id: np.linspace(1, 0, g.size) for g in _SPACE.groups})


def test_without_limits_the_reference_itself_is_proposed(space: Space, context: Context) -> None:
    proposals, misses = propose(bench(space, context), (), EFFORTS["quick"], Progress.quiet())
    assert misses == []
    assert proposals[0].recipe == Recipe(())
    assert proposals[0].kept == pytest.approx(1.0)


def lesson() -> Lesson:
    data = stripes(size=64)
    teacher = torch.nn.functional.one_hot(torch.from_numpy(data.train.labels)).float() * 4
    return Lesson(data.train, data.val, preprocessing(64), teacher, Distillation(teacher), Augmentation(), seed=0)


def test_halving_trains_fewer_for_longer_and_is_reproducible(space: Space, context: Context) -> None:
    effort = Effort(5, ((3, 0.5), (1, 1.0)), 1, 1, 16, 0.1, 64, 0)
    proposals, _ = propose(bench(space, context, flash_bytes=40 << 10), (), effort, Progress.quiet())

    def run() -> tuple[list[Graph], list[tuple[str, int, float | None]]]:
        finalists, trials = search(space.graph, context, proposals, lesson(), effort, Progress.quiet())
        return [f.graph for f in finalists], [(t.id, t.rung, t.accuracy) for t in trials]

    (graphs, trials), (again, same) = run(), run()
    assert [g.digest for g in graphs] == [g.digest for g in again]
    assert trials == same
    assert sorted(rung for _, rung, _ in trials) == [0, 0, 1, 1, 2]


def test_trials_say_what_became_of_them(space: Space, context: Context) -> None:
    effort = Effort(3, ((2, 0.25),), 1, 1, 16, 0.1, 64, 0)
    proposals, _ = propose(bench(space, context), (), effort, Progress.quiet())
    _, trials = search(space.graph, context, proposals, lesson(), effort, Progress.quiet())
    assert [t.reason for t in trials] == ["dropped after rung 0", "dropped after rung 1", ""]
    assert all(t.state == TrialState.FEASIBLE and t.costs is not None for t in trials)


def test_a_candidate_whose_loss_is_not_finite_is_a_failed_trial(
    space: Space, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    effort = Effort(3, ((2, 0.25),), 1, 1, 16, 0.1, 64, 0)
    proposals, _ = propose(bench(space, context), (), effort, Progress.quiet())
    real, calls = halving.train, []

    def sometimes(*given: object, **named: object) -> object:
        calls.append(1)
        if len(calls) == 1:
            raise FloatingPointError("the loss became nan at step 3")
        return real(*given, **named)

    monkeypatch.setattr(halving, "train", sometimes)
    finalists, trials = search(space.graph, context, proposals, lesson(), effort, Progress.quiet())
    failed = [t for t in trials if t.state == TrialState.FAILED]
    assert [t.reason for t in failed] == ["failed in rung 1: the loss became nan at step 3"]
    assert len(finalists) == 1
    assert finalists[0].fitted.recipe.id != failed[0].id


def test_efforts_are_named_and_consistent() -> None:
    assert effort_named("quick").finalists == 1
    with pytest.raises(Exception, match="quick, standard, thorough"):
        effort_named("heroic")
    with pytest.raises(ValueError, match="fewer networks"):
        replace(EFFORTS["quick"], rungs=((2, 0.1), (3, 0.2)))


def test_the_less_important_blocks_are_left_out_first() -> None:
    space = explore_space(insert_batch_norm(chain_network(), some_inputs(8, 64)))
    names = [b.name for b in space.blocks]
    assert len(names) == 3
    context = Context({g.id: np.ones(g.size) for g in space.groups}, dict(zip(names, (2.0, 1.0, 3.0), strict=True)))
    fit = fitter(space, context, flash_bytes=24 << 10)
    skips = {s.skips for s in fit.shapes() if s.cut is None}
    assert skips == {(), (names[1], names[0]), (names[1], names[0], names[2])}
    for shape in fit.shapes():
        fitted = fit.fit(shape)
        assert fitted is not None
        candidate = with_fitted_head(clean(fitted.recipe.apply(space.graph, context)))
        real = estimate(lower(candidate, None), fit.target)
        assert real.flash_bytes == fitted.costs.flash_bytes
        assert real.ram_bytes == fitted.costs.ram_bytes


def test_a_block_that_changes_nothing_is_the_least_important() -> None:
    graph = residual_network(size=32)
    project = graph.by_name["project"]
    still = project.with_weights(**{k: np.zeros_like(w) for k, w in project.weights.items()})
    data = Images.of(stripes(size=32).train, preprocessing(32))
    for changed, zero in ((graph, False), (graph.with_nodes(still if n is project else n for n in graph.nodes), True)):
        space = explore_space(changed)
        scores = importance(changed, space.groups, space.blocks, data, CrossEntropy(), torch.arange(32)).blocks
        assert (scores["add"] == 0.0) == zero


def test_a_block_that_is_not_there_is_refused(space: Space, context: Context) -> None:
    with pytest.raises(ModelError, match="cannot be skipped"):
        SkipBlock("nothing").apply(space.graph, context)
