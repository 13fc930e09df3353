"""The smallest networks that hold each operation of the float graph, for the exits to prove themselves on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from thumbnet.graph.graph import Graph, Input, Node, Shape
from thumbnet.graph.ops.activation import ELEMENTWISE


@dataclass(frozen=True, eq=False)
class Case:
    """A node: the shapes it reads, its settings, the shapes of its weights. `what` tells it from others of its kind."""

    op: str
    inputs: Sequence[Shape]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Shape] = field(default_factory=dict)
    what: str = ""

    def graph(self) -> Graph:
        """The node alone. Weights are the same every time."""
        rng = np.random.default_rng(0)
        weights = {k: rng.uniform(0.1, 1, s).astype(np.float32) for k, s in self.weights.items()}
        inputs = tuple(Input(f"x{k}", s) for k, s in enumerate(self.inputs))
        node = Node("y", self.op, tuple(i.name for i in inputs), self.attrs, weights)
        graph = Graph(self.op, inputs, (node,), ("y",))
        graph.validate()
        return graph


_IMAGE: Shape = (8, 6, 6)
_SAME = {"stride": [1, 1], "padding": [1, 1, 1, 1]}
_CONV = {**_SAME, "dilation": [1, 1], "groups": 1}
_HALF = {"kernel": [2, 2], "stride": [2, 2], "padding": [0, 0, 0, 0]}


def _conv(op: str, inputs: int, what: str, **attrs: Any) -> Case:
    return Case(op, [_IMAGE], {**_CONV, **attrs}, {"weight": (8, inputs, 3, 3), "bias": (8,)}, what)


def _reductions(op: str) -> tuple[Case, ...]:
    return (
        Case(op, [_IMAGE], {"axes": [1, 2], "keepdims": False}, {}, "over height and width"),
        Case(op, [_IMAGE], {"axes": [0], "keepdims": True}, {}, "over channels"),
    )


def _pairs(op: str) -> tuple[Case, ...]:
    return (
        Case(op, [_IMAGE, _IMAGE], {}, {}, "of equal shapes"),
        Case(op, [_IMAGE, (8, 1, 1)], {}, {}, "one of which repeats"),
    )


CASES: tuple[Case, ...] = (
    _conv("conv2d", 8, "plain"),
    _conv("conv2d", 4, "grouped", groups=2),
    _conv("conv2d", 8, "dilated", dilation=[2, 2], padding=[2, 2, 2, 2]),
    Case("depthwise_conv2d", [_IMAGE], {**_SAME, "dilation": [1, 1]}, {"weight": (8, 1, 3, 3), "bias": (8,)}),
    Case(
        "conv_transpose2d",
        [_IMAGE],
        {"stride": [2, 2], "padding": [0, 0, 0, 0]},
        {"weight": (8, 8, 2, 2), "bias": (8,)},
    ),
    Case("dense", [(8,)], {}, {"weight": (4, 8), "bias": (4,)}),
    *(
        Case("batch_norm", [shape], {"eps": 1e-3}, dict.fromkeys(("weight", "bias", "mean", "var"), (8,)), what)
        for shape, what in ((_IMAGE, "image"), ((8,), "vector"))
    ),
    *(case for op in ("add", "sub", "mul", "maximum", "minimum") for case in _pairs(op)),
    Case("concat", [_IMAGE, _IMAGE], {"axis": 0}),
    Case("slice", [_IMAGE], {"axis": 0, "start": 0, "stop": 4}),
    Case("max_pool2d", [_IMAGE], _HALF),
    Case("avg_pool2d", [_IMAGE], _HALF),
    Case("global_avg_pool", [_IMAGE], {"keepdims": False}),
    *(case for op in ("mean", "sum", "reduce_max", "reduce_min") for case in _reductions(op)),
    *(Case(op.name, [_IMAGE]) for op in ELEMENTWISE),
    Case("leaky_relu", [_IMAGE], {"alpha": 0.1}),
    Case("clip", [_IMAGE], {"low": -1.0, "high": 1.0}),
    Case("prelu", [_IMAGE], {}, {"slope": (8,)}),
    Case("softmax", [(8,)]),
    Case("log_softmax", [(8,)]),
    Case("pad", [_IMAGE], {"padding": [1, 1, 1, 1]}, {}, "with zeros"),
    Case("pad", [_IMAGE], {"padding": [1, 1, 1, 1], "mode": "reflect"}, {}, "with reflections"),
    Case("flatten", [_IMAGE]),
    Case("reshape", [_IMAGE], {"shape": [4, 12, 6]}),
    Case("transpose", [_IMAGE], {"perm": [0, 2, 1]}),
    Case("resize", [_IMAGE], {"size": [12, 12]}, {}, "nearest"),
    Case("resize", [_IMAGE], {"size": [12, 12], "mode": "bilinear", "half_pixel_centers": True}, {}, "bilinear"),
)
