"""Small graphs and data for the training and search tests."""

from __future__ import annotations

import numpy as np
import torch

from thumbnet.data import Dataset, Preprocessing, dataset_from_arrays
from thumbnet.graph.graph import Graph, Input, Node
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.lower import lower
from thumbnet.training.loop import Images
from thumbnet.training.quantize_aware import QuantizedModule, calibrate


def conv(name: str, source: str, inputs: int, outputs: int, rng: np.random.Generator, **attrs: object) -> Node:
    kernel = int(attrs.pop("kernel", 3))  # type: ignore[call-overload]
    stride = int(attrs.pop("stride", 1))  # type: ignore[call-overload]
    depthwise = bool(attrs.pop("depthwise", False))
    weight = rng.normal(
        0,
        (2 / (kernel * kernel * (1 if depthwise else inputs))) ** 0.5,
        (outputs, 1 if depthwise else inputs, kernel, kernel),
    )
    pad = kernel // 2
    settings = {
        "stride": [stride, stride],
        "padding": [pad] * 4,
        "dilation": [1, 1],
        "activation": "none",
        **({} if depthwise else {"groups": 1}),
        **attrs,
    }
    weights = {"weight": weight.astype(np.float32), "bias": rng.normal(0, 0.1, outputs).astype(np.float32)}
    return Node(name, "depthwise_conv2d" if depthwise else "conv2d", (source,), settings, weights)


def residual_network(seed: int = 0, size: int = 16, classes: int = 3, width: int = 16) -> Graph:
    """Stem, one inverted residual block, one strided block, pooling, dense; clean form (folded, fused)."""
    rng = np.random.default_rng(seed)
    nodes = (
        conv("stem", "x", 1, width, rng, stride=2, activation="relu6"),
        conv("expand", "stem", width, 3 * width, rng, kernel=1, activation="relu6"),
        conv("spatial", "expand", 3 * width, 3 * width, rng, depthwise=True, activation="relu6"),
        conv("project", "spatial", 3 * width, width, rng, kernel=1),
        Node("add", "add", ("stem", "project"), {"activation": "none"}),
        conv("down", "add", width, 2 * width, rng, stride=2, activation="relu"),
        Node("pool", "global_avg_pool", ("down",), {"keepdims": False}),
        Node(
            "out",
            "dense",
            ("pool",),
            {"activation": "none"},
            {
                "weight": rng.normal(0, 0.3, (classes, 2 * width)).astype(np.float32),
                "bias": np.zeros(classes, np.float32),
            },
        ),
    )
    graph = Graph("small", (Input("x", (1, size, size)),), nodes, ("out",))
    graph.validate()
    return graph


def stripes(count: int = 96, size: int = 16, seed: int = 0) -> Dataset:
    """Horizontal, vertical or diagonal stripes with noise: learnable in seconds."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    patterns = np.stack([rows % 4 < 2, columns % 4 < 2, (rows + columns) % 4 < 2])
    parts = {}
    for part, n in (("train", count), ("val", count // 2), ("test", count // 2)):
        labels = np.arange(n) % 3
        pixels = 128 + 60 * (patterns[labels] * 2.0 - 1) + rng.normal(0, 30, (n, size, size))
        parts[part] = (pixels.clip(0, 255).astype(np.uint8)[..., None], labels)
    return dataset_from_arrays(parts, classes=("rows", "columns", "diagonal"), name="stripes")


def preprocessing(size: int = 16) -> Preprocessing:
    return Preprocessing((size, size), 1, (127 / 255,), (128 / 255,))


def training_images(size: int = 16) -> Images:
    return Images.of(stripes(size=size).train, preprocessing(size))


def chain_network(size: int = 64, width: int = 16) -> Graph:
    """Stem, three depthwise-separable blocks of equal shape without residuals, pooling, dense."""
    rng = np.random.default_rng(1)
    nodes = [conv("stem", "x", 1, width, rng, stride=2, activation="relu")]
    for k in range(3):
        nodes.append(conv(f"spatial{k}", nodes[-1].name, width, width, rng, depthwise=True, activation="relu"))
        nodes.append(conv(f"point{k}", nodes[-1].name, width, width, rng, kernel=1, activation="relu"))
    nodes.append(conv("last", nodes[-1].name, width, 2 * width, rng, stride=2, activation="relu"))
    nodes.append(Node("pool", "global_avg_pool", ("last",), {"keepdims": False}))
    weights = {"weight": rng.normal(0, 0.3, (3, 2 * width)).astype(np.float32), "bias": np.zeros(3, np.float32)}
    nodes.append(Node("out", "dense", ("pool",), {"activation": "none"}, weights))
    graph = Graph("chain", (Input("x", (1, size, size)),), tuple(nodes), ("out",))
    graph.validate()
    return graph


def some_inputs(count: int = 24, size: int = 16) -> torch.Tensor:
    return torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(1))


def quantized_network() -> IntegerGraph:
    """A residual network with a softmax; every third channel before its last layer goes nowhere."""
    base = residual_network()
    out = base.by_name["out"]
    weight = out.weights["weight"].copy()
    weight[:, ::3] = 0
    nodes = [out.with_weights(weight=weight) if n is out else n for n in base.nodes]
    graph = base.with_nodes([*nodes, Node("probabilities", "softmax", ("out",))], ("probabilities",))
    module = QuantizedModule(graph, {"x": preprocessing().input_qparams()})
    calibrate(module, [training_images().normalized(slice(0, 64))])
    return lower(module.to_graph(), module.ranges(), fixed=module.fixed)
