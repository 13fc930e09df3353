"""Integer graphs drawn at random, full of what lossless passes look for: dead channels, identities, chains, repeats."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from integer_cases import Draw

from thumbnet.integer import build
from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor

STEPS = (
    *("conv", "conv", "conv", "pointwise", "pointwise", "depthwise", "depthwise", "grouped", "relu", "relu6", "scaled"),
    *("pad", "no_pad", "max_pool", "avg_pool", "one_pixel", "resize", "lut", "lut", "add", "add", "gate", "concat"),
    *("slice", "slice_rows", "there_and_back", "repeat", "unused", "same", "padded", "padded"),
    *("constant", "constant", "row", "bilinear", "up", "framed", "turn"),
)


class Sketch:
    """A graph under construction: the current tensor, and earlier ones to join with."""

    def __init__(self, seed: int) -> None:
        self.d = Draw(seed)
        x = self.d.tensor("x", (self.d.integer(3, 6), self.d.integer(3, 6), self.d.integer(1, 5)), 0.05)
        self.tensors = {"x": x}
        self.nodes: list[IntegerNode] = []
        self.value = x

    def add(self, node: IntegerNode, out: QTensor) -> QTensor:
        self.nodes.append(node)
        self.tensors[out.name] = self.value = out
        return out

    def name(self, kind: str) -> str:
        return f"{kind}{len(self.nodes)}"

    def like(self, kind: str, shape: tuple[int, ...], x: QTensor | None = None) -> QTensor:
        """A tensor with the quantization of `x`."""
        x = self.value if x is None else x
        return QTensor(self.name(kind), shape, x.scale, x.zero_point)

    def weights(self, outputs: int, per_group: int, *kernel: int) -> tuple[Any, Any]:
        """[O, kh, kw, I] with rows, columns and taps of zeros, and biases of which some saturate the output."""
        rng = self.d.rng
        w = rng.normal(0, 1, (outputs, *kernel, per_group)).astype(np.float32)
        w[rng.random(outputs) < 0.25] = 0
        w[..., rng.random(per_group) < 0.25] = 0
        if rng.random() < 0.2 and kernel == (3, 3):
            w[:, [0, 2]] = 0  # only the middle row is left
        bias = rng.normal(0, 20, outputs).astype(np.float32)
        loud = rng.random(outputs)
        bias[loud < 0.15] = -1e4
        bias[loud > 0.9] = 1e4
        return w, bias

    def weighted_output(self, kind: str, x: QTensor, terms: int, shape: tuple[int, ...]) -> QTensor:
        zero_point = int(self.d.choice(-128, -128, self.d.integer(-128, 127)))
        return self.d.tensor(self.name(kind), shape, x.scale * 70 * np.sqrt(terms) / 127, zero_point)

    def step(self, kind: str) -> None:
        getattr(self, f"_{kind}")(kind, self.value)

    # --- steps

    def _convolve(self, kind: str, x: QTensor, k: int, groups: int = 1, repeat: int = 0) -> None:
        height, width, channels = x.shape
        k = min(k, height, width)
        padding = self.d.choice([0] * 4, [k // 2] * 4, [self.d.integer(0, k - 1) for _ in range(4)])
        stride = [self.d.integer(1, 2), self.d.integer(1, 2)]
        size = [(x.shape[i] + padding[i] + padding[i + 2] - k) // stride[i] + 1 for i in (0, 1)]
        outputs = channels * repeat if repeat else groups * self.d.integer(1, 8 // groups)
        w, bias = self.weights(outputs, 1 if repeat else channels // groups, k, k)
        y = self.weighted_output(kind, x, w[0].size, (*size, outputs))
        kw: dict[str, Any] = {
            "stride": stride,
            "padding": padding,
            "activation": self.d.choice("none", "relu", "relu6"),
            "weight_bits": self.d.choice(8, 8, 4),
        }
        bias = bias * np.float32(x.scale)
        if repeat:
            self.add(build.depthwise_conv2d(y.name, x, y, np.moveaxis(w[..., 0], 0, -1), bias, **kw), y)
        else:
            self.add(build.conv2d(y.name, x, y, w, bias, **kw, groups=groups), y)

    def _conv(self, kind: str, x: QTensor) -> None:
        self._convolve(kind, x, 3)

    def _pointwise(self, kind: str, x: QTensor) -> None:
        self._convolve(kind, x, 1)

    def _grouped(self, kind: str, x: QTensor) -> None:
        self._convolve(kind, x, 3, groups=2 if x.shape[2] % 2 == 0 else 1)

    def _depthwise(self, kind: str, x: QTensor) -> None:
        self._convolve(kind, x, 3, repeat=self.d.choice(1, 1, 2) if x.shape[2] < 8 else 1)

    def _relu(self, kind: str, x: QTensor) -> None:
        y = self.like(kind, x.shape)
        self.add(build.relu(y.name, x, y, activation="relu6" if kind == "relu6" else "relu"), y)

    _relu6 = _relu

    def _scaled(self, kind: str, x: QTensor) -> None:
        """Another quantization: a shift only, twice the scale, or anything."""
        factor = self.d.choice(1.0, 2.0, 10 ** self.d.rng.uniform(-0.3, 0.3))
        y = self.d.tensor(self.name(kind), x.shape, x.scale * factor)
        self.add(self.d.choice(build.requantize, build.relu)(y.name, x, y), y)

    def _same(self, kind: str, x: QTensor) -> None:
        y = self.like(kind, x.shape)
        self.add(build.requantize(y.name, x, y), y)

    def _pad(self, kind: str, x: QTensor, amounts: list[int] | None = None) -> None:
        top, left, bottom, right = [self.d.integer(0, 1) for _ in range(4)] if amounts is None else amounts
        height, width, channels = x.shape
        y = self.like(kind, (height + top + bottom, width + left + right, channels))
        self.add(IntegerNode(y.name, "pad", (x.name,), {"padding": [top, left, bottom, right]}), y)

    def _padded(self, kind: str, x: QTensor) -> None:
        self._pad("pad", x)
        self.step(self.d.choice("conv", "depthwise", "max_pool", "pad"))

    def _no_pad(self, kind: str, x: QTensor) -> None:
        self._pad(kind, x, [0] * 4)

    def _pool(self, kind: str, x: QTensor, k: list[int], stride: list[int], padding: list[int]) -> None:
        size = [(x.shape[i] + padding[i] + padding[i + 2] - k[i]) // stride[i] + 1 for i in (0, 1)]
        y = self.like(kind, (*size, x.shape[2]))
        self.add(build.pool(y.name, "avg_pool2d" if kind == "avg_pool" else "max_pool2d", x, k, stride, padding), y)

    def _max_pool(self, kind: str, x: QTensor) -> None:
        k = [min(3, x.shape[0]), min(2, x.shape[1])]
        self._pool(kind, x, k, [self.d.integer(1, 2)] * 2, [self.d.integer(0, n - 1) for n in (*k, *k)])

    def _avg_pool(self, kind: str, x: QTensor) -> None:
        self._pool(kind, x, [min(2, x.shape[0]), min(3, x.shape[1])], [self.d.integer(1, 2)] * 2, [0] * 4)

    def _one_pixel(self, kind: str, x: QTensor) -> None:
        self._pool(kind, x, [1, 1], [1, 1], [0] * 4)

    def _resize(self, kind: str, x: QTensor) -> None:
        size = [min(8, x.shape[0] * self.d.integer(1, 2)), x.shape[1]]
        y = self.like(kind, (max(size[0], x.shape[0]), size[1], x.shape[2]))
        self.add(IntegerNode(y.name, "resize_nearest", (x.name,), {"size": list(y.shape[:2])}), y)

    def _lut(self, kind: str, x: QTensor) -> None:
        which = self.d.choice("sigmoid", "tanh", "hard_swish", "leaky_relu")
        fixed = {"sigmoid": (1 / 256, -128), "tanh": (1 / 128, 0)}.get(which, (x.scale, None))
        y = self.d.tensor(self.name(kind), x.shape, *fixed)
        self.add(build.lut(y.name, x, y, which, alpha=0.1 if which == "leaky_relu" else 0.0), y)

    def _add(self, kind: str, x: QTensor) -> None:
        other = self.d.choice(*(t for t in self.tensors.values() if t.shape == x.shape))
        make = self.d.choice(build.add, build.subtract, build.multiply)
        peak = x.scale * other.scale * 64 if make is build.multiply else max(x.scale, other.scale)
        y = self.d.tensor(self.name(kind), x.shape, peak * self.d.rng.uniform(0.5, 2))
        self.add(make(y.name, x, other, y, activation=self.d.choice("none", "relu")), y)

    def _constant(self, kind: str, x: QTensor) -> None:
        """A sum, difference, product or extreme with a constant for all, each channel or each pixel."""
        height, width, channels = x.shape
        shape = self.d.choice((channels,), (1, 1, channels), (height, width, 1), x.shape)
        first, make = bool(self.d.integer(0, 1)), self.d.choice(build.add, build.subtract, build.multiply, None)
        c = (
            self.like("c", shape, x)
            if make is None
            else self.d.tensor("c", shape, x.scale * self.d.rng.uniform(0.2, 2))
        )
        if make is None:
            y = self.like(kind, x.shape)
            node = build.extreme(y.name, self.d.choice("maximum", "minimum"), *((c, x) if first else (x, c)))
        else:
            peak = x.scale * c.scale * 64 if make is build.multiply else max(x.scale, c.scale)
            y = self.d.tensor(self.name(kind), x.shape, peak * self.d.rng.uniform(0.5, 2))
            activation = self.d.choice("none", "relu")
            node = make(y.name, *((c, x) if first else (x, c)), y, activation=activation)
        self.add(build.with_constant(node, c, self.d.rng.integers(-128, 128, shape), first=first), y)

    def _row(self, kind: str, x: QTensor) -> None:
        """What is left of one axis, at its end or in the middle."""
        axis, op = self.d.integer(0, 2), self.d.choice("mean", "mean", "sum", "reduce_max", "reduce_min")
        shape = tuple(1 if k == axis else n for k, n in enumerate(x.shape))
        y = self.like(kind, shape) if "reduce" in op else self.d.tensor(self.name(kind), shape, x.scale)
        self.add(build.reduction(y.name, op, x, y, [axis]), y)

    def _bilinear(self, kind: str, x: QTensor) -> None:
        size = [max(n, min(8, n * self.d.integer(1, 2))) for n in x.shape[:2]]
        y = self.like(kind, (*size, x.shape[2]))
        attrs = {"size": size, self.d.choice("align_corners", "half_pixel_centers"): True}
        self.add(IntegerNode(y.name, "resize_bilinear", (x.name,), attrs), y)

    def _up(self, kind: str, x: QTensor) -> None:
        height, width, channels = x.shape
        if max(height, width) > 5:
            return
        outputs, k = self.d.integer(1, 5), self.d.integer(2, 3)
        w, bias = self.weights(outputs, channels, k, k)
        y = self.weighted_output(kind, x, w[0].size, (2 * height, 2 * width, outputs))
        activation = self.d.choice("none", "relu", "relu6")
        stride = {"stride": (2, 2), "activation": activation}
        self.add(build.conv_transpose2d(y.name, x, y, w, bias * np.float32(x.scale), **stride), y)

    def _framed(self, kind: str, x: QTensor) -> None:
        """A pad of any value, with channels of its own, or a mirrored one."""
        height, width, channels = x.shape
        if self.d.integer(0, 1) and min(height, width) > 1:
            y = self.like(kind, (height + 1, width + 1, channels))
            attrs: dict[str, Any] = {"padding": [1, 0, 0, 1], "mode": self.d.choice("reflect", "symmetric")}
            self.add(IntegerNode(y.name, "mirror_pad", (x.name,), attrs), y)
            return
        more = self.d.choice((0, 0), (1, 0), (0, 2))
        y = self.like(kind, (height + 1, width, channels + sum(more)))
        attrs = {"padding": [1, 0, 0, 0], "value": self.d.choice(-128, x.zero_point, self.d.integer(-128, 127))}
        self.add(IntegerNode(y.name, "pad", (x.name,), {**attrs, "channels": list(more)}), y)
        self.step(self.d.choice("conv", "max_pool", "lut"))

    def _turn(self, kind: str, x: QTensor) -> None:
        """The same bytes in another order."""
        height, width, channels = x.shape
        if self.d.integer(0, 1):
            perm = [int(a) for a in self.d.rng.permutation(3)]
            y = self.like(kind, tuple(x.shape[a] for a in perm))
            self.add(IntegerNode(y.name, "transpose", (x.name,), {"perm": perm}), y)
        else:
            y = self.like(kind, (height, -(-width // 2), channels))
            attrs = {"begin": [height - 1, 0, 0], "step": [-1, 2, 1]}
            self.add(IntegerNode(y.name, "strided_slice", (x.name,), attrs), y)

    def _gate(self, kind: str, x: QTensor) -> None:
        pooled = self.d.tensor(self.name("pooled"), (1, 1, x.shape[2]), x.scale)
        self.add(build.global_avg_pool(pooled.name, x, pooled), pooled)
        if self.d.integer(0, 1):
            again = self.like("again", (1, 1, x.shape[2]))
            self.add(build.global_avg_pool(again.name, pooled, again), again)
        gate = QTensor(self.name("gate"), (1, 1, x.shape[2]), 1 / 256, -128)
        self.add(build.lut(gate.name, self.value, gate, "sigmoid"), gate)
        y = self.d.tensor(self.name(kind), x.shape, x.scale)
        self.add(build.multiply(y.name, x, gate, y), y)

    def _concat(self, kind: str, x: QTensor) -> None:
        axis = int(self.d.choice(0, 1, 2, 2))
        rest = [s for k, s in enumerate(x.shape) if k != axis]
        near = [
            t
            for t in self.tensors.values()
            if len(t.shape) == 3 and [s for k, s in enumerate(t.shape) if k != axis] == rest and t.shape[axis] < 6
        ]
        others = [self.d.choice(*near)] if near and self.d.integer(0, 3) else []
        parts = []
        for t in (x, *others):
            same = (t.scale, t.zero_point) == (x.scale, x.zero_point)
            y = self.like("part", t.shape, x)
            parts.append(t if same else self.add(build.requantize(y.name, t, y), y))
        shape = list(x.shape)
        shape[axis] = sum(t.shape[axis] for t in parts)
        y = self.like(kind, tuple(shape), x)
        self.add(IntegerNode(y.name, "concat", tuple(t.name for t in parts), {"axis": axis}), y)

    def _slice(self, kind: str, x: QTensor, axis: int = 2) -> None:
        start = self.d.integer(0, x.shape[axis] - 1)
        stop = self.d.integer(start + 1, x.shape[axis])
        shape = list(x.shape)
        shape[axis] = stop - start
        y = self.like(kind, tuple(shape))
        self.add(IntegerNode(y.name, "slice", (x.name,), {"axis": axis, "start": start, "stop": stop}), y)

    def _slice_rows(self, kind: str, x: QTensor) -> None:
        self._slice(kind, x, 0)

    def _reshape(self, kind: str, x: QTensor, *shape: int) -> None:
        y = self.like(kind, shape)
        self.add(IntegerNode(y.name, "reshape", (x.name,), {"shape": list(shape)}), y)

    def _there_and_back(self, kind: str, x: QTensor) -> None:
        """Through a vector to the same shape, or to one that mixes rows and channels."""
        height, width, channels = x.shape
        self._reshape(kind, x, x.bytes)
        if self.d.integer(0, 1):
            self._reshape(kind, self.value, height, width, channels)
        else:
            self._reshape(kind, self.value, *self.d.choice((width, height, channels), (1, height, width * channels)))

    def _repeat(self, kind: str, x: QTensor) -> None:
        """The last node once more, and the sum of both."""
        if not self.nodes:
            return
        last = self.nodes[-1]
        again = self.add(replace(last, name=self.name("again")), self.like("again", x.shape))
        y = self.d.tensor(self.name(kind), x.shape, x.scale * 2)
        self.add(build.add(y.name, x, again, y), y)

    def _unused(self, kind: str, x: QTensor) -> None:
        y = self.d.tensor(self.name(kind), x.shape, x.scale)
        self.add(build.requantize(y.name, x, y), y)
        self.value = x

    def finish(self, head: str) -> IntegerGraph:
        x = self.value
        if head == "pool":
            y = self.like("pooled", (1, 1, x.shape[2]))
            self.add(build.global_avg_pool(y.name, x, y), y)
        if head != "image":
            self._reshape("flat", self.value, self.value.bytes)
            x = self.value
            w, bias = self.weights(3, x.shape[0])
            y = self.weighted_output("logits", x, x.shape[0], (3,))
            self.add(build.dense(y.name, x, y, w, bias.clip(-50, 50) * np.float32(x.scale)), y)
        if head == "softmax":
            p = QTensor("probabilities", (3,), 1 / 256, -128)
            self.add(build.softmax(p.name, self.value), p)
        return IntegerGraph("random", self.tensors, ("x",), tuple(self.nodes), (self.value.name,))


def sketched(seed: int, steps: int) -> IntegerGraph:
    """The graph of a seed, with so many steps."""
    sketch = Sketch(seed)
    for _ in range(steps):
        sketch.step(sketch.d.choice(*STEPS))
    return sketch.finish(sketch.d.choice("flatten", "pool", "softmax", "image"))


@st.composite
def integer_graphs(draw: st.DrawFn) -> IntegerGraph:
    sketch = Sketch(draw(st.integers(0, 2**32 - 1)))
    for kind in draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=9)):
        sketch.step(kind)
    return sketch.finish(draw(st.sampled_from(["flatten", "pool", "softmax", "image"])))
