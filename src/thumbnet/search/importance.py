"""How much the reference would miss each channel, and each block that can be left out.

First-order Taylor importance (Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, in its
activation form): removing a channel changes the loss by about Σ a · ∂L/∂a over its positions; squared, averaged over
images, and summed over all values that the channel group ties together. Leaving out a block turns its exit into its
entry, which to first order changes the loss by Σ (entry − exit) · ∂L/∂exit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from thumbnet.graph.blocks import Block
from thumbnet.graph.channels import ChannelGroup
from thumbnet.graph.graph import Graph
from thumbnet.training.images import Images
from thumbnet.training.module import GraphModule
from thumbnet.training.objective import Objective, loss_of


@dataclass(frozen=True)
class Importance:
    """`channels[group]`: one number per removable channel. `blocks[name]`: one number."""

    channels: dict[str, npt.NDArray[np.float64]]
    blocks: dict[str, float]


def importance(
    graph: Graph,
    groups: tuple[ChannelGroup, ...],
    blocks: tuple[Block, ...],
    data: Images,
    objective: Objective,
    indices: torch.Tensor,
    *,
    batch: int = 16,
    on_images: Callable[[int], None] = lambda count: None,
) -> Importance:
    """Scores of each channel of the groups that are not pinned, and of each block, from the images at `indices`."""
    module = GraphModule(graph).eval()
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    groups = tuple(g for g in groups if not g.pinned)
    taps = {v for g in groups for v in g.values} | {b.exit for b in blocks}
    channels = {g.id: np.zeros(g.size) for g in groups}
    whole = {b.name: 0.0 for b in blocks}
    for start in range(0, len(indices), batch):
        chosen = indices[start : start + batch]
        seen = data.seen(chosen)
        values = module.forward_values(*seen.inputs, retain_grad=taps)
        outputs = tuple(values[v] for v in graph.outputs)
        loss_of(objective, outputs, seen, chosen).backward()  # type: ignore[no-untyped-call]
        for group in groups:
            _add_scores(channels[group.id], group, values)
        for block in blocks:
            exit_ = values[block.exit]
            assert exit_.grad is not None
            change = ((values[block.entry].detach() - exit_.detach()) * exit_.grad).flatten(1).sum(1)
            whole[block.name] += float(change.double().square().sum())
        on_images(len(chosen))
    return Importance(
        {g: s / len(indices) for g, s in channels.items()}, {b: s / len(indices) for b, s in whole.items()}
    )


def _add_scores(score: npt.NDArray[np.float64], group: ChannelGroup, values: dict[str, torch.Tensor]) -> None:
    for value, classes in group.values.items():
        tensor = values.get(value)
        if tensor is None or tensor.grad is None:
            continue
        taylor = (tensor.detach() * tensor.grad).flatten(2).sum(2) if tensor.ndim > 2 else tensor.detach() * tensor.grad
        per_channel = taylor.double().square().sum(0).numpy()
        member = classes >= 0  # channels of this value that belong to the group
        np.add.at(score, classes[member], per_channel[member])
