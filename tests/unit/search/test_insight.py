"""Why this architecture: figures against a second computation, on a network small enough for it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from training_cases import preprocessing, residual_network, some_inputs, stripes

from thumbnet.data import Augmentation
from thumbnet.errors import ModelError
from thumbnet.graph.channels import channel_groups
from thumbnet.graph.graph import Graph
from thumbnet.results import Constraints, Trial, TrialState
from thumbnet.search.fit import Fitter
from thumbnet.search.halving import Lesson
from thumbnet.search.insight import MOVES, changes, compared, costs_of, effects, explain, sensitivity
from thumbnet.search.moves import SetResolution, SetWidths, SkipBlock
from thumbnet.search.recipe import Context, Recipe
from thumbnet.search.space import Space, explore_space
from thumbnet.targets import load_target
from thumbnet.training.distill import CrossEntropy
from thumbnet.training.head import refit_head
from thumbnet.training.loop import Images, predict, recalibrate
from thumbnet.training.module import GraphModule
from thumbnet.training.normalize import insert_batch_norm

TARGET = load_target("nrf52840")
WIDTHS = SetWidths({"stem.linear": 8, "expand.linear": 12})


@pytest.fixture(scope="module")
def space() -> Space:
    return explore_space(insert_batch_norm(residual_network(size=64), some_inputs(8, 64)))


@pytest.fixture(scope="module")
def context(space: Space) -> Context:
    rng = np.random.default_rng(0)
    return Context({g.id: rng.random(g.size) for g in space.groups}, {b.name: 0.25 for b in space.blocks})


@pytest.fixture(scope="module")
def lesson() -> Lesson:
    data = stripes(size=64)
    teacher = torch.nn.functional.one_hot(torch.from_numpy(data.train.labels), 3).float()
    settings = {"teacher": teacher, "objective": CrossEntropy(), "augmentation": Augmentation.named("none"), "seed": 0}
    return Lesson(data.train, data.val, preprocessing(64), **settings)  # type: ignore[arg-type]


def test_shares_are_of_all_importance_and_widths_are_those_of_the_result(space: Space, context: Context) -> None:
    result = Recipe((WIDTHS,)).apply(space.graph, context)
    found = sensitivity(space, context, result)
    rows = {g["group"]: g for g in found["groups"]}
    assert list(rows) == ["stem", "expand", "down"]
    assert sum(g["share"] for g in rows.values()) == pytest.approx(100)
    total = sum(v.sum() for v in context.importance.values())
    expand = context.importance["expand.linear"]
    assert rows["expand"]["share"] == pytest.approx(100 * expand.sum() / total)
    assert rows["expand"]["per_channel"] == pytest.approx(expand.mean() / (total / (16 + 48 + 32)))
    assert rows["expand"]["kept"] == pytest.approx(100 * sum(sorted(expand)[-12:]) / expand.sum())
    assert [(g["before"], g["after"]) for g in rows.values()] == [(16, 8), (48, 12), (32, 32)]
    assert {g.id: g.size for g in channel_groups(result)}["expand.linear"] == 12
    assert found["blocks"] == [{"block": "add", "loss_change": 0.5, "stays": True}]


def test_what_is_left_out_is_gone(space: Space, context: Context) -> None:
    found = sensitivity(space, context, Recipe((SkipBlock("add"),)).apply(space.graph, context))
    assert [(g["group"], g["after"], g["kept"]) for g in found["groups"]][1] == ("expand", 0, 0.0)
    assert found["blocks"][0]["stays"] is False


def test_costs_are_those_of_the_search(space: Space, context: Context) -> None:
    fitter = Fitter(space, context, TARGET, Constraints(flash_bytes=12_000))
    for shape in list(fitter.shapes())[::3]:
        fitted = fitter.fit(shape)
        if fitted is not None:
            costs = costs_of(fitted.recipe.apply(space.graph, context), TARGET)
            assert replace(costs, layers=()) == replace(fitted.costs, layers=())


@pytest.fixture(scope="module")
def told(space: Space, context: Context, lesson: Lesson) -> dict[str, Any]:
    recipe = Recipe((SkipBlock("add"), SetWidths({"stem.linear": 8}), SetResolution(32, 32)))
    limits = Constraints(flash_bytes=1, macs=10**9)
    return effects(space.graph, context, recipe, lesson, TARGET, limits)


def test_each_move_alone_and_left_out(told: dict[str, Any], space: Space, context: Context) -> None:
    assert [m["kind"] for m in told["moves"]] == ["skip", "widths", "resolution"]
    assert [m["move"] for m in told["moves"]][2] == "input 32 × 32"
    alone = costs_of(Recipe((SkipBlock("add"),)).apply(space.graph, context), TARGET)
    rest = Recipe((SetWidths({"stem.linear": 8}), SetResolution(32, 32))).apply(space.graph, context)
    skip = told["moves"][0]
    assert skip["alone"]["flash_bytes"] == alone.flash_bytes < told["reference"]["flash_bytes"]
    assert skip["alone"]["instructions"] == alone.instructions
    assert skip["without"]["macs"] == rest.macs > told["result"]["macs"]
    assert skip["without"]["flash_bytes"] == costs_of(rest, TARGET).flash_bytes
    assert skip["without"]["violations"] == {"flash_bytes": skip["without"]["flash_bytes"]}
    # a smaller image costs no less flash, and alone a quarter of the products; the dense layer does not shrink
    assert told["moves"][2]["alone"]["macs"] == pytest.approx(told["reference"]["macs"] / 4, rel=0.01)


def test_the_metric_alone_is_that_of_the_inherited_weights(
    told: dict[str, Any], space: Space, context: Context, lesson: Lesson
) -> None:
    module = GraphModule(Recipe((SkipBlock("add"),)).apply(space.graph, context))
    training = Images.of(lesson.train, preprocessing(64))
    chosen = torch.randperm(len(training), generator=torch.Generator().manual_seed(0))
    recalibrate(module, training, chosen)
    assert lesson.teacher is not None
    assert refit_head(module, training, chosen, lesson.teacher)
    outputs = predict(module, Images.of(lesson.val, preprocessing(64)))
    labels = torch.from_numpy(lesson.val.labels)
    alone = told["moves"][0]["alone"]
    assert alone["score"] == pytest.approx(100 * float((outputs.argmax(1) == labels).float().mean()))
    assert alone["loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(outputs, labels)), rel=1e-4)
    assert alone["drop"] == pytest.approx(told["reference"]["score"] - alone["score"])
    low, high = alone["drop_interval"]
    assert low <= alone["drop"] <= high


@dataclass(frozen=True)
class NeedsSmallInput(SetResolution):
    """A move that works on what another one made, alone."""

    kind = "needy"

    def apply(self, graph: Graph, context: Context) -> Graph:
        if graph.inputs[0].shape[1] != 32:
            raise ModelError("The input is not 32 pixels high.")
        return super().apply(graph, context)


def test_moves_that_make_no_sense_without_the_others_are_told_as_such(
    space: Space, context: Context, lesson: Lesson
) -> None:
    recipe = Recipe((SetResolution(32, 32), NeedsSmallInput(40, 40)))
    smaller, needy = effects(space.graph, context, recipe, lesson, TARGET, Constraints())["moves"]
    assert smaller["alone"] is not None
    assert smaller["without"] is None
    assert needy["alone"] is None
    assert needy["without"] is not None


def test_many_moves_are_told_by_kind() -> None:
    recipe = Recipe((*(SkipBlock(f"b{k}") for k in range(MOVES)), SetResolution(8, 8)))
    skips, smaller = changes(recipe)
    assert (skips.kind, len(skips.positions), smaller.positions) == ("skip", MOVES, (MOVES,))
    assert "b3" in skips.text


def trial(name: str, recipe: Recipe, scores: list[float], rung: int | None = None) -> Trial:
    curve = tuple({"step": 10.0 * k, "loss": 1.0, "accuracy": s} for k, s in enumerate(scores, 1))
    rung = len(scores) if rung is None else rung
    return Trial(name, recipe.json(), TrialState.FEASIBLE, "", None, scores[-1] if scores else 50.0, rung, curve)


def test_kinds_are_compared_at_equal_rungs() -> None:
    skip, plain = Recipe((SkipBlock("add"),)), Recipe((SetResolution(8, 8),))
    trials = [
        trial("a", skip, [60, 70, 80]),
        trial("b", skip, [65]),
        trial("c", plain, [61, 72]),
        trial("d", plain, [], rung=0),  # dropped before training: no match for those that went on
    ]
    found = {(k["kind"], k["rung"]): k for k in compared(trials, True)}
    assert set(found) == {("skip", 1), ("skip", 2), ("resolution", 1), ("resolution", 2)}
    assert found["skip", 1] == {
        "kind": "skip",
        "rung": 1,
        "with": 65,
        "without": 61,
        "with_count": 2,
        "without_count": 1,
    }
    assert found["skip", 2]["with"] == found["resolution", 2]["without"] == 70
    lower = {(k["kind"], k["rung"]): k for k in compared(trials, False)}
    assert lower["skip", 1]["with"] == 60


def test_explain_is_json_and_repeats(space: Space, context: Context, lesson: Lesson) -> None:
    recipe = Recipe((WIDTHS,))
    trials = [trial(recipe.id, recipe, [70]), trial("other", Recipe((SkipBlock("add"),)), [60])]
    first, again = (explain(space, context, lesson, TARGET, Constraints(), trials, recipe.id) for _ in range(2))
    assert first == again
    assert first["moves"][0]["without"]["flash_bytes"] == first["reference"]["flash_bytes"]
    assert first["moves"][0]["alone"]["flash_bytes"] == first["result"]["flash_bytes"]
    assert math.isfinite(first["reference"]["loss"])
