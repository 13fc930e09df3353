"""Small networks with random weights that together use every operation and every kernel the exporter has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from integer_op_cases import CASES, drawn, together

from thumbnet.cost.probes import ProbeBuilder
from thumbnet.exporters.c import emit, write_firmware
from thumbnet.exporters.c.emit import kernel_folder
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.simulate import run
from thumbnet.targets import load_target

# one for each family of our kernels
CORES = {"generic": "cortex-m0plus", "v7m": "cortex-m3", "dsp": "cortex-m4", "mve": "cortex-m55"}
FAMILIES = [family for family in CORES if (kernel_folder() / family).is_dir()]


def mobile() -> IntegerGraph:
    """Inverted bottlenecks with a residual, then the classifier."""
    b = ProbeBuilder(1)
    x = b.conv2d(b.input(17, 15, 3), 8, (3, 3), (2, 2), clamp=(-128, 90))
    y = b.conv2d(b.depthwise_conv2d(b.conv2d(x, 24), (5, 5)), 8)
    x = b.add(x, y)
    x = b.conv2d(b.depthwise_conv2d(b.conv2d(x, 32), (3, 3), (2, 2)), 13)
    x = b.lut(b.requantize(x))
    x = b.reshape(b.global_avg_pool(x), 13)
    b.softmax(b.dense(x, 5))
    return b.graph()


def squeeze_excite() -> IntegerGraph:
    b = ProbeBuilder(2)
    x = b.depthwise_conv2d(b.input(7, 9, 6), multiplier=2, dilation=(2, 1))
    gate = b.lut(b.conv2d(b.global_avg_pool(x), 12))
    x = b.mul(x, gate)
    x = b.add(x, b.conv2d(b.global_avg_pool(x), 12), op="sub")
    b.mul(x, x)
    return b.graph()


def plumbing() -> IntegerGraph:
    b = ProbeBuilder(3)
    x = b.pad(b.input(6, 7, 4), (1, 0, 2, 3))
    y = b.pool("max_pool2d", x, (3, 2), (2, 1), (1, 1, 1, 0))
    z = b.pool("avg_pool2d", x, (3, 2), (2, 1), (1, 1, 1, 0))
    x = b.concat(y, z, b.slice(y, 2, 1, 3))
    x = b.concat(b.slice(x, 0, 1, 4), x, axis=0)
    x = b.resize_nearest(x, (5, 20))
    b.conv2d(x, 9, (3, 2), (1, 2), groups=1, dilation=(1, 2), padding=(0, 1, 2, 0))
    return b.graph()


def grouped() -> IntegerGraph:
    b = ProbeBuilder(4)
    x = b.conv2d(b.input(8, 8, 12), 8, (3, 3), groups=4)
    b.conv2d(x, 6, (1, 1), (2, 2), groups=2)
    return b.graph()


def even_sum() -> IntegerGraph:
    """A sum of two tensors with one scale, and a dense layer whose outputs are clamped."""
    b = ProbeBuilder(5)
    x = b.input(5, 5, 3)
    x = b.add(b.conv2d(x, 7, (3, 3)), b.conv2d(x, 7), even=True)
    b.dense(b.reshape(x, 175), 9, clamp=(-100, 70))
    return b.graph()


def rows() -> IntegerGraph:
    """A tall image whose leading layers become a cascade."""
    b = ProbeBuilder(6)
    x = b.conv2d(b.input(40, 40, 1), 12, (3, 3), clamp=(-60, 127))
    x = b.depthwise_conv2d(b.conv2d(x, 24, clamp=(-128, 90)), (3, 3), (2, 2), clamp=(-128, 100))
    x = b.conv2d(b.conv2d(x, 4), 6, (3, 3), (2, 2))
    b.global_avg_pool(x)
    return b.graph()


def bottlenecks() -> IntegerGraph:
    """Two expansions, the first of which needs most memory."""
    b = ProbeBuilder(2)
    x = b.input(24, 24, 8)
    for wide in (48, 32):
        x = b.conv2d(b.depthwise_conv2d(b.conv2d(x, wide, clamp=(0, 127))), 8)
    b.dense(b.reshape(b.global_avg_pool(x), 8), 2)
    return b.graph()


def operations() -> IntegerGraph:
    """Every operation by itself, in some of the shapes that it may have."""
    return together({f"{op}{seed}": drawn(op, seed) for op in CASES for seed in range(3)})


def four_bits() -> IntegerGraph:
    """Weights of 4 bits, two in a byte, in every operation that has weights; one layer in between has 8."""
    b = ProbeBuilder(8, bits=4)
    x = b.conv2d(b.input(9, 8, 3), 10, (3, 3), (2, 1), clamp=(-128, 100))
    x = b.depthwise_conv2d(b.depthwise_conv2d(x), (2, 3), multiplier=2)
    b.bits = 8
    x = b.conv2d(x, 6)
    b.bits = 4
    x = b.conv2d(b.conv2d(x, 9, (3, 2), groups=3), 5)
    b.dense(b.reshape(x, b.tensors[x].bytes), 7)
    return b.graph()


NETWORKS: Mapping[str, Callable[[], IntegerGraph]] = {
    f.__name__: f for f in (mobile, squeeze_excite, plumbing, grouped, even_sum, rows, operations, four_bits)
}


@cache
def network(name: str) -> IntegerGraph:
    return NETWORKS[name]()


def samples(ig: IntegerGraph, seed: int = 0) -> np.ndarray:
    """Random inputs, and the extremes."""
    shape = ig.tensors[ig.inputs[0]].shape
    x = np.random.default_rng(seed).integers(-128, 128, (4, *shape)).astype(np.int8)
    x[1], x[2] = -128, 127
    return x


def firmware(ig: IntegerGraph, family: str, folder: Path, **options: Any) -> Path:
    """Everything that `emit` can write, for a core with that family of kernels."""
    x = samples(ig)[:1]
    contract = {"size": (1, 1), "classes": ["a", "b"], "table": [[0] * 256]}
    vector = x.tobytes(), run(ig, x)[ig.outputs[0]].tobytes()
    target = load_target(CORES[family])
    write_firmware(folder, emit(ig, target, preprocessing=contract, test_vector=vector, **options))
    return folder


def sources_in(folder: Path) -> list[Path]:
    return sorted(p for pattern in ("*.c", "*.S") for p in folder.rglob(pattern))
