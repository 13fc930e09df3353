"""Float and quantized TFLite files → the float graph, compared with LiteRT."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from thumbnet.errors import ModelError, UnsupportedOpError
from thumbnet.exporters.tflite_file import TfliteFile
from thumbnet.graph.evaluate import evaluate_values
from thumbnet.importers.imported import Imported
from thumbnet.importers.tflite_float import check_tflite, import_tflite

SHARED = Path(os.environ.get("THUMBNET_SHARED", ""))
MODELS, SAMPLES = SHARED / "models" / "mlperf_tiny", SHARED / "data" / "mlperf_tiny_samples"
NONE, RELU, N1, RELU6 = 0, 1, 2, 3
SAME, VALID = 0, 1


class FloatFile:
    """A float32 file in the making, operator by operator."""

    def __init__(self, *shape: int) -> None:
        self.file, self.rng = TfliteFile(), np.random.default_rng(0)
        self.x = self.file.tensor("x", shape, np.float32)
        self.inputs, self.outputs = [self.x], [self.x]

    def constant(self, *shape: int, scale: float = 1.0) -> int:
        data = self.rng.normal(0, scale, shape).astype(np.float32)
        return self.file.tensor("constant", shape, np.float32, data=data)

    def integers(self, values: Any) -> int:
        data = np.asarray(values, np.int32)
        return self.file.tensor("integers", data.shape, np.int32, data=data)

    def add(self, op: str, inputs: Sequence[int], *shapes: tuple[int, ...], options: str = "", **kw: Any) -> int:
        outputs = [self.file.tensor(f"{op}{k}".lower(), s, np.float32) for k, s in enumerate(shapes)]
        self.file.operator(op, 1, inputs, outputs, options, **kw)
        self.outputs = outputs
        return outputs[0]

    def bytes(self) -> bytes:
        return self.file.finish("model", self.inputs, self.outputs)


def conv(f: FloatFile, stride: int = 1, padding: int = SAME, activation: int = NONE, dilation: int = 1) -> None:
    reach = 2 * dilation + 1
    size = [-(-n // stride) if padding == SAME else (n - reach) // stride + 1 for n in (9, 8)]
    weights = [f.constant(6, 3, 3, 4), f.constant(6)]
    f.add(
        "CONV_2D", [f.x, *weights], (1, *size, 6), options="Conv2DOptions", padding=padding, strideH=stride,
        strideW=stride, dilationHFactor=dilation, dilationWFactor=dilation, fusedActivationFunction=activation,
    )  # fmt: skip


def depthwise(f: FloatFile, stride: int, multiplier: int) -> None:
    size, channels = [-(-n // stride) for n in (9, 8)], 4 * multiplier
    f.add(
        "DEPTHWISE_CONV_2D", [f.x, f.constant(1, 3, 3, channels), f.constant(channels)], (1, *size, channels),
        options="DepthwiseConv2DOptions", padding=SAME, strideH=stride, strideW=stride, dilationHFactor=1,
        dilationWFactor=1, depthMultiplier=multiplier, fusedActivationFunction=RELU6,
    )  # fmt: skip


def transposed(f: FloatFile, kernel: int, stride: int, padding: int) -> None:
    size = [n * stride if padding == SAME else (n - 1) * stride + kernel for n in (9, 8)]
    inputs = [f.integers([1, *size, 5]), f.constant(5, kernel, kernel, 4), f.x]
    f.add("TRANSPOSE_CONV", inputs, (1, *size, 5), options="TransposeConvOptions", padding=padding, strideH=stride,
          strideW=stride)  # fmt: skip


def dense(f: FloatFile) -> None:
    flat = f.add("RESHAPE", [f.x, f.integers([1, 288])], (1, 288))
    f.add("FULLY_CONNECTED", [flat, f.constant(5, 288), f.constant(5)], (1, 5), options="FullyConnectedOptions",
          fusedActivationFunction=RELU)  # fmt: skip


def pool(f: FloatFile, op: str, kernel: int, stride: int, padding: int) -> None:
    size = [-(-n // stride) if padding == SAME else (n - kernel) // stride + 1 for n in (9, 8)]
    f.add(op, [f.x], (1, *size, 4), options="Pool2DOptions", padding=padding, strideH=stride, strideW=stride,
          filterHeight=kernel, filterWidth=kernel)  # fmt: skip


def unary(f: FloatFile, op: str, options: str = "", **kw: Any) -> None:
    f.add(op, [f.x], (1, 9, 8, 4), options=options, **kw)


def with_constant(f: FloatFile, op: str, *shape: int, first: bool = False) -> None:
    c = f.constant(*shape)
    options = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "DIV": "DivOptions"}[op]
    f.add(op, [c, f.x] if first else [f.x, c], (1, 9, 8, 4), options=options)


def gated(f: FloatFile) -> None:
    """Squeeze and excite: the mean over the image, through a sigmoid, times the image."""
    mean = f.add("MEAN", [f.x, f.integers([1, 2])], (1, 1, 1, 4), options="ReducerOptions", keepDims=True)
    f.add("MUL", [f.x, f.add("LOGISTIC", [mean], (1, 1, 1, 4))], (1, 9, 8, 4), options="MulOptions")


def reduce(f: FloatFile, op: str, axes: list[int], *shape: int) -> None:
    f.add(op, [f.x, f.integers(axes)], shape, options="ReducerOptions", keepDims=len(shape) == 4)


def cut(f: FloatFile) -> None:
    part = f.add("SLICE", [f.x, f.integers([0, 1, 0, 1]), f.integers([1, 8, -1, 2])], (1, 8, 8, 2))
    f.add(
        "STRIDED_SLICE", [part, *(f.integers(v) for v in ([0, 0, 1, 0], [0, 0, 7, 0], [1, 2, 3, 1]))], (1, 4, 2, 2),
        options="StridedSliceOptions", beginMask=0b1011, endMask=0b1011, ellipsisMask=0, newAxisMask=0,
        shrinkAxisMask=0,
    )  # fmt: skip


def split(f: FloatFile) -> None:
    f.add("SPLIT", [f.integers(3), f.x], (1, 9, 8, 2), (1, 9, 8, 2), options="SplitOptions", numSplits=2)
    a, b = f.outputs
    f.add("CONCATENATION", [b, a, b], (1, 9, 24, 2), options="ConcatenationOptions", axis=2)


def unpack(f: FloatFile) -> None:
    f.add("UNPACK", [f.x], *[(1, 9, 8)] * 4, options="UnpackOptions", axis=3, num=4)
    f.add("PACK", f.outputs[::-1], (1, 9, 4, 8), options="PackOptions", axis=2, valuesCount=4)


def resize(f: FloatFile, op: str, corners: bool = False, half: bool = False) -> None:
    kind = {"RESIZE_BILINEAR": "ResizeBilinearOptions", "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions"}[op]
    f.add(op, [f.x, f.integers([18, 16])], (1, 18, 16, 4), options=kind, alignCorners=corners, halfPixelCenters=half)


def reorder(f: FloatFile) -> None:
    y = f.add("TRANSPOSE", [f.x, f.integers([0, 3, 1, 2])], (1, 4, 9, 8))
    y = f.add("RESHAPE", [y, f.integers([1, 6, 6, 8])], (1, 6, 6, 8))
    y = f.add("SPACE_TO_DEPTH", [y], (1, 3, 3, 32), options="SpaceToDepthOptions", blockSize=2)
    f.add("DEPTH_TO_SPACE", [y], (1, 12, 12, 2), options="DepthToSpaceOptions", blockSize=4)


OPERATORS: dict[str, Callable[[FloatFile], None]] = {
    "conv": conv,
    "conv stride": lambda f: conv(f, 2, activation=RELU),
    "conv valid": lambda f: conv(f, 2, VALID, N1),
    "conv dilation": lambda f: conv(f, dilation=2),
    "depthwise": lambda f: depthwise(f, 1, 1),
    "depthwise multiplier": lambda f: depthwise(f, 2, 2),
    **{f"transposed {k} {s} {p}": lambda f, k=k, s=s, p=p: transposed(f, k, s, p)  # type: ignore[misc]
       for k, s, p in ((2, 2, SAME), (3, 2, SAME), (3, 2, VALID), (4, 2, SAME), (3, 1, SAME))},
    "dense": dense,
    **{f"{op} {k} {s} {p}": lambda f, op=op, k=k, s=s, p=p: pool(f, op, k, s, p)  # type: ignore[misc]
       for op in ("MAX_POOL_2D", "AVERAGE_POOL_2D") for k, s, p in ((2, 2, VALID), (3, 2, SAME), (3, 1, SAME))},
    **{op: lambda f, op=op: unary(f, op)  # type: ignore[misc]
       for op in ("RELU", "RELU6", "RELU_N1_TO_1", "LOGISTIC", "TANH", "HARD_SWISH", "ELU", "ABS", "NEG", "SQUARE")},
    "LEAKY_RELU": lambda f: unary(f, "LEAKY_RELU", "LeakyReluOptions", alpha=0.2),
    "SOFTMAX": lambda f: unary(f, "SOFTMAX", "SoftmaxOptions", beta=1.5),
    "PRELU": lambda f: f.add("PRELU", [f.x, f.constant(1, 1, 4)], (1, 9, 8, 4)) and None,
    "add channel": lambda f: with_constant(f, "ADD", 4),
    "sub from": lambda f: with_constant(f, "SUB", 1, 1, 1, 4, first=True),
    "mul one": lambda f: with_constant(f, "MUL", 1),
    "mul columns": lambda f: with_constant(f, "MUL", 1, 1, 8, 1),
    "div": lambda f: with_constant(f, "DIV", 4),
    "gated": gated,
    "mean": lambda f: reduce(f, "MEAN", [1, 2], 1, 4),
    "sum": lambda f: reduce(f, "SUM", [-1], 1, 9, 8, 1),
    "max": lambda f: reduce(f, "REDUCE_MAX", [1], 1, 8, 4),
    "min": lambda f: reduce(f, "REDUCE_MIN", [1, 2], 1, 1, 1, 4),
    "cut": cut,
    "split": split,
    "unpack": unpack,
    "nearest": lambda f: resize(f, "RESIZE_NEAREST_NEIGHBOR"),
    "nearest half": lambda f: resize(f, "RESIZE_NEAREST_NEIGHBOR", half=True),
    "bilinear": lambda f: resize(f, "RESIZE_BILINEAR"),
    "bilinear corners": lambda f: resize(f, "RESIZE_BILINEAR", corners=True),
    "bilinear half": lambda f: resize(f, "RESIZE_BILINEAR", half=True),
    "reorder": reorder,
    "pad": lambda f: f.add("PAD", [f.x, f.integers([[0, 0], [1, 2], [0, 3], [1, 0]])], (1, 12, 11, 5)) and None,
    "mirror": lambda f: f.add("MIRROR_PAD", [f.x, f.integers([[0, 0], [1, 2], [0, 3], [0, 0]])], (1, 12, 11, 4),
                              options="MirrorPadOptions", mode=0) and None,
}  # fmt: skip


def outputs(made: Imported, *given: np.ndarray) -> list[np.ndarray]:
    """Of the graph, in the axes of the file."""
    feeds = {
        p.name: torch.from_numpy(np.ascontiguousarray(p.to_graph(x))) for p, x in zip(made.inputs, given, strict=True)
    }
    values = evaluate_values(made.graph, feeds)
    return [p.to_source(values[p.name].numpy()) for p in made.outputs]


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator(name: str, tmp_path: Path) -> None:
    file = FloatFile(1, 9, 8, 4)
    OPERATORS[name](file)
    path = tmp_path / "model.tflite"
    path.write_bytes(file.bytes())
    made = import_tflite(path, isolated=False)
    x = np.random.default_rng(1).normal(0, 3, (3, 9, 8, 4)).astype(np.float32)
    assert made.run is not None
    for own, reference in zip(outputs(made, x), made.run([x]), strict=True):
        np.testing.assert_allclose(own, reference, atol=1e-5 * max(1, float(np.abs(reference).max())))
    assert {r.state for r in check_tflite(path)} == {"supported"}


def test_halves_are_unpacked(tmp_path: Path) -> None:
    f = FloatFile(1, 9, 8, 4)
    data = f.rng.normal(0, 1, (6, 1, 1, 4)).astype(np.float16)
    half = f.file.tensor("half", data.shape, np.float16, data=data)
    weights = f.add("DEQUANTIZE", [half], (6, 1, 1, 4))
    f.add("CONV_2D", [f.x, weights, f.constant(6)], (1, 9, 8, 6), options="Conv2DOptions", padding=SAME, strideH=1,
          strideW=1, dilationHFactor=1, dilationWFactor=1)  # fmt: skip
    path = tmp_path / "model.tflite"
    path.write_bytes(f.bytes())
    assert import_tflite(path, isolated=False).max_difference < 1e-5


def test_check_goes_on_behind_what_is_refused(tmp_path: Path) -> None:
    f = FloatFile(1, 9, 8, 4)
    y = f.add("GELU", [f.x], (1, 9, 8, 4), options="GeluOptions")
    y = f.add("RELU", [y], (1, 9, 8, 4))
    f.add("L2_NORMALIZATION", [y], (1, 9, 8, 4), options="L2NormOptions")
    path = tmp_path / "model.tflite"
    path.write_bytes(f.bytes())
    assert [(r.op, r.state) for r in check_tflite(path)] == [
        *(("GELU", "refused"), ("RELU", "supported"), ("L2_NORMALIZATION", "refused")),
    ]
    with pytest.raises(UnsupportedOpError, match="GELU"):
        import_tflite(path)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    f = FloatFile(1, 9, 8, 4)
    conv(f)
    whole, path, rng = f.bytes(), tmp_path / "model.tflite", np.random.default_rng(0)
    for count in (0, 7, 100, len(whole) // 2):
        path.write_bytes(whole[:count])
        with pytest.raises(ModelError):
            import_tflite(path)
    for _ in range(60):
        data = bytearray(whole)
        for k in rng.integers(0, len(data), 4):
            data[k] ^= int(rng.integers(1, 256))
        path.write_bytes(data)
        try:  # never a traceback; numbers of weights may change without notice
            check_tflite(path)
        except ModelError:
            continue


# --- real files


@pytest.mark.parametrize(
    "name",
    [
        *("vww_96_float", "ad01_fp32", "pretrainedResnet", "kws_ref_model_float32"),
        *("vww_96_int8", "ad01_int8", "pretrainedResnet_quant", "kws_ref_model", "str_ww_ref_model"),
    ],
)
def test_mlperf_tiny(name: str) -> None:
    path = MODELS / f"{name}.tflite"
    if not path.exists():
        pytest.skip("set THUMBNET_SHARED to the folder that holds models/mlperf_tiny")
    made = import_tflite(path, isolated=name == "vww_96_float")
    assert made.max_difference <= made.tolerance
    assert {r.state for r in check_tflite(path)} == {"supported"}


@pytest.mark.parametrize(
    ("name", "hits", "agrees"),
    [("pretrainedResnet", 0.85, 1.0), ("pretrainedResnet_quant", 0.85, 0.96), ("kws_ref_model", 0.9, 0.985)],
)
def test_classes_of_real_inputs(name: str, hits: float, agrees: float) -> None:
    """The float network behind an int8 file answers as the file does, and as well."""
    if not SAMPLES.exists():
        pytest.skip("set THUMBNET_SHARED to the folder that holds data/mlperf_tiny_samples")
    folder, dtype, shape = ("kws01", np.int8, (49, 10, 1)) if "kws" in name else ("ic01", np.uint8, (32, 32, 3))
    with (SAMPLES / folder / "y_labels.csv").open() as f:
        rows = [(r[0], int(r[2])) for r in csv.reader(f)]
    stored = np.stack([np.fromfile(SAMPLES / folder / n, dtype).reshape(shape) for n, _ in rows]).astype(np.float32)
    made = import_tflite(MODELS / f"{name}.tflite", isolated=False)
    if dtype == np.int8:
        low, high = made.ranges[0] or (0.0, 0.0)
        stored = (stored + 128) * np.float32((high - low) / 255) + np.float32(low)
    assert made.run is not None
    own, reference = outputs(made, stored)[0].argmax(1), np.asarray(made.run([stored])[0]).argmax(1)
    assert (own == [label for _, label in rows]).mean() >= hits
    assert (own == reference).mean() >= agrees


def test_a_layer_of_a_quantized_file_that_differs_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the converter's own fault: a bias 5 % too large, which the outputs of a classifier would hardly show."""
    from thumbnet.importers.tflite_values import FloatOperator

    path = MODELS / "pretrainedResnet_quant.tflite"
    if not path.exists():
        pytest.skip("set THUMBNET_SHARED to the folder that holds models/mlperf_tiny")
    bias = FloatOperator.bias
    monkeypatch.setattr(FloatOperator, "bias", lambda o, k, n: np.float32(1.05) * bias(o, k, n))
    with pytest.raises(ModelError, match="steps of its quantized numbers"):
        import_tflite(path, isolated=False)
