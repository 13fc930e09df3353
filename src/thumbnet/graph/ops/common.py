"""What several operations share: fused activations, window arithmetic, the error for misfits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from thumbnet.errors import ModelError
from thumbnet.graph.graph import Node, Shape

FUSED_ACTIVATIONS = ("none", "relu", "relu6")


def misfit(node: Node, why: str) -> ModelError:
    """The error for a node whose inputs, attributes and weights do not go together."""
    return ModelError(f"Node '{node.name}' ({node.op}): {why}.")


def image(node: Node, shape: Shape) -> tuple[int, int, int]:
    """`shape` as (channels, height, width); raises `ModelError` where it is not an image."""
    if len(shape) != 3:
        raise misfit(node, f"needs an input (channels, height, width), not {shape}")
    return shape[0], shape[1], shape[2]


def pair(node: Node, key: str) -> tuple[int, int]:
    """The attribute `key` as (height, width)."""
    h, w = node.attrs[key]
    return int(h), int(w)


def padding(node: Node) -> tuple[int, int, int, int]:
    """The attribute `padding` as (top, left, bottom, right)."""
    top, left, bottom, right = node.attrs.get("padding", (0, 0, 0, 0))
    if min(top, left, bottom, right) < 0:
        raise misfit(node, f"has a negative padding {(top, left, bottom, right)}")
    return int(top), int(left), int(bottom), int(right)


def window_output(node: Node, size: tuple[int, int], kernel: tuple[int, int]) -> tuple[int, int]:
    """(height, width) that a strided, dilated, padded window leaves of `size`, rounded down."""
    top, left, bottom, right = padding(node)
    stride = pair(node, "stride")
    dilation = node.attrs.get("dilation", (1, 1))
    padded = (size[0] + top + bottom, size[1] + left + right)
    out = []
    for k in (0, 1):
        reach = dilation[k] * (kernel[k] - 1) + 1
        if padded[k] < reach:
            raise misfit(node, f"its window of {kernel[0]}×{kernel[1]} is larger than the padded input {padded}")
        out.append((padded[k] - reach) // stride[k] + 1)
    return out[0], out[1]


def fused_activation(node: Node) -> str:
    """Name of the activation fused into the node; raises `ModelError` for one that cannot be fused."""
    activation = str(node.attrs.get("activation", "none"))
    if activation not in FUSED_ACTIVATIONS:
        raise misfit(node, f"cannot hold the activation '{activation}', only {', '.join(FUSED_ACTIVATIONS)}")
    return activation


def without_channels(node: Node, inputs: npt.NDArray[np.intp], outputs: npt.NDArray[np.intp]) -> Node:
    """The node with weight [O, I, …] and bias [O] of the kept channels only, where every output reads every input."""
    kept = {k: w[outputs] for k, w in node.weights.items()}
    kept["weight"] = np.ascontiguousarray(kept["weight"][:, inputs])
    return node.with_weights(**kept)


def activate(node: Node, x: torch.Tensor) -> torch.Tensor:
    """Applies the fused activation in place: `x` must be a fresh tensor that no gradient needs."""
    activation = node.attrs.get("activation", "none")
    if activation == "relu":
        return F.relu_(x)
    if activation == "relu6":
        return F.hardtanh_(x, 0.0, 6.0)
    return x


def split_padding(
    x: torch.Tensor, pads: tuple[int, int, int, int], value: float = 0.0, limit: Sequence[int] | None = None
) -> tuple[torch.Tensor, tuple[int, int]]:
    """`x` and what torch's symmetric `padding` argument is to add; what that cannot express is padded here.

    `limit` is the most the symmetric argument may hold per axis (torch's pools accept half their window).
    """
    top, left, bottom, right = pads
    fits = limit is None or (top <= limit[0] and left <= limit[1])
    if top == bottom and left == right and fits:
        return x, (top, left)
    return F.pad(x, (left, right, top, bottom), value=value), (0, 0)
