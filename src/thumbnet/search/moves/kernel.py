"""Smaller kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from thumbnet.errors import ModelError
from thumbnet.graph.graph import Graph, Node
from thumbnet.graph.ops.common import padding, pair
from thumbnet.search.moves.layers import float32, layer_of, layers, replaced
from thumbnet.search.recipe import Context, Move

# Of neighbouring pixels of a feature map: 0.51 on average over the inputs of a ResNet-20's convolutions on CIFAR-10.
# Its 3×3 convolutions made 1×1 then miss 63 % of their outputs' variance, against 78 % with plain crops.
CORRELATION = 0.5


@dataclass(frozen=True)
class SetKernel(Move):
    """The window of a convolution becomes `kernel` wide and high where it was larger.

    Padding shrinks with it, so that the output keeps its shape at every resolution; stride and dilation stay. The kept
    weights are the least-squares fit to the layer for inputs whose pixels correlate as `CORRELATION` to the power of
    their distance, across times down. In such a row the best guess of a pixel outside is the nearest one inside times
    the correlation; so each weight that goes is added to the border of those that stay, times that. (A plain crop would
    be the fit for noise.) Where the weights that go are zero, the function stays exactly.
    """

    kind: ClassVar[str] = "kernel"
    node: str
    kernel: int

    @classmethod
    def options(cls, graph: Graph) -> tuple[SetKernel, ...]:
        """Every smaller odd size; from 3 up for depthwise convolutions, which would only scale at 1, and for those with
        a stride, which would not even look at most pixels."""
        found = []
        for name, node in layers(graph, "conv2d", "depthwise_conv2d"):
            largest = max(node.weights["weight"].shape[2:])
            strided = max(node.attrs.get("stride", (1, 1))) > 1
            least = 3 if node.op == "depthwise_conv2d" or strided else 1
            for kernel in range((largest - 2) | 1, least - 1, -2):
                if _cuts(node, kernel) is not None:
                    found.append(cls(name, kernel))
        return tuple(found)

    def apply(self, graph: Graph, context: Context) -> Graph:
        node = layer_of(graph, self.node)
        cuts = _cuts(node, self.kernel)
        if cuts is None:
            raise ModelError(
                f"The kernel of '{self.node}' cannot become {self.kernel} wide.",
                "It is no larger, or its padding does not reach as far as what would go.",
            )
        (top, bottom), (left, right) = cuts
        dilation = _dilation(node)
        weight = node.weights["weight"].astype(np.float64)
        weight = _folded(weight, 2, top, bottom, CORRELATION ** dilation[0])
        weight = _folded(weight, 3, left, right, CORRELATION ** dilation[1])
        less = (top * dilation[0], left * dilation[1], bottom * dilation[0], right * dilation[1])
        pads = [p - q for p, q in zip(padding(node), less, strict=True)]
        return replaced(graph, node, [node.with_attrs(padding=pads).with_weights(weight=float32(weight))])

    def __str__(self) -> str:
        return f"kernel of {self.node} {self.kernel} wide"


def _dilation(node: Node) -> tuple[int, int]:
    return pair(node, "dilation") if "dilation" in node.attrs else (1, 1)


def _cuts(node: Node, kernel: int) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Rows of weights to cut off (top, bottom) and columns (left, right); None where that is impossible or nothing."""
    if node.op not in ("conv2d", "depthwise_conv2d") or kernel < 1:
        return None
    pads, found = padding(node), []
    for axis, dilation in enumerate(_dilation(node)):
        gone = max(0, node.weights["weight"].shape[2 + axis] - kernel)
        # As much on both sides as the padding allows.
        before = min(gone // 2, pads[axis] // dilation)
        before = max(before, gone - pads[axis + 2] // dilation)
        if not 0 <= before <= gone or before * dilation > pads[axis]:
            return None
        found.append((before, gone - before))
    return (found[0], found[1]) if any(map(any, found)) else None


def _folded(
    weight: npt.NDArray[np.float64], axis: int, before: int, after: int, correlation: float
) -> npt.NDArray[np.float64]:
    """`weight` without its first and last entries along `axis`, which are added to the border of what stays."""
    w = np.moveaxis(weight, axis, -1)
    size = w.shape[-1]
    kept = w[..., before : size - after].copy()
    for k in range(before):
        kept[..., 0] += w[..., k] * correlation ** (before - k)
    for k in range(after):
        kept[..., -1] += w[..., size - after + k] * correlation ** (k + 1)
    return np.moveaxis(kept, -1, axis)
