"""Global magnitude pruning as users of torch-pruning (1.6) do it, to the limits of a cell.

The module is pruned at one global ratio, found by bisection under exact costs, and fine-tuned on labels alone. Two
favours: each layer keeps its strongest channels, as many as the rounding needs (torch-pruning leaves a layer whole if
all its channels would fall), and batch norms are measured anew before training.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from headline_setting import FRACTIONS, NothingFitsError, Setting, Size, chosen, resized
from torch import nn

from thumbnet import stages
from thumbnet.errors import UsageError
from thumbnet.graph.graph import Graph
from thumbnet.graph.passes import clean
from thumbnet.importers import load
from thumbnet.search.lesson import Lesson
from thumbnet.training.distill import CrossEntropy


@dataclass(frozen=True, eq=False)
class Pruned:
    """A module pruned at this ratio, as a graph at the largest resolution that keeps the limits."""

    ratio: float
    step: int  # widths are multiples of it
    size: Size
    graph: Graph

    def __str__(self) -> str:
        return f"ratio {self.ratio:.3f} in steps of {self.step} at {self.size[0]} × {self.size[1]}"


def pruned(setting: Setting) -> tuple[Pruned, Lesson]:
    """What fits with the lowest ratio, with batch norms, and what it learns from."""
    found = chosen(lambda step: _at_lowest_ratio(setting, step), lambda p: p.graph.parameters)
    if found is None:
        raise NothingFitsError("Not even the highest ratio keeps the limits at any resolution.")
    job = replace(setting.job, preprocessing=setting.job.preprocessing_at(found.size))
    normalized = stages.normalize(job, found.graph)
    lesson = replace(setting.lesson, objective=CrossEntropy(), teacher=None)
    return replace(found, graph=normalized), lesson


def _at_lowest_ratio(setting: Setting, step: int) -> Pruned | None:
    """By bisection under exact costs; None where the limits are never kept."""
    channels, size = setting.data.channels, setting.problem.size
    graphs: dict[int, Graph] = {}

    def at(k: int) -> Graph:
        if k not in graphs:
            module = prune(setting.reference, k / FRACTIONS, size, channels, step)
            graphs[k] = clean(load(module, input_shape=(channels, *size)))
        return graphs[k]

    def fitting(k: int) -> Size | None:
        return next((s for s in setting.resolutions() if not setting.over(resized(at(k), s))), None)

    k = lowest(lambda k: fitting(k) is not None, FRACTIONS)
    found = None if k is None else fitting(k)
    return None if k is None or found is None else Pruned(k / FRACTIONS, step, found, resized(at(k), found))


def lowest(fits: Callable[[int], bool], high: int) -> int | None:
    """The lowest 0 < k ≤ `high` that fits, by bisection for a `fits` that is true from somewhere; None for none."""
    if not fits(high):
        return None
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            high = middle
        else:
            low = middle
    return high


def prune(network: nn.Module, ratio: float, size: Size, channels: int, step: int) -> nn.Module:
    """A pruned copy of the module, without the fraction `ratio` of what can be removed at all.

    Widths are multiples of `step`; the last layer's outputs stay.
    """
    tp = _torch_pruning()

    class Strongest(tp.importance.MagnitudeImportance):  # type: ignore[name-defined, misc]
        """L2 magnitude; the strongest channels of each group are beyond reach."""

        def __init__(self) -> None:
            super().__init__(p=2)
            self.total = self.kept = 0

        def __call__(self, group: Any) -> Any:
            scores = super().__call__(group)
            if scores is not None:
                count = min(step, len(scores))
                self.total, self.kept = self.total + len(scores), self.kept + count
                scores = scores.clone()
                scores[scores.topk(count).indices] = torch.inf
            return scores

    def at(share: float) -> tuple[nn.Module, Strongest]:
        module, importance = copy.deepcopy(network).eval().requires_grad_(True), Strongest()
        last = [m for m in module.modules() if isinstance(m, nn.Linear)][-1]
        tp.pruner.MagnitudePruner(
            module,
            torch.zeros(1, channels, *size),
            importance=importance,
            global_pruning=True,
            pruning_ratio=share,
            round_to=step,
            ignored_layers=[last],
        ).step()
        return module, importance

    _, counted = at(1 / FRACTIONS)
    removable = counted.total - counted.kept - 0.5  # the half keeps rounding from reaching for one that is kept
    return at(ratio * removable / counted.total)[0]


def _torch_pruning() -> Any:
    try:
        import torch_pruning
    except ImportError as e:
        raise UsageError("The package 'torch-pruning' is not installed.", "Run: pip install 'thumbnet[bench]'.") from e
    return torch_pruning
