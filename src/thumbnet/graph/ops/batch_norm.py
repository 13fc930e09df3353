"""batch_norm: per channel, weight · (x − mean) / √(var + eps) + bias."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from thumbnet.graph.graph import Node, Shape
from thumbnet.graph.ops.base import ChannelIds, Linker, Op
from thumbnet.graph.ops.common import misfit


class BatchNorm(Op):
    """weights weight, bias, mean, var, all [C]; attr eps. The inference form; training has its own."""

    name = "batch_norm"

    def infer_shape(self, node: Node, inputs: Sequence[Shape]) -> Shape:
        for key in ("weight", "bias", "mean", "var"):
            if node.weights[key].shape != inputs[0][:1]:
                raise misfit(node, f"'{key}' of shape {node.weights[key].shape} does not fit an input {inputs[0]}")
        return inputs[0]

    def forward(self, node: Node, weights: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        w = weights
        return F.batch_norm(
            inputs[0],
            w["mean"],
            w["var"],
            w["weight"],
            w["bias"],
            training=False,
            eps=float(node.attrs["eps"]),
        )

    def link(self, node: Node, inputs: Sequence[ChannelIds], output: Shape, linker: Linker) -> ChannelIds:
        return inputs[0]

    def slice(self, node: Node, inputs: Sequence[npt.NDArray[np.intp]], output: npt.NDArray[np.intp]) -> Node:
        return node.with_weights(**{k: w[output] for k, w in node.weights.items()})


def scale_and_offset(node: Node) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The batch norm as y = scale · x + offset, per channel, in float64."""
    w = {k: v.astype(np.float64) for k, v in node.weights.items()}
    scale = w["weight"] / np.sqrt(w["var"] + float(node.attrs["eps"]))
    return scale, w["bias"] - w["mean"] * scale
