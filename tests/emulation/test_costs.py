"""What `estimate` says before anything is built is what the linker places and the emulator counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from thumbnet.cost import estimate
from thumbnet.cost.measured import measured_sources, source_hash
from thumbnet.cost.probes import ProbeBuilder
from thumbnet.emulation.toolchain import build
from thumbnet.exporters.c import emit, write_firmware
from thumbnet.integer.graph import IntegerGraph
from thumbnet.targets import load_target

pytest.importorskip("unicorn", reason="the emulator is optional")
pytestmark = pytest.mark.emulation

from thumbnet.emulation.unicorn import UnicornMachine  # noqa: E402


def mobile(size: int, width: int, blocks: int) -> IntegerGraph:
    """A small MobileNetV2: stem, inverted bottlenecks that get wider, classifier."""
    b = ProbeBuilder(width)
    x = b.conv2d(b.input(size, size, 1), width, (3, 3), (2, 2))
    for i in range(blocks):
        wider, stride = width * (i + 2) // 2, 2 if i % 2 == 0 else 1
        k = 3 if i % 3 else 5
        y = b.conv2d(x, 4 * b.tensors[x].shape[2], clamp=(-128, 120))
        y = b.conv2d(b.depthwise_conv2d(y, (k, k), (stride, stride)), wider)
        x = b.add(x, y) if stride == 1 and wider == b.tensors[x].shape[2] else y
    x = b.global_avg_pool(x)
    b.softmax(b.dense(b.reshape(x, b.tensors[x].shape[2]), 4))
    return b.graph()


def residual() -> IntegerGraph:
    b = ProbeBuilder(9)
    x = b.conv2d(b.input(16, 16, 3), 16, (3, 3))
    for c, s in ((16, 1), (32, 2), (64, 2)):
        y = b.conv2d(b.conv2d(x, c, (3, 3), (s, s)), c, (3, 3))
        x = b.add(y, x if s == 1 else b.conv2d(x, c, (1, 1), (s, s)))
    b.dense(b.reshape(b.global_avg_pool(x), 64), 10)
    return b.graph()


def auto_encoder() -> IntegerGraph:
    b = ProbeBuilder(4)
    x = b.input(320)
    for n in (64, 64, 8, 64, 320):
        x = b.dense(x, n)
    return b.graph()


def attention() -> IntegerGraph:
    """Squeeze and excite, table activations, pooling, concat."""
    b = ProbeBuilder(8)
    x = b.lut(b.conv2d(b.input(24, 24, 3), 16, (3, 3), (2, 2)))
    gate = b.lut(b.conv2d(b.conv2d(b.global_avg_pool(x), 8), 16))
    x = b.mul(x, gate)
    x = b.concat(b.pool("max_pool2d", x, (2, 2), (2, 2)), b.pool("avg_pool2d", x, (2, 2), (2, 2)))
    b.conv2d(b.requantize(x), 12, (3, 3))
    return b.graph()


NETWORKS = {
    "10 KB": lambda: mobile(24, 4, 2),
    "20 KB": lambda: mobile(48, 8, 3),
    "60 KB": lambda: mobile(64, 12, 6),
    "250 KB": lambda: mobile(96, 24, 8),
    "residual": residual,
    "auto-encoder": auto_encoder,
    "attention": attention,
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("board", ["nrf52840", "stm32h743zi", "cortex-m3", "rp2040"])
def test_predicted_sizes_are_those_of_the_linked_firmware(name: str, board: str, tmp_path: Path) -> None:
    """Flash and RAM within 2 % (or 32 bytes of stack); instructions within 5 %."""
    ig, target = NETWORKS[name](), load_target(board)
    write_firmware(tmp_path, emit(ig, target))
    firmware = build(tmp_path, target)
    source, result = ig.tensors[ig.inputs[0]], ig.tensors[ig.outputs[0]]
    run = UnicornMachine(firmware, source.bytes, result.bytes).run(np.random.default_rng(0).bytes(source.bytes))
    costs, sizes = estimate(ig, target), firmware.image.sizes
    assert costs.flash_bytes == pytest.approx(sizes.flash_bytes, rel=0.02)
    assert costs.ram_bytes == pytest.approx(sizes.static_bytes + run.stack_bytes, rel=0.02, abs=32)
    assert costs.instructions == pytest.approx(run.instructions, rel=0.05)
    assert costs.arena_bytes + costs.static_bytes + costs.stack_bytes == costs.ram_bytes
    assert sum(layer.instructions for layer in costs.layers) == costs.instructions


def test_kernels_were_measured_as_they_are() -> None:
    """Whoever changes a kernel runs benchmarks/fit_latency.py."""
    assert measured_sources() == source_hash()
