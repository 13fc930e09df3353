"""Synthetic integer networks with random weights, for fitting the cost models and for testing kernels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from thumbnet.integer.arithmetic import quantize_multiplier, scalar_multiplier
from thumbnet.integer.build import with_constant
from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor

Pair = tuple[int, int]
NO_PADDING = (0, 0, 0, 0)


def same_padding(size: Pair, kernel: Pair, stride: Pair) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) that makes the output ceil(size / stride), TensorFlow's SAME."""
    total = [max(0, (-(-n // s) - 1) * s + k - n) for n, k, s in zip(size, kernel, stride, strict=True)]
    return total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2


class ProbeBuilder:
    """Builds an `IntegerGraph` node by node; all random choices come from `seed`.

    Each method takes the names of its inputs and returns the name of its output. Scales do not matter to any kernel and
    are 1; multipliers spread the outputs over most of the int8 range. `bits` are those of the weights to come.
    """

    def __init__(self, seed: int = 0, name: str = "probe", bits: int = 8) -> None:
        self.rng = np.random.default_rng(seed)
        self.name = name
        self.bits = bits
        self.tensors: dict[str, QTensor] = {}
        self.nodes: list[IntegerNode] = []
        self.inputs: list[str] = []

    def input(self, *shape: int) -> str:
        name = f"input{len(self.inputs)}" if self.inputs else "input"
        self.inputs.append(name)
        return self._tensor(name, shape)

    def graph(self, *outputs: str) -> IntegerGraph:
        """The network so far; without arguments its output is the last node."""
        names = outputs or (self.nodes[-1].name,)
        return IntegerGraph(self.name, self.tensors, tuple(self.inputs), tuple(self.nodes), names)

    def conv2d(
        self,
        x: str,
        channels: int,
        kernel: Pair = (1, 1),
        stride: Pair = (1, 1),
        padding: tuple[int, int, int, int] | None = None,
        dilation: Pair = (1, 1),
        groups: int = 1,
        clamp: Pair = (-128, 127),
    ) -> str:
        h, w, c = self.tensors[x].shape
        padding = same_padding((h, w), kernel, stride) if padding is None else padding
        weight = self._weight(channels, *kernel, c // groups)
        attrs = {"stride": list(stride), "padding": list(padding), "dilation": list(dilation), "groups": groups}
        shape = (*_sizes((h, w), kernel, stride, padding, dilation), channels)
        arrays = self._scaled(weight, channels, kernel[0] * kernel[1] * c // groups)
        return self._node("conv2d", (x,), shape, attrs | self._bits(), arrays, clamp)

    def depthwise_conv2d(
        self,
        x: str,
        kernel: Pair = (3, 3),
        stride: Pair = (1, 1),
        padding: tuple[int, int, int, int] | None = None,
        dilation: Pair = (1, 1),
        multiplier: int = 1,
        clamp: Pair = (-128, 127),
    ) -> str:
        h, w, c = self.tensors[x].shape
        padding = same_padding((h, w), kernel, stride) if padding is None else padding
        weight = self._weight(*kernel, c * multiplier)
        attrs = {"stride": list(stride), "padding": list(padding), "dilation": list(dilation)}
        shape = (*_sizes((h, w), kernel, stride, padding, dilation), c * multiplier)
        arrays = self._scaled(weight, c * multiplier, kernel[0] * kernel[1])
        return self._node("depthwise_conv2d", (x,), shape, attrs | self._bits(), arrays, clamp)

    def conv_transpose2d(
        self, x: str, channels: int, kernel: Pair, stride: Pair, padding: Pair = (0, 0), clamp: Pair = (-128, 127)
    ) -> str:
        """All that the windows of the input reach, but for the rows and columns cut off on all sides."""
        shape = self.tensors[x].shape
        size = [(shape[i] - 1) * stride[i] + kernel[i] - 2 * padding[i] for i in (0, 1)]
        arrays = self._scaled(self._weight(channels, *kernel, shape[2]), channels, kernel[0] * kernel[1] * shape[2])
        attrs = {"stride": list(stride), "padding": list(padding)}
        return self._node("conv_transpose2d", (x,), (*size, channels), attrs, arrays, clamp)

    def dense(self, x: str, features: int, clamp: Pair = (-128, 127)) -> str:
        (count,) = self.tensors[x].shape
        arrays = self._scaled(self._weight(features, count), features, count)
        for key in ("multiplier", "shift"):
            arrays[key][:] = arrays[key][0]
        return self._node("dense", (x,), (features,), self._bits(), arrays, clamp)

    def add(self, a: str, b: str, op: str = "add", clamp: Pair = (-128, 127), even: bool = False) -> str:
        """The larger of the inputs' scales is halved, as in TFLite Micro; `even`: both are."""
        first, second = (0.5, 0.5 if even else float(self.rng.uniform(0.05, 0.5)))
        if self.rng.random() < 0.5:
            first, second = second, first
        factors = [scalar_multiplier(f) for f in (first, second, 2.0**-19 * self.rng.uniform(0.5, 1))]
        attrs = {"left_shift": 20, "multipliers": [m for m, _ in factors], "shifts": [s for _, s in factors]}
        return self._node(op, (a, b), self._wider(a, b), attrs, {}, clamp)

    def mul(self, a: str, b: str, clamp: Pair = (-128, 127)) -> str:
        return self._node("mul", (a, b), self._wider(a, b), self._factor(0.005, 0.02), {}, clamp)

    def extreme(self, op: str, a: str, b: str) -> str:
        """`op` is "maximum" or "minimum"."""
        return self._node(op, (a, b), self._wider(a, b), {}, {})

    def prelu(self, x: str, slope: str) -> str:
        factors = [scalar_multiplier(float(self.rng.uniform(*ends))) for ends in ((0.5, 2), (0.005, 0.02))]
        attrs = {"multipliers": [m for m, _ in factors], "shifts": [s for _, s in factors]}
        return self._node("prelu", (x, slope), self.tensors[x].shape, attrs, {})

    def constant(self, node: str, *shape: int, first: bool = False) -> str:
        """Puts random values of this shape in place of the second operand of `node`, or of its first."""
        values = self.rng.integers(-128, 128, shape).astype(np.int8)
        (at,) = (i for i, n in enumerate(self.nodes) if n.name == node)
        point = int(self.rng.integers(-128, 128))
        self.nodes[at] = with_constant(self.nodes[at], QTensor("", shape, 1.0, point), values, first=first)
        return node

    def _wider(self, a: str, b: str) -> tuple[int, ...]:
        return max(self.tensors[a].shape, self.tensors[b].shape, key=math.prod)

    def pool(self, op: str, x: str, kernel: Pair, stride: Pair, padding: tuple[int, int, int, int] = NO_PADDING) -> str:
        """`op` is "max_pool2d" or "avg_pool2d"."""
        h, w, c = self.tensors[x].shape
        attrs = {"kernel": list(kernel), "stride": list(stride), "padding": list(padding)}
        shape = (*_sizes((h, w), kernel, stride, padding, (1, 1)), c)
        return self._node(op, (x,), shape, attrs, {}, (-128, 127), zero_point=self.tensors[x].zero_point)

    def global_avg_pool(self, x: str) -> str:
        h, w, c = self.tensors[x].shape
        return self._node("global_avg_pool", (x,), (1, 1, c), self._factor(0.8 / (h * w), 1.2 / (h * w)), {})

    def lut(self, x: str) -> str:
        table = self.rng.integers(-128, 128, 256).astype(np.int8)
        return self._node("lut", (x,), self.tensors[x].shape, {"kind": "hard_swish"}, {"table": table})

    def requantize(self, x: str) -> str:
        attrs = {**self._factor(0.3, 2.5), "kind": "quantize"}
        return self._node("requantize", (x,), self.tensors[x].shape, attrs, {})

    def concat(self, *sources: str, axis: int = 2) -> str:
        shape = list(self.tensors[sources[0]].shape)
        shape[axis] = sum(self.tensors[s].shape[axis] for s in sources)
        return self._node("concat", sources, tuple(shape), {"axis": axis}, {})

    def slice(self, x: str, axis: int, start: int, stop: int) -> str:
        shape = list(self.tensors[x].shape)
        shape[axis] = stop - start
        return self._node("slice", (x,), tuple(shape), {"axis": axis, "start": start, "stop": stop}, {})

    def pad(self, x: str, padding: tuple[int, int, int, int], channels: Pair = (0, 0), value: int | None = None) -> str:
        h, w, c = self.tensors[x].shape
        shape = (h + padding[0] + padding[2], w + padding[1] + padding[3], c + sum(channels))
        attrs: dict[str, Any] = {"padding": list(padding)}
        attrs |= {"channels": list(channels)} if any(channels) else {}
        attrs |= {} if value is None else {"value": value}
        return self._node("pad", (x,), shape, attrs, {}, zero_point=self.tensors[x].zero_point)

    def transpose(self, x: str, *perm: int) -> str:
        shape = tuple(self.tensors[x].shape[a] for a in perm)
        return self._node("transpose", (x,), shape, {"perm": list(perm)}, {})

    def depth_to_space(self, x: str, block: int) -> str:
        h, w, c = self.tensors[x].shape
        return self._node("depth_to_space", (x,), (h * block, w * block, c // block**2), {"block": block}, {})

    def reshape(self, x: str, *shape: int) -> str:
        return self._node("reshape", (x,), shape, {"shape": list(shape)}, {})

    def reduction(self, op: str, x: str, axes: tuple[int, ...]) -> str:
        """`op` is "mean", "sum", "reduce_max" or "reduce_min"; the axes stay, with size 1."""
        shape = self.tensors[x].shape
        count = math.prod(shape[a] for a in axes)
        factor = self._factor(0.8 / count, 1.2 / count) if op in ("mean", "sum") else {}
        out = tuple(1 if k in axes else n for k, n in enumerate(shape))
        return self._node(op, (x,), out, {**factor, "axes": list(axes)}, {})

    def resize(self, op: str, x: str, size: Pair, **options: bool) -> str:
        """`op` is "resize_nearest" or "resize_bilinear"; options align_corners or half_pixel_centers."""
        return self._node(op, (x,), (*size, self.tensors[x].shape[2]), {"size": list(size), **options}, {})

    def resize_nearest(self, x: str, size: Pair) -> str:
        return self.resize("resize_nearest", x, size)

    def softmax(self, x: str) -> str:
        scale = float(self.rng.uniform(0.02, 0.3))
        multiplier, shift = scalar_multiplier(scale * (1 << 26))
        diff_min = -int(np.floor(31 * 2.0**26 / 2.0**shift))
        attrs = {"multiplier": multiplier, "shift": shift, "diff_min": diff_min}
        return self._node("softmax", (x,), self.tensors[x].shape, attrs, {}, zero_point=-128)

    def _tensor(self, name: str, shape: tuple[int, ...], zero_point: int | None = None) -> str:
        point = int(self.rng.integers(-128, 128)) if zero_point is None else zero_point
        self.tensors[name] = QTensor(name, tuple(int(n) for n in shape), 1.0, point)
        return name

    def _node(
        self,
        op: str,
        inputs: tuple[str, ...],
        shape: tuple[int, ...],
        attrs: dict[str, Any],
        arrays: dict[str, Any],
        clamp: Pair = (-128, 127),
        zero_point: int | None = None,
    ) -> str:
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(IntegerNode(name, op, inputs, attrs, arrays, clamp))
        return self._tensor(name, shape, zero_point)

    def _factor(self, low: float, high: float) -> dict[str, Any]:
        multiplier, shift = scalar_multiplier(float(self.rng.uniform(low, high)))
        return {"multiplier": multiplier, "shift": shift}

    def _weight(self, *shape: int) -> np.ndarray[Any, np.dtype[np.int8]]:
        return self.rng.integers(*((-127, 128) if self.bits == 8 else (-8, 8)), shape).astype(np.int8)

    def _bits(self) -> dict[str, int]:
        return {} if self.bits == 8 else {"weight_bits": self.bits}

    def _scaled(self, weight: np.ndarray[Any, np.dtype[np.int8]], channels: int, terms: int) -> dict[str, Any]:
        # standard deviation of a sum of `terms` products of random int8 values and weights
        spread = 73.0 * (73.0 if self.bits == 8 else 4.6) * np.sqrt(terms)
        multiplier, shift = quantize_multiplier(self.rng.uniform(20, 80, channels) / spread)
        bias = self.rng.normal(0, spread / 2, channels).astype(np.int32)
        return {"weight": weight, "bias": bias, "multiplier": multiplier, "shift": shift}


def _sizes(size: Pair, kernel: Pair, stride: Pair, padding: tuple[int, int, int, int], dilation: Pair) -> Pair:
    """Output height and width of a window that slides over a padded input."""
    h, w = (
        (n + padding[i] + padding[i + 2] - (kernel[i] - 1) * dilation[i] - 1) // stride[i] + 1
        for i, n in enumerate(size)
    )
    return h, w
