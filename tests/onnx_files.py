"""Float ONNX files for tests of their importer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx_cases import Network

from thumbnet.importers.imported import Imported


def saved(tmp_path: Path, model: onnx.ModelProto | bytes) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def ops(made: Imported) -> list[str]:
    return [n.op for n in made.graph.nodes]


def small(channels: int = 6) -> Network:
    net = Network(("N", 3, 16, 16), 17)
    x = net.op("Relu", net.conv("x", 3, channels, 3, 3, pads=[1, 1, 1, 1], strides=[2, 2]))
    x = net.op("Add", x, net.op("Relu", net.conv(x, channels, channels, 3, 3, groups=channels, pads=[1, 1, 1, 1])))
    x = net.op("Clip", net.conv(x, channels, 8, 1, 1), np.float32(0), np.float32(6))
    net.dense(net.op("Flatten", net.op("GlobalAveragePool", x)), 8, 4)
    return net
