"""Graphs of one integer operation each, drawn at random: what the contract of integer operations is tested on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from integer_cases import Draw, graph_of

from thumbnet.integer import build
from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor
from thumbnet.integer.tables import SIGMOID_OUTPUT, SOFTMAX_OUTPUT, TANH_OUTPUT


def image(d: Draw, name: str = "x", low: int = 1, high: int = 9) -> QTensor:
    """At most 9 × 9 pixels of up to 6 channels; at least `low` pixels in each direction."""
    return d.tensor(name, (d.integer(low, high), d.integer(low, high), d.integer(1, 6)))


def like(x: QTensor, name: str, shape: Sequence[int]) -> QTensor:
    return QTensor(name, tuple(int(n) for n in shape), x.scale, x.zero_point)


def single(x: QTensor, y: QTensor, node: IntegerNode) -> IntegerGraph:
    return graph_of([x, y], [x], [node])


# --- weighted sums


def _convolution(d: Draw, op: str) -> IntegerGraph:
    kernel, stride = (d.integer(1, 4), d.integer(1, 3)), (d.integer(1, 3), d.integer(1, 3))
    dilation = d.choice((1, 1), (1, 1), (2, 1), (1, 2))
    reach = [dilation[i] * (kernel[i] - 1) + 1 for i in (0, 1)]
    padding = [d.integer(0, 2) for _ in range(4)]
    groups = d.choice(1, 1, 2) if op == "conv2d" else 1
    x = d.tensor("x", (d.integer(7, 10), d.integer(5, 9), groups * d.integer(1, 5)))
    size = [(x.shape[i] + padding[i] + padding[i + 2] - reach[i]) // stride[i] + 1 for i in (0, 1)]
    channels = groups * d.integer(1, 5) if op == "conv2d" else x.shape[2] * d.choice(1, 1, 2, 3)
    terms = kernel[0] * kernel[1] * (x.shape[2] // groups if op == "conv2d" else 1)
    y = _summed(d, x, terms, (*size, channels))
    attrs: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    attrs["activation"] = d.choice("none", "relu", "relu6")
    bias = d.choice(None, d.bias(channels, 50 * x.scale))
    if op == "conv2d":
        weight = d.weight(channels, *kernel, x.shape[2] // groups)
        return single(x, y, build.conv2d("y", x, y, weight, bias, groups=groups, **attrs))
    return single(x, y, build.depthwise_conv2d("y", x, y, d.weight(*kernel, channels), bias, **attrs))


def _conv_transpose2d(d: Draw, op: str) -> IntegerGraph:
    kernel, stride = (d.integer(1, 5), d.integer(1, 4)), (d.integer(1, 3), d.integer(1, 3))
    x, channels = d.tensor("x", (d.integer(1, 6), d.integer(1, 6), d.integer(1, 5))), d.integer(1, 5)
    padding = [d.integer(0, k - 1) for k in kernel]
    whole = [(x.shape[i] - 1) * stride[i] + kernel[i] - padding[i] for i in (0, 1)]
    size = [max(1, n + d.integer(-2, 1)) for n in whole]  # below the last window there is bias alone
    terms = max(1, kernel[0] * kernel[1] * x.shape[2] // (stride[0] * stride[1]))
    y = _summed(d, x, terms, (*size, channels))
    weight, bias = d.weight(channels, *kernel, x.shape[2]), d.choice(None, d.bias(channels, 50 * x.scale))
    attrs: dict[str, Any] = {"stride": stride, "padding": padding, "activation": d.choice("none", "relu", "relu6")}
    return single(x, y, build.conv_transpose2d("y", x, y, weight, bias, **attrs))


def _summed(d: Draw, x: QTensor, terms: int, shape: tuple[int, ...]) -> QTensor:
    """An output scale that leaves part of the sums inside the range and saturates the rest."""
    return d.tensor("y", shape, x.scale * 70 * np.sqrt(terms) / 127 * d.rng.uniform(0.3, 3))


def _dense(d: Draw, op: str) -> IntegerGraph:
    x = d.tensor("x", (d.integer(1, 60),))
    y = _summed(d, x, x.bytes, (d.integer(1, 12),))
    weight, bias = d.weight(y.bytes, x.bytes), d.choice(None, d.bias(y.bytes, 50 * x.scale))
    return single(x, y, build.dense("y", x, y, weight, bias, activation=d.choice("none", "relu", "relu6")))


# --- two operands


def _spread(d: Draw) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The output's shape, and one that spreads over it."""
    h, w, c = d.integer(1, 5), d.integer(1, 5), d.integer(1, 6)
    small = d.choice((h, w, c), (h, w, c), (1, 1, c), (c,), (h, w, 1), (1, w, c), (1, w, 1), (h, 1, 1), (1, 1, 1), (1,))
    return (h, w, c), small


def _binary(d: Draw, op: str) -> IntegerGraph:
    shape, small = _spread(d)
    swapped = op != "prelu" and d.integer(0, 1) == 1
    shapes = (small, shape) if swapped else (shape, small)
    a = d.tensor("a", shapes[0])
    compares = op in ("maximum", "minimum")
    b = like(a, "b", shapes[1]) if compares else d.tensor("b", shapes[1], a.scale * 10 ** d.rng.uniform(-2, 2))
    peak = a.scale * b.scale * 128 if op in ("mul", "prelu") else max(a.scale, b.scale)
    y = like(a, "y", shape) if compares else d.tensor("y", shape, peak * d.rng.uniform(0.3, 3))
    activation = {"activation": d.choice("none", "relu", "relu6")}
    node = {
        "add": lambda: build.add("y", a, b, y, **activation),
        "sub": lambda: build.subtract("y", a, b, y, **activation),
        "mul": lambda: build.multiply("y", a, b, y, **activation),
        "prelu": lambda: build.prelu("y", a, b, y),
    }.get(op, lambda: build.extreme("y", op, a, b))()
    first = op != "prelu" and d.integer(0, 1) == 1
    if d.integer(0, 1):
        constant, x = (a, b) if first else (b, a)
        values = d.rng.integers(-128, 128, constant.shape)
        return single(x, y, build.with_constant(node, constant, values, first=first))
    return graph_of([a, b, y], [a, b], [node])


# --- one operand, value by value


def _lut(d: Draw, op: str) -> IntegerGraph:
    kind = d.choice("sigmoid", "tanh", "hard_swish", "leaky_relu", "elu", "abs")
    x = d.tensor("x", (256,))
    fixed = {"sigmoid": SIGMOID_OUTPUT, "tanh": TANH_OUTPUT}.get(kind, (x.scale * d.rng.uniform(0.5, 2), None))
    y = d.tensor("y", (256,), *fixed)
    return single(x, y, build.lut("y", x, y, kind, alpha=float(d.rng.uniform(-0.5, 0.5))))


def _requantize(d: Draw, op: str) -> IntegerGraph:
    x = d.tensor("x", (256,))
    y = d.tensor("y", (256,), x.scale * 10 ** d.rng.uniform(-1, 1))
    made = (build.requantize("y", x, y), build.relu("y", x, y), build.relu("y", x, y, activation="relu6"))
    return single(x, y, d.choice(*made))


def _softmax(d: Draw, op: str) -> IntegerGraph:
    x = d.tensor("x", (d.integer(1, 3), d.integer(1, 4), d.integer(1, 12)))
    y = d.tensor("y", x.shape, *SOFTMAX_OUTPUT)
    return single(x, y, build.softmax("y", x))


# --- pools


def _pool(d: Draw, op: str) -> IntegerGraph:
    kernel, stride = (d.integer(1, 4), d.integer(1, 3)), [d.integer(1, 3), d.integer(1, 3)]
    x = image(d, low=4)
    padding = [d.integer(0, n - 1) for n in (*kernel, *kernel)] if op == "max_pool2d" else [0] * 4
    size = [(x.shape[i] + padding[i] + padding[i + 2] - kernel[i]) // stride[i] + 1 for i in (0, 1)]
    y = like(x, "y", (*size, x.shape[2]))
    return single(x, y, build.pool("y", op, x, kernel, stride, padding))


def _global_avg_pool(d: Draw, op: str) -> IntegerGraph:
    x = image(d)
    y = d.tensor("y", d.choice((x.shape[2],), (1, 1, x.shape[2])), x.scale * d.rng.uniform(0.2, 2))
    return single(x, y, build.global_avg_pool("y", x, y))


def _reduction(d: Draw, op: str) -> IntegerGraph:
    x = image(d)
    axes = d.choice([0], [1], [2], [0, 1], [1, 2], [0, 1, 2])
    kept = [n for k, n in enumerate(x.shape) if k not in axes]
    shape = d.choice([1 if k in axes else n for k, n in enumerate(x.shape)], kept or [1])
    if len(shape) == 2:
        shape = [1, *shape]  # a file's [1, time, channels]
    count = math.prod(x.shape[a] for a in axes) if op == "sum" else 1
    extreme = op in ("reduce_max", "reduce_min")
    y = like(x, "y", shape) if extreme else d.tensor("y", shape, x.scale * count * d.rng.uniform(0.2, 2))
    return single(x, y, build.reduction("y", op, x, y, axes))


# --- bytes that move


def _concat(d: Draw, op: str) -> IntegerGraph:
    x, axis = image(d, high=5), d.integer(0, 2)
    b = like(x, "b", [d.integer(1, 4) if k == axis else n for k, n in enumerate(x.shape)])
    names = d.choice(("x", "b"), ("b", "x"), ("x", "b", "x"))
    total = sum((x if v == "x" else b).shape[axis] for v in names)
    y = like(x, "y", [total if k == axis else n for k, n in enumerate(x.shape)])
    return graph_of([x, b, y], [x, b], [IntegerNode("y", "concat", names, {"axis": axis})])


def _slice(d: Draw, op: str) -> IntegerGraph:
    x, axis = image(d), d.integer(0, 2)
    start = d.integer(0, x.shape[axis] - 1)
    stop = d.integer(start + 1, x.shape[axis])
    y = like(x, "y", [stop - start if k == axis else n for k, n in enumerate(x.shape)])
    return single(x, y, IntegerNode("y", "slice", ("x",), {"axis": axis, "start": start, "stop": stop}))


def _pad(d: Draw, op: str) -> IntegerGraph:
    x, (top, left, bottom, right) = image(d), [d.integer(0, 3) for _ in range(4)]
    channels = d.choice((0, 0), (0, 0), (d.integer(0, 3), d.integer(0, 3)))
    attrs: dict[str, Any] = {"padding": [top, left, bottom, right]}
    attrs |= {"channels": list(channels)} if any(channels) else {}
    attrs |= {"value": d.integer(-128, 127)} if d.integer(0, 1) else {}
    y = like(x, "y", (x.shape[0] + top + bottom, x.shape[1] + left + right, x.shape[2] + sum(channels)))
    return single(x, y, IntegerNode("y", "pad", ("x",), attrs))


def _mirror_pad(d: Draw, op: str) -> IntegerGraph:
    x, mode = image(d, low=2), d.choice("reflect", "symmetric")
    most = [n - (1 if mode == "reflect" else 0) for n in x.shape[:2]] * 2
    top, left, bottom, right = padding = [d.integer(0, min(n, 4)) for n in most]
    y = like(x, "y", (x.shape[0] + top + bottom, x.shape[1] + left + right, x.shape[2]))
    return single(x, y, IntegerNode("y", "mirror_pad", ("x",), {"padding": padding, "mode": mode}))


def _transpose(d: Draw, op: str) -> IntegerGraph:
    shape = tuple(d.integer(1, 5) for _ in range(d.choice(3, 3, 4)))
    x, perm = d.tensor("x", shape), [int(a) for a in d.rng.permutation(len(shape))]
    return single(x, like(x, "y", [shape[a] for a in perm]), IntegerNode("y", "transpose", ("x",), {"perm": perm}))


def _strided_slice(d: Draw, op: str) -> IntegerGraph:
    x = image(d)
    begin = [d.integer(0, n - 1) for n in x.shape]
    step = [d.choice(1, 1, 2, 3, -1, -2) for _ in x.shape]
    most = [1 + ((n - 1 - b) // s if s > 0 else b // -s) for n, b, s in zip(x.shape, begin, step, strict=True)]
    counts = [d.integer(1, n) for n in most]
    y = like(x, "y", counts)
    return single(x, y, IntegerNode("y", "strided_slice", ("x",), {"begin": begin, "step": step}))


def _blocks(d: Draw, op: str) -> IntegerGraph:
    block = d.integer(1, 3)
    (h, w), c = (d.integer(1, 4), d.integer(1, 4)), d.integer(1, 4)
    wide, deep = (h * block, w * block, c), (h, w, c * block**2)
    x = d.tensor("x", wide if op == "space_to_depth" else deep)
    y = like(x, "y", deep if op == "space_to_depth" else wide)
    return single(x, y, IntegerNode("y", op, ("x",), {"block": block}))


def _reshape(d: Draw, op: str) -> IntegerGraph:
    x = image(d)
    shape = d.choice((x.bytes,), (x.shape[1], x.shape[0], x.shape[2]), (1, x.bytes // x.shape[2], x.shape[2]))
    y = like(x, "y", shape)
    return single(x, y, IntegerNode("y", "reshape", ("x",), {"shape": list(shape)}))


def _resize(d: Draw, op: str) -> IntegerGraph:
    x = image(d, high=7)
    size = d.choice([n * d.integer(1, 3) for n in x.shape[:2]], [d.integer(1, 15), d.integer(1, 15)])
    options = ("align_corners", "half_pixel_centers")
    chosen = d.choice((), (), options[:1], options[1:])
    y = like(x, "y", (*size, x.shape[2]))
    attrs = {"size": size, **dict.fromkeys(chosen, True)}
    return single(x, y, IntegerNode("y", op, ("x",), attrs))


Case = Callable[[Draw, str], IntegerGraph]
CASES: Mapping[str, Case] = {
    **dict.fromkeys(("conv2d", "depthwise_conv2d"), _convolution),
    "conv_transpose2d": _conv_transpose2d,
    "dense": _dense,
    **dict.fromkeys(("add", "sub", "mul", "maximum", "minimum", "prelu"), _binary),
    "lut": _lut,
    "requantize": _requantize,
    "softmax": _softmax,
    **dict.fromkeys(("max_pool2d", "avg_pool2d"), _pool),
    "global_avg_pool": _global_avg_pool,
    **dict.fromkeys(("mean", "sum", "reduce_max", "reduce_min"), _reduction),
    "concat": _concat,
    "slice": _slice,
    "pad": _pad,
    "mirror_pad": _mirror_pad,
    "transpose": _transpose,
    "strided_slice": _strided_slice,
    **dict.fromkeys(("space_to_depth", "depth_to_space"), _blocks),
    "reshape": _reshape,
    **dict.fromkeys(("resize_nearest", "resize_bilinear"), _resize),
}


def drawn(op: str, seed: int) -> IntegerGraph:
    """A graph of one node, called "y"."""
    graph = CASES[op](Draw(seed), op)
    assert math.prod(graph.tensors["y"].shape) > 0
    return graph


def together(graphs: Mapping[str, IntegerGraph]) -> IntegerGraph:
    """One graph with one input and one output: the graphs' own, one after the other, as bytes."""
    total = sum(g.tensors[v].bytes for g in graphs.values() for v in g.inputs)
    tensors, nodes, ends, at = {"all": QTensor("all", (total,), 1.0, 0)}, [], [], 0

    def add(node: IntegerNode, x: QTensor) -> None:
        nodes.append(node)
        tensors[node.name] = replace(x, name=node.name)

    for key, graph in graphs.items():
        for v in graph.inputs:
            x, part = graph.tensors[v], f"{key}/{v}/part"
            piece = {"axis": 0, "start": at, "stop": at + x.bytes}
            add(IntegerNode(part, "slice", ("all",), piece), replace(x, shape=(x.bytes,)))
            add(IntegerNode(f"{key}/{v}", "reshape", (part,), {"shape": list(x.shape)}), x)
            at += x.bytes
        for node in graph.nodes:
            inputs = tuple(f"{key}/{v}" for v in node.inputs)
            add(replace(node, name=f"{key}/{node.name}", inputs=inputs), graph.tensors[node.name])
        y = graph.tensors["y"]
        ends.append(f"{key}/flat")
        add(IntegerNode(ends[-1], "reshape", (f"{key}/y",), {"shape": [y.bytes]}), replace(y, shape=(y.bytes,)))
    size = sum(tensors[v].bytes for v in ends)
    add(IntegerNode("y", "concat", tuple(ends), {"axis": 0}), QTensor("y", (size,), 1.0, 0))
    return IntegerGraph("together", tensors, ("all",), tuple(nodes), ("y",))
