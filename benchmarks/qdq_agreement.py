"""How close an imported QDQ ONNX model is to ONNX Runtime, on a pre-trained network and real images.

    python benchmarks/qdq_agreement.py [--images 1000] [--json FILE]

Builds the CIFAR-10 ResNet-20 of `models/cifar10_resnet` as a float ONNX graph, has `onnxruntime.quantization` quantize
it (QDQ, weights by channel, calibrated on 200 training images), imports it, and runs both on test images. The reference
is ONNX Runtime without graph optimizations, which computes node by node what the file says; its optimized kernels are
compared as well, because on processors without VNNI those for uint8 saturate. Reads weights and images from the folder
that THUMBNET_SHARED names.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from PIL import Image

from thumbnet.importers.qdq import import_qdq
from thumbnet.integer import simulate

RESULTS = Path(__file__).parent / "results"
CALIBRATION_IMAGES = 200
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
Weights = dict[str, np.ndarray]


class ResNet20:
    """The float network, node by node. Shortcuts take every second pixel and add channels of zeros."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        y = self.op("Relu", self.convolution("x", "conv1", "bn1", 1))
        for layer, channels in ((1, 16), (2, 32), (3, 64)):
            for block in range(3):
                y = self.block(y, f"layer{layer}.{block}.", channels, 2 if layer > 1 and block == 0 else 1)
        y = self.op("Flatten", self.op("GlobalAveragePool", y))
        self.output = self.op("Gemm", y, weights["linear.weight"], weights["linear.bias"], transB=1)

    def op(self, kind: str, *inputs: Any, **attributes: Any) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        names = [v if isinstance(v, str) else f"{name}/{k}" for k, v in enumerate(inputs)]
        self.constants += [
            numpy_helper.from_array(np.asarray(v), n)
            for n, v in zip(names, inputs, strict=True)
            if not isinstance(v, str)
        ]
        self.nodes.append(helper.make_node(kind, names, [name], name=name, **attributes))
        return name

    def convolution(self, x: str, conv: str, norm: str, stride: int) -> str:
        w = {k.removeprefix(f"{norm}."): v.astype(np.float64) for k, v in self.weights.items() if k.startswith(norm)}
        gain = w["weight"] / np.sqrt(w["running_var"] + 1e-5)
        weight = (self.weights[f"{conv}.weight"] * gain[:, None, None, None]).astype(np.float32)
        bias = (w["bias"] - w["running_mean"] * gain).astype(np.float32)
        return self.op("Conv", x, weight, bias, pads=[1] * 4, strides=[stride] * 2)

    def block(self, x: str, name: str, channels: int, stride: int) -> str:
        y = self.op("Relu", self.convolution(x, f"{name}conv1", f"{name}bn1", stride))
        y = self.convolution(y, f"{name}conv2", f"{name}bn2", 1)
        if stride == 2:
            end = np.array([1 << 31, 1 << 31])
            x = self.op("Slice", x, np.array([0, 0]), end, np.array([2, 3]), np.array([2, 2]))
            x = self.op("Pad", x, np.array([0, channels // 4, 0, 0] * 2))
        return self.op("Relu", self.op("Add", y, x))

    def model(self) -> onnx.ModelProto:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 32, 32])
        y = helper.make_tensor_value_info(self.output, TensorProto.FLOAT, ["batch", 10])
        graph = helper.make_graph(self.nodes, "resnet20", [x], [y], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        return onnx.shape_inference.infer_shapes(model)


class Images(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, images: np.ndarray) -> None:
        self.left: Iterator[dict[str, np.ndarray]] = iter({"x": images[i : i + 1]} for i in range(len(images)))

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.left, None)


def sheet(path: Path) -> np.ndarray:
    """The 1,000 images of a sheet, normalized, float32 [1000, 3, 32, 32]."""
    pixels = np.array(Image.open(path).convert("RGB")).reshape(25, 32, 40, 32, 3).transpose(0, 2, 1, 3, 4)
    normalized: np.ndarray = (pixels.reshape(1000, 32, 32, 3) / np.float32(255) - MEAN) / STD
    return normalized.transpose(0, 3, 1, 2).astype(np.float32)


def quantized(model: onnx.ModelProto, images: np.ndarray, activations: QuantType) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "float.onnx", Path(folder) / "quantized.onnx"
        onnx.save(model, before)
        quantize_static(
            before,
            after,
            Images(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=activations,
            weight_type=QuantType.QInt8,
        )
        return after.read_bytes()


def runtime(data: bytes, images: np.ndarray, level: onnxruntime.GraphOptimizationLevel) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1  # more would sum in another order
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    logits: np.ndarray = session.run(None, {"x": images})[0]
    return logits


def measure(shared: Path, count: int) -> Iterator[dict[str, Any]]:
    data = shared / "data" / "cifar10"
    model = ResNet20(dict(np.load(shared / "models" / "cifar10_resnet" / "resnet20.npz"))).model()
    images, labels = sheet(data / "test_00.webp")[:count], np.load(data / "test_labels.npy")[:count]
    calibration = sheet(data / "train_00.webp")[:CALIBRATION_IMAGES]
    levels = onnxruntime.GraphOptimizationLevel
    for activations in (QuantType.QInt8, QuantType.QUInt8):
        file = quantized(model, calibration, activations)
        imported = import_qdq(file)
        (port,), (out,) = imported.inputs, imported.outputs
        ours = simulate.run(imported.graph, port.stored(images))[out.tensor.name].reshape(len(images), -1)
        plain = runtime(file, images, levels.ORT_DISABLE_ALL)
        optimized = runtime(file, images, levels.ORT_ENABLE_ALL)
        steps = np.abs(out.stored(plain).reshape(ours.shape).astype(int) - ours)
        values = {
            "top1_agreement": ((ours.argmax(1) == plain.argmax(1)).mean(), "fraction"),
            "top1_agreement_with_optimized_runtime": ((ours.argmax(1) == optimized.argmax(1)).mean(), "fraction"),
            "top1_agreement_of_runtime_with_optimized_runtime": (
                (plain.argmax(1) == optimized.argmax(1)).mean(),
                "fraction",
            ),
            "accuracy": ((ours.argmax(1) == labels).mean(), "fraction"),
            "accuracy_of_runtime": ((plain.argmax(1) == labels).mean(), "fraction"),
            "largest_difference": (steps.max(), "steps of the logits"),
            "mean_difference": (steps.mean(), "steps of the logits"),
        }
        for name, (value, unit) in values.items():
            path = f"resnet20_cifar10/{activations.name}/{name}"
            print(f"{path:80} {float(value):.4f} {unit}", flush=True)
            yield {"name": path, "value": float(value), "unit": unit, "kind": "measured", "n": len(images)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000, help="test images, at most 1000")
    parser.add_argument("--json", type=Path, default=RESULTS / "qdq_agreement.json")
    arguments = parser.parse_args()
    if "THUMBNET_SHARED" not in os.environ:
        parser.error("set THUMBNET_SHARED to the folder that holds models/cifar10_resnet and data/cifar10")
    logging.disable(logging.WARNING)  # of the quantizer, about preprocessing
    onnxruntime.set_default_logger_severity(3)
    figures = list(measure(Path(os.environ["THUMBNET_SHARED"]), arguments.images))
    machine = {"processor": platform.processor(), "python": platform.python_version(), "system": platform.platform()}
    versions = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(
        json.dumps({"figures": figures, "machine": machine, "versions": versions, "seed": None}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
