"""The last layer fitted in closed form: a ridge regression from its inputs to the reference's outputs."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from thumbnet.training.images import Images
from thumbnet.training.module import GraphModule

SCALES = tuple(2.0 ** (k / 2) for k in range(-6, 9))
RIDGE = 1e-2  # relative to the mean squared feature


@torch.no_grad()
def refit_head(module: GraphModule, data: Images, indices: torch.Tensor, teacher: torch.Tensor) -> bool:
    """Replaces weight and bias of a final dense layer by the least-squares fit to `teacher[indices]`.

    A freshly truncated network has no useful last layer, and a narrowed one a misfitting one; this gives both the best
    linear one in milliseconds. Returns False (and changes nothing) where the network does not end in a dense layer.
    """
    last = module.graph.by_name.get(module.graph.outputs[0])
    if last is None or last.op != "dense" or len(module.graph.outputs) > 1:
        return False
    module.eval()
    features = []
    for start in range(0, len(indices), 64):
        values = module.forward_values(*data.inputs(indices[start : start + 64]))
        features.append(values[last.inputs[0]].flatten(1))
    x = torch.cat(features).double()
    y = teacher[indices].double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    gram = x.T @ x
    ridge = RIDGE * gram.diagonal().mean() + 1e-9
    weight = torch.linalg.solve(gram + ridge * torch.eye(len(gram), dtype=torch.float64), x.T @ y).T
    module.set_weight(last.name, "weight", weight.float())
    module.set_weight(last.name, "bias", (mean_y - weight @ mean_x).float())
    return True


@torch.no_grad()
def rescale_head(module: GraphModule, data: Images, indices: torch.Tensor) -> None:
    """Multiplies a final dense layer so that its outputs, as logits, have the least cross entropy on these images.

    Least squares leaves the outputs of a network that knows little too small, and its loss would not tell how much it
    knows. For classification only.
    """
    last = module.graph.by_name[module.graph.outputs[0]]
    module.eval()
    outputs = torch.cat([module(*data.inputs(rows)) for rows in torch.split(indices, 64)])
    labels = data.labels[indices]
    losses = [float(F.cross_entropy(outputs * scale, labels)) for scale in SCALES]
    best = SCALES[min(range(len(SCALES)), key=losses.__getitem__)]
    for key in ("weight", "bias"):
        module.set_weight(last.name, key, module.weight(last.name, key) * best)
