"""What is left out at the end of a network, and what the task makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from thumbnet.data import Batch, Task
from thumbnet.data.arrays import from_arrays
from thumbnet.data.tasks import task_of
from thumbnet.data.tasks.custom import Owned
from thumbnet.errors import ModelError
from thumbnet.graph.evaluate import evaluate_graph
from thumbnet.graph.graph import Graph
from thumbnet.importers.torch import import_torch
from thumbnet.interface import check_fit, without_ends


def loss(outputs: Any, targets: Any) -> torch.Tensor:
    return outputs[1].sum() if isinstance(outputs, tuple) else outputs.sum()


def metric(outputs: Any, targets: Any) -> float:
    return float(loss(outputs, targets))


def data_for(task: str, y: np.ndarray[Any, Any]) -> Any:
    x = np.random.default_rng(0).integers(0, 256, (len(y), 6, 6, 1)).astype(np.uint8)
    arrays = {f"{k}_{s}": v for s in ("train", "val", "test") for k, v in (("x", x), ("y", y))}
    return from_arrays(arrays, name="some", task=task)


def ending(*layers: nn.Module, channels: int = 3) -> Graph:
    torch.manual_seed(0)
    return import_torch(nn.Sequential(nn.Conv2d(1, channels, 3, padding=1), *layers), (1, 6, 6))


MASKS = np.arange(8 * 36).reshape(8, 6, 6).astype(np.uint8) % 3


@pytest.mark.parametrize(
    ("layers", "channels", "masks", "told"),
    [
        ((nn.Softmax(1),), 3, MASKS, "softmax"),
        ((nn.LogSoftmax(1),), 3, MASKS, "log-softmax"),
        ((nn.Sigmoid(),), 1, MASKS % 2, "sigmoid"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_answers_of_a_segmenting_network_stay(
    layers: tuple[nn.Module, ...], channels: int, masks: np.ndarray[Any, Any], told: str
) -> None:
    graph, data = ending(*layers, channels=channels), data_for("segmentation", masks)
    task, bare, note = without_ends(task_of(data), graph)
    assert note.startswith(f"The {told} at the end is left out")
    check_fit(task, data, bare)
    x = np.random.default_rng(0).normal(size=(4, 1, 6, 6)).astype(np.float32)
    probabilities, logits = (torch.from_numpy(evaluate_graph(g, x)) for g in (graph, bare))
    chosen = probabilities[:, 0] > 0.5 if channels == 1 else probabilities.argmax(1)
    np.testing.assert_array_equal(answers(task, logits), chosen.numpy())


def answers(task: Task, *outputs: torch.Tensor) -> Any:
    return task.answers(Batch(outputs, ()))


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.where, self.what = nn.Conv2d(1, 4, 1), nn.Linear(36, 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.where(x), self.what(x.flatten(1)).softmax(-1)


def test_functions_of_the_user_s_own_get_what_the_model_gave() -> None:
    torch.manual_seed(0)
    heads = Heads().eval()
    graph, data = import_torch(heads, (1, 6, 6)), data_for("custom", np.zeros((8, 1), np.float32))
    task, bare, note = without_ends(task_of(data, loss, metric), graph)
    assert "your own functions get them with it" in note
    assert [graph.shapes[v] for v in bare.outputs] == [(4, 6, 6), (5,)]
    assert isinstance(task, Owned)
    logits = torch.randn(4, 4, 6, 6), torch.randn(4, 5)
    targets = (torch.zeros(4, 1),)
    assert float(task.loss(Batch(logits, targets))) == pytest.approx(4.0)  # probabilities of four samples
    given = tuple(v.numpy() for v in logits)
    assert float(task.scorer(targets[0].numpy(), given)(np.ones((1, 4), np.int64))[0]) == pytest.approx(4.0)
    assert task.identity != task_of(data, loss, metric).identity  # another run than of a model without a softmax


def test_what_changes_the_metric_is_refused() -> None:
    layers = nn.Flatten(), nn.Linear(108, 3), nn.Softmax(1)
    for name, y in (("multi-label", np.eye(3)[np.arange(8) % 3].astype(int)), ("regression", np.random.rand(8, 3))):
        graph, data = ending(*layers), data_for(name, y)
        task, same, note = without_ends(task_of(data), graph)
        assert (same, note) == (graph, "")
        with pytest.raises(ModelError, match="ends in a softmax"):
            check_fit(task, data, graph)


def test_a_classifier_keeps_its_softmax_for_the_clean_up() -> None:
    graph = ending(nn.Flatten(), nn.Linear(108, 3), nn.Softmax(1))
    data = data_for("classification", np.arange(8) % 3)
    assert without_ends(task_of(data), graph)[1:] == (graph, "")
