"""Graphs drawn at random, for properties that must hold for any network."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from thumbnet.graph.graph import Graph, Input, Node, Shape
from thumbnet.graph.ops import op_of

STEPS = (
    *("conv", "conv", "pointwise", "depthwise", "batch_norm", "relu", "relu6", "pad", "max_pool", "avg_pool", "resize"),
    *("add", "concat", "scale", "slice", "subsample", "leaky_relu", "hard_swish", "grouped", "identity"),
    *("transposed", "elu", "clip", "prelu", "bilinear", "maximum", "gate", "shuffle"),
)


class Sketch:
    """A graph under construction: the current value, and earlier ones to join with."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Node] = []
        self.shapes: dict[str, Shape] = {"x": (4, 9, 8)}
        self.value = "x"

    def add(self, op: str, inputs: tuple[str, ...], attrs: dict[str, Any] | None = None, **weights: Any) -> str:
        node = Node(f"{op}{len(self.nodes)}", op, inputs, attrs or {}, weights)
        self.shapes[node.name] = op_of(node).infer_shape(node, [self.shapes[v] for v in inputs])
        self.nodes.append(node)
        self.value = node.name
        return node.name

    def weight(self, *shape: int) -> Any:
        """Some output rows are zero, so that there are dead channels."""
        w = (self.rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        w[self.rng.random(shape[0]) < 0.2] = 0.0
        return w

    def bias(self, size: int) -> dict[str, Any]:
        if self.rng.random() < 0.3:
            return {}
        bias = self.rng.normal(size=size).astype(np.float32)
        bias[self.rng.random(size) < 0.3] = 0.0
        return {"bias": bias}

    def step(self, kind: str) -> None:
        x, rng = self.value, self.rng
        channels, height, width = self.shapes[x]
        getattr(self, f"_{kind}", self._plain)(kind, x, channels, height, width, rng)

    # --- steps

    def _conv(self, kind: str, x: str, c: int, h: int, w: int, rng: Any, k: int = 3, groups: int = 1) -> None:
        k = min(k, h, w)
        outputs = groups * int(rng.integers(1, 4)) if groups > 1 else int(rng.integers(2, 7))
        padding = [int(p) for p in rng.integers(0, k, 4)] if rng.random() < 0.6 else [0, 0, 0, 0]
        attrs = self._attrs(padding)
        self.add(
            "conv2d",
            (x,),
            {**attrs, "groups": groups},
            weight=self.weight(outputs, c // groups, k, k),
            **self.bias(outputs),
        )

    def _pointwise(self, kind: str, x: str, c: int, h: int, w: int, rng: Any) -> None:
        self._conv(kind, x, c, h, w, rng, 1)

    def _grouped(self, kind: str, x: str, c: int, h: int, w: int, rng: Any) -> None:
        self._conv(kind, x, c, h, w, rng, 3, 2 if c % 2 == 0 and c > 2 else 1)

    def _depthwise(self, kind: str, x: str, c: int, h: int, w: int, rng: Any) -> None:
        k, outputs = min(3, h, w), c * int(rng.integers(1, 3)) if c < 8 else c
        weight = self.weight(outputs, 1, k, k)
        self.add("depthwise_conv2d", (x,), self._attrs([k // 2] * 4), weight=weight, **self.bias(outputs))

    def _attrs(self, padding: list[int]) -> dict[str, Any]:
        stride = [int(s) for s in self.rng.integers(1, 3, 2)]
        activation = str(self.rng.choice(["none", "none", "relu", "relu6"]))
        return {"stride": stride, "padding": padding, "dilation": [1, 1], "activation": activation}

    def _batch_norm(self, kind: str, x: str, c: int, h: int, w: int, rng: Any) -> None:
        scale = rng.normal(size=c).astype(np.float32)
        scale[rng.random(c) < 0.15] = 0.0
        bias, mean = rng.normal(size=(2, c)).astype(np.float32)
        bias[rng.random(c) < 0.3] = 0.0
        var = rng.uniform(0.5, 2, c).astype(np.float32)
        self.add("batch_norm", (x,), {"eps": 1e-3}, weight=scale, bias=bias, mean=mean, var=var)

    def _plain(self, kind: str, x: str, c: int, h: int, w: int, rng: Any) -> None:
        self.add(kind, (x,), {"alpha": 0.1} if kind == "leaky_relu" else {})

    def _pad(self, kind: str, x: str, c: int, h: int, w: int, rng: Any) -> None:
        self.add("pad", (x,), {"padding": [int(p) for p in rng.integers(0, 2, 4)]})

    def _pool(self, op: str, x: str, h: int, w: int, rng: Any) -> None:
        kernel = [min(3, h), min(2, w)]
        padding = [int(rng.integers(0, k)) for k in kernel] * 2 if rng.random() < 0.4 else [0] * 4
        attrs = {"kernel": kernel, "stride": [int(s) for s in rng.integers(1, 3, 2)], "padding": padding}
        self.add(op, (x,), {**attrs, "count_include_pad": bool(rng.random() < 0.5)} if op == "avg_pool2d" else attrs)

    def _max_pool(self, kind: str, x: str, c: int, h: int, w: int, rng: Any) -> None:
        self._pool("max_pool2d", x, h, w, rng)

    def _avg_pool(self, kind: str, x: str, c: int, h: int, w: int, rng: Any) -> None:
        self._pool("avg_pool2d", x, h, w, rng)

    def _subsample(self, kind: str, x: str, c: int, h: int, w: int, rng: Any) -> None:
        stride = [int(s) for s in rng.integers(1, 3, 2)]
        self.add("max_pool2d", (x,), {"kernel": [1, 1], "stride": stride, "padding": [0] * 4})

    def _resize(self, kind: str, x: str, c: int, h: int, w: int, rng: Any) -> None:
        self.add("resize", (x,), {"size": [min(12, h * 2), w]})

    def _slice(self, kind: str, x: str, c: int, h: int, w: int, rng: Any) -> None:
        start = int(rng.integers(0, c))
        self.add("slice", (x,), {"axis": 0, "start": start, "stop": int(rng.integers(start + 1, c + 1))})

    def _add(self, kind: str, x: str, c: int, h: int, w: int, rng: Any) -> None:
        same = [v for v, s in self.shapes.items() if s == (c, h, w)]
        self.add("add", (x, str(rng.choice(same))), {"activation": str(rng.choice(["none", "relu"]))})

    def _concat(self, kind: str, x: str, c: int, h: int, w: int, rng: Any) -> None:
        near = [v for v, s in self.shapes.items() if s[1:] == (h, w) and s[0] + c <= 16]
        self.add("concat", (x, str(rng.choice(near))) if near else (x,), {"axis": 0})

    def _scale(self, kind: str, x: str, c: int, h: int, w: int, rng: Any) -> None:
        pooled = self.add("global_avg_pool", (x,), {"keepdims": True})
        self.add(
            "conv2d", (pooled,), self._attrs([0] * 4) | {"groups": 1}, weight=self.weight(c, c, 1, 1), **self.bias(c)
        )
        self.add("mul", (x, self.add("sigmoid", (self.value,))))

    def _transposed(self, kind: str, x: str, c: int, h: int, w: int, rng: Any) -> None:
        if h * w > 48:
            return self._plain("relu", x, c, h, w, rng)
        attrs = {"stride": [2, 1], "padding": [int(p) for p in rng.integers(0, 2, 4)], "activation": "none"}
        self.add("conv_transpose2d", (x,), attrs, weight=self.weight(3, c, 3, 3), **self.bias(3))
        return None

    def _clip(self, kind: str, x: str, c: int, h: int, w: int, rng: Any) -> None:
        self.add("clip", (x,), {"low": -0.75, "high": 1.5})

    def _prelu(self, kind: str, x: str, c: int, h: int, w: int, rng: Any) -> None:
        self.add("prelu", (x,), {}, slope=rng.uniform(-0.5, 0.5, c).astype(np.float32))

    def _bilinear(self, kind: str, x: str, c: int, h: int, w: int, rng: Any) -> None:
        option = str(rng.choice(["align_corners", "half_pixel_centers", "neither"]))
        self.add(
            "resize",
            (x,),
            {"size": [min(12, h + 3), w], "mode": "bilinear", option: True}
            if option != "neither"
            else {"size": [min(12, h + 3), w], "mode": "bilinear"},
        )

    def _maximum(self, kind: str, x: str, c: int, h: int, w: int, rng: Any) -> None:
        same = [v for v, s in self.shapes.items() if s == (c, h, w)]
        self.add(str(rng.choice(["maximum", "minimum"])), (x, str(rng.choice(same))))

    def _gate(self, kind: str, x: str, c: int, h: int, w: int, rng: Any) -> None:
        op = str(rng.choice(["mean", "reduce_max"]))
        self.add("mul", (x, self.add(op, (x,), {"axes": [0], "keepdims": True})))

    def _shuffle(self, kind: str, x: str, c: int, h: int, w: int, rng: Any) -> None:
        groups = 2 if c % 2 == 0 else 1
        split = self.add("reshape", (x,), {"shape": [groups, c // groups, h, w]})
        self.add("reshape", (self.add("transpose", (split,), {"perm": [1, 0, 2, 3]}),), {"shape": [c, h, w]})

    def _identity(self, kind: str, x: str, c: int, h: int, w: int, rng: Any) -> None:
        self.add("pad", (x,), {"padding": [0, 0, 0, 0]})

    def finish(self, head: str) -> Graph:
        x = self.value
        if head == "flatten":
            self.add("flatten", (x,))
        elif head == "pool":
            self.add("flatten", (self.add("global_avg_pool", (x,), {"keepdims": True}),))
        else:
            self.add("global_avg_pool", (x,), {"keepdims": False})
        self.add("dense", (self.value,), weight=self.weight(3, self.shapes[self.value][0]), **self.bias(3))
        graph = Graph("random", (Input("x", self.shapes["x"]),), tuple(self.nodes), (self.value,))
        graph.validate()
        return graph


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    sketch = Sketch(draw(st.integers(0, 2**32 - 1)))
    for kind in draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=10)):
        sketch.step(kind)
    return sketch.finish(draw(st.sampled_from(["flatten", "pool", "vector"])))
