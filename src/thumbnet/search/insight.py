"""Why this architecture: what matters in the reference, what each change of the recipe cost and gained, and by which
kinds of changes the better candidates differed. Nothing is decided here; all of it is on training and validation data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from thumbnet.cost import estimate
from thumbnet.data import Task
from thumbnet.data.task import Arrays, joined
from thumbnet.errors import ThumbnetError
from thumbnet.graph.channels import ChannelGroup, channel_groups
from thumbnet.graph.graph import Graph
from thumbnet.graph.passes import clean
from thumbnet.integer.lower import lower
from thumbnet.integer.passes.join_inputs import join_ports
from thumbnet.results import Constraints, Costs, Trial
from thumbnet.search.lesson import Lesson
from thumbnet.search.recipe import Context, Recipe
from thumbnet.search.space import Space
from thumbnet.search.weightless import weightless
from thumbnet.targets.target import Target
from thumbnet.training.head import refit_head
from thumbnet.training.loop import Images, answered, draw_some, recalibrate
from thumbnet.training.module import GraphModule
from thumbnet.training.normalize import LINEAR, restore_names

IMAGES = 192  # training images to measure batch norms and to fit the last layer on
VALIDATION = 500  # at most, spread evenly: beside the search, which judges on all of it, this is to cost little
MOVES = 8  # more moves than these are told by kind, so that the time stays small
COSTS = ("flash_bytes", "ram_bytes", "macs", "instructions", "latency_ms")
SENSELESS = (ThumbnetError, KeyError, ValueError)  # of moves that make no sense without the others


@dataclass(frozen=True)
class Change:
    """Some moves of the recipe that are looked at together: one, or all of a kind."""

    text: str
    kind: str
    positions: tuple[int, ...]


def explain(
    space: Space,
    context: Context,
    lesson: Lesson,
    target: Target,
    limits: Constraints,
    trials: Sequence[Trial],
    chosen: str,
) -> dict[str, Any]:
    """JSON: `groups` and `blocks` (see `sensitivity`), `samples`, `reference`, `result` and `moves` (see `effects`),
    and `kinds` (see `compared`).

    `chosen` is the id of the trial that became the result.
    """
    recipe = next((Recipe.from_json(t.recipe) for t in trials if t.id == chosen), Recipe(()))
    return {
        **sensitivity(space, context, recipe.apply(space.graph, context)),
        **effects(space.graph, context, recipe, lesson, target, limits),
        "kinds": compared(trials, lesson.task.metric.higher_is_better),
    }


# --- what matters


def sensitivity(space: Space, context: Context, result: Graph) -> dict[str, Any]:
    """Groups and blocks in the order of the network.

    Of a group: `share`, its part of the importance of all groups (sums of squared first-order changes of the loss, see
    `importance`), in percent; `per_channel`, that share over the group's share of all channels (1: as much as the
    average channel of the network); `before` and `after`, how many channels it has in the reference and in the result
    (0: gone); `kept`, how much of its importance the most important `after` channels hold, in percent. Of a block:
    `loss_change`, by how much leaving it out changes the loss of an image, first order, root mean square; `stays`.
    """
    total = sum(float(v.sum()) for v in context.importance.values()) or 1.0
    channels = sum(g.size for g in space.groups) or 1
    left = {g.id: g.size for g in channel_groups(result)}
    rows = []
    for group in space.groups:
        scores = np.sort(context.importance[group.id])[::-1]
        own, after = float(scores.sum()), _width(group, left, space.graph, result)
        rows.append(
            {
                "group": group.id.removesuffix(LINEAR),
                "share": 100 * own / total,
                "per_channel": own / total * channels / group.size,
                "before": group.size,
                "after": after,
                "kept": 100 * float(scores[:after].sum()) / own if own > 0 else 100.0,
            }
        )
    values = set(result.by_name)
    blocks = [
        {
            "block": b.name,
            "loss_change": math.sqrt(context.blocks.get(b.name, 0.0)),
            "stays": bool(set(b.nodes) & values),
        }
        for b in space.blocks
    ]
    return {"groups": rows, "blocks": blocks}


def _width(group: ChannelGroup, left: Mapping[str, int], reference: Graph, result: Graph) -> int:
    """Channels of the group in the result, by its name there, or by the name of one of its producers or values."""
    if group.id in left:
        return left[group.id]
    for name in (*group.producers, *group.values):
        whole = name in reference.shapes and reference.shapes[name][0] == group.size
        if whole and name in result.by_name:
            return result.shapes[name][0]
    return 0


# --- what each move cost and gained


def effects(
    reference: Graph, context: Context, recipe: Recipe, lesson: Lesson, target: Target, limits: Constraints
) -> dict[str, Any]:
    """`samples` of validation were looked at. `reference` and `result`: costs, and of the reference metric and loss.
    `moves`: of each change of the recipe,

    - `alone`: applied to the reference and nothing else: its costs, and the metric and the loss on validation, without
      training (batch norms measured again, the last layer fitted), with the drop against the reference treated alike
      and the 95 % interval of that;
    - `without`: the costs of the result if this change were left out, and which limits that would exceed, by what
      factor.

    Either is None where the network would not make sense so. Costs are `COSTS`, estimated.
    """
    judge = _Judge(lesson)
    start = judge.of(reference)
    rows = []
    for change in changes(recipe):
        alone = Recipe(tuple(recipe.moves[k] for k in change.positions))
        rest = Recipe(tuple(m for k, m in enumerate(recipe.moves) if k not in change.positions))
        rows.append(
            {
                "move": change.text,
                "kind": change.kind,
                "count": len(change.positions),
                "alone": _alone(reference, context, alone, judge, start, target),
                "without": _without(reference, context, rest, target, limits),
            }
        )
    return {
        "samples": len(judge.rows),
        "reference": {**_costs(costs_of(reference, target)), "score": start.score, "loss": start.loss},
        "result": _costs(costs_of(recipe.apply(reference, context), target)),
        "moves": rows,
    }


def changes(recipe: Recipe) -> list[Change]:
    """One for each move; one for each kind where there are more than `MOVES`."""
    if len(recipe.moves) <= MOVES:
        return [Change(str(m), m.kind, (k,)) for k, m in enumerate(recipe.moves)]
    kinds: dict[str, list[int]] = {}
    for k, move in enumerate(recipe.moves):
        kinds.setdefault(move.kind, []).append(k)
    return [
        Change("; ".join(str(recipe.moves[k]) for k in positions), kind, tuple(positions))
        for kind, positions in kinds.items()
    ]


def costs_of(graph: Graph, target: Target) -> Costs:
    """Estimated costs of a candidate, with stand-ins for its weights: a new head's zeros would suit cheaper kernels."""
    return estimate(join_ports(lower(restore_names(clean(weightless(graph))), None)), target)


def _costs(costs: Costs) -> dict[str, Any]:
    facts = asdict(costs)
    return {k: facts[k] for k in COSTS}


def _alone(
    reference: Graph, context: Context, recipe: Recipe, judge: _Judge, start: _Judged, target: Target
) -> dict[str, Any] | None:
    try:
        graph = recipe.apply(reference, context)
        costs = _costs(costs_of(graph, target))
        found = judge.of(graph)
    except SENSELESS:
        return None
    metric = judge.task.metric
    unknown = (-math.inf, math.inf)
    drop = judge.task.drop_interval
    interval = unknown if judge.task.costly else drop(judge.targets, start.answers, found.answers)
    return {
        **costs,
        "score": found.score,
        "loss": found.loss if math.isfinite(found.loss) else None,
        "drop": metric.drop(start.score, found.score),
        "drop_interval": [v if math.isfinite(v) else None for v in interval],
    }


def _without(
    reference: Graph, context: Context, recipe: Recipe, target: Target, limits: Constraints
) -> dict[str, Any] | None:
    try:
        costs = costs_of(recipe.apply(reference, context), target)
    except SENSELESS:
        return None
    return {**_costs(costs), "violations": limits.violations(costs)}


@dataclass(frozen=True, eq=False)
class _Judged:
    answers: Arrays
    score: float
    loss: float


class _Judge:
    """Judges networks on validation without training, as the search's first look does (`halving.score`)."""

    def __init__(self, lesson: Lesson) -> None:
        self.lesson = lesson
        self.task: Task = lesson.task
        count = len(lesson.val)
        self.rows = torch.from_numpy(np.linspace(0, count - 1, min(VALIDATION, count)).round().astype(np.int64))
        wanted = tuple(np.asarray(y)[self.rows.numpy()] for y in (lesson.val.labels, *lesson.val.further_targets))
        self.targets: Arrays = wanted if len(wanted) > 1 else wanted[0]

    def of(self, graph: Graph) -> _Judged:
        module = GraphModule(graph)
        training, validation = self.lesson.images(graph.inputs[0].shape)
        chosen = draw_some(len(training), IMAGES, self.lesson.seed)
        recalibrate(module, training, chosen)
        if self.lesson.teacher is not None:
            refit_head(module, training, chosen, self.lesson.teacher)
        with torch.inference_mode():
            batches = list(answered(module, self._some(validation)))
            found = self.task.assess(iter(batches))
        return _Judged(joined([self.task.answers(b) for b in batches]), found.score, found.loss)

    def _some(self, images: Images) -> Images:
        further = tuple(x[self.rows] for x in images.further_pixels), tuple(y[self.rows] for y in images.further_labels)
        return Images(images.pixels[self.rows], images.labels[self.rows], images.preprocessing, *further)


# --- what the better candidates have in common


def compared(trials: Sequence[Trial], higher_is_better: bool) -> list[dict[str, Any]]:
    """For every kind of move and every rung that trials with and without it have reached: the best metric of either on
    validation, and how many there were. Deepest rung first within a kind."""
    rows = []
    pick = max if higher_is_better else min
    for kind in dict.fromkeys(m["kind"] for t in trials for m in t.recipe.get("moves", ())):
        sides: dict[int, tuple[list[float], list[float]]] = {}
        for trial in trials:
            has = any(m["kind"] == kind for m in trial.recipe.get("moves", ()))
            for rung, score in _scores(trial).items():
                sides.setdefault(rung, ([], []))[0 if has else 1].append(score)
        for rung in sorted(sides, reverse=True):
            with_, without = sides[rung]
            if with_ and without:
                best = {"with": pick(with_), "without": pick(without)}
                counts = {"with_count": len(with_), "without_count": len(without)}
                rows.append({"kind": kind, "rung": rung, **best, **counts})
    return rows


def _scores(trial: Trial) -> dict[int, float]:
    """The metric at each rung. Before training (rung 0) only those that were dropped there keep theirs: a comparison
    among them would be one of losers, so it is left out."""
    scored = [p["accuracy"] for p in trial.curve if "accuracy" in p]
    if len(scored) == trial.rung:
        return dict(enumerate(scored, 1))
    return {trial.rung: trial.accuracy} if trial.accuracy is not None and trial.rung else {}


__all__ = ["Change", "changes", "compared", "costs_of", "effects", "explain", "sensitivity"]
