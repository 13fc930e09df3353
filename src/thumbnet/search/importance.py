"""How much the reference would miss each channel.

First-order Taylor importance (Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, in its
activation form): removing a channel changes the loss by about Σ a · ∂L/∂a over its positions; squared, averaged over
images, and summed over all values that the channel group ties together.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from thumbnet.graph.channels import ChannelGroup
from thumbnet.graph.graph import Graph
from thumbnet.training.loop import Images, Objective
from thumbnet.training.module import GraphModule


def channel_importance(
    graph: Graph,
    groups: tuple[ChannelGroup, ...],
    data: Images,
    objective: Objective,
    indices: torch.Tensor,
    *,
    batch: int = 32,
) -> dict[str, npt.NDArray[np.float64]]:
    """One number per removable channel of each group that is not pinned, from the images at `indices`."""
    module = GraphModule(graph).eval()
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    taps = {v for g in groups if not g.pinned for v in g.values}
    scores = {g.id: np.zeros(g.size) for g in groups if not g.pinned}
    for start in range(0, len(indices), batch):
        chosen = indices[start : start + batch]
        values = module.forward_values(data.normalized(chosen), retain_grad=taps)
        objective(values[graph.outputs[0]], data.labels[chosen], chosen).backward()  # type: ignore[no-untyped-call]
        for group in groups:
            if not group.pinned:
                _add_scores(scores[group.id], group, values)
    return {g: s / len(indices) for g, s in scores.items()}


def _add_scores(score: npt.NDArray[np.float64], group: ChannelGroup, values: dict[str, torch.Tensor]) -> None:
    for value, classes in group.values.items():
        tensor = values.get(value)
        if tensor is None or tensor.grad is None:
            continue
        taylor = (tensor.detach() * tensor.grad).flatten(2).sum(2) if tensor.ndim > 2 else tensor.detach() * tensor.grad
        per_channel = taylor.double().square().sum(0).numpy()
        member = classes >= 0  # channels of this value that belong to the group
        np.add.at(score, classes[member], per_channel[member])
