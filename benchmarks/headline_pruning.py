"""Global magnitude pruning as users of torch-pruning (1.6) do it, to the limits of a cell.

The module is pruned at one global ratio, found by bisection under exact costs, and fine-tuned on labels alone. Two
favours: every layer keeps its 4 strongest channels (torch-pruning leaves a layer whole where all its channels would
fall, which then is the largest of the network), and batch norms are measured anew before training.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from headline_setting import CHANNELS, FRACTIONS, NothingFitsError, Setting, Size, nearest_miss, resized
from torch import nn

from thumbnet import stages
from thumbnet.errors import UsageError
from thumbnet.graph.graph import Graph
from thumbnet.graph.passes import clean
from thumbnet.importers import load
from thumbnet.search.halving import Lesson
from thumbnet.training.distill import CrossEntropy


def pruned(setting: Setting) -> tuple[float, Graph, Lesson]:
    """The ratio, the pruned network with batch norms, and what it learns from.

    The lowest ratio that keeps the limits at any resolution; of resolutions, the largest that allows it.
    """
    graphs: dict[int, Graph] = {}

    def at(step: int) -> Graph:
        if step not in graphs:
            module = prune(setting.reference, step / FRACTIONS, setting.problem.size, setting.data.channels)
            graphs[step] = clean(load(module, input_shape=(setting.data.channels, *setting.problem.size)))
        return graphs[step]

    def fitting(step: int) -> Size | None:
        sizes = setting.resolutions()
        return next((s for s in sizes if not setting.over(resized(at(step), s))), None)

    step = lowest(lambda k: fitting(k) is not None, FRACTIONS - 1)
    if step is None:
        smallest = resized(at(FRACTIONS - 1), setting.resolutions()[-1])
        raise NothingFitsError(f"At the highest ratio it needs {nearest_miss(setting.over(smallest))}.")
    size = fitting(step)
    assert size is not None
    job = replace(setting.job, preprocessing=setting.job.preprocessing_at(size))
    graph = stages.normalize(job, resized(at(step), size))
    return step / FRACTIONS, graph, replace(setting.lesson, objective=CrossEntropy(), teacher=None)


def lowest(fits: Any, high: int) -> int | None:
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


def prune(network: nn.Module, ratio: float, size: Size, channels: int) -> nn.Module:
    """A pruned copy of the module, without the fraction `ratio` of what can be removed at all."""
    tp = _torch_pruning()

    class Strongest(tp.importance.MagnitudeImportance):  # type: ignore[name-defined, misc]
        """L2 magnitude; the strongest channels of each group are beyond reach."""

        def __init__(self) -> None:
            super().__init__(p=2)
            self.total = self.kept = 0

        def __call__(self, group: Any) -> Any:
            scores = super().__call__(group)
            if scores is not None:
                count = min(CHANNELS, len(scores))
                self.total, self.kept = self.total + len(scores), self.kept + count
                scores = scores.clone()
                scores[scores.topk(count).indices] = torch.inf
            return scores

    def step(share: float) -> tuple[nn.Module, Strongest]:
        module, importance = copy.deepcopy(network).eval().requires_grad_(True), Strongest()
        last = [m for m in module.modules() if isinstance(m, nn.Linear)][-1]
        tp.pruner.MagnitudePruner(
            module,
            torch.zeros(1, channels, *size),
            importance=importance,
            global_pruning=True,
            pruning_ratio=share,
            round_to=CHANNELS,
            ignored_layers=[last],
        ).step()
        return module, importance

    _, counted = step(1 / FRACTIONS)
    return step(ratio * (1 - counted.kept / counted.total))[0]


def _torch_pruning() -> Any:
    try:
        import torch_pruning
    except ImportError as e:
        raise UsageError("The package 'torch-pruning' is not installed.", "Run: pip install 'thumbnet[bench]'.") from e
    return torch_pruning
