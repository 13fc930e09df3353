"""ONNX graphs made node by node, quantized by ONNX Runtime or by hand, and run by ONNX Runtime."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from thumbnet.importers.qdq import QdqModel, import_qdq
from thumbnet.integer import simulate

Array = npt.NDArray[Any]
Pair = tuple[float, int]  # scale, zero point

onnxruntime.set_default_logger_severity(4)


class Network:
    """Nodes collected so far. Methods return the name of a value; constants may be given as arrays."""

    def __init__(self, shape: Sequence[int | str], opset: int = 17, dtype: Any = np.float32, seed: int = 0) -> None:
        self.shape, self.opset, self.dtype = list(shape), opset, dtype
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.rng = np.random.default_rng(seed)

    def name(self, kind: str) -> str:
        return f"{kind}_{len(self.nodes) + len(self.constants)}"

    def constant(self, values: npt.ArrayLike) -> str:
        name = self.name("constant")
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def op(self, kind: str, *inputs: str | npt.ArrayLike, count: int = 1, **attributes: Any) -> Any:
        """The output's name; with `count` a list of so many."""
        names = [v if isinstance(v, str) else self.constant(v) for v in inputs]
        name = self.name(kind.lower())
        outputs = [name] if count == 1 else [f"{name}_{k}" for k in range(count)]
        self.nodes.append(helper.make_node(kind, names, outputs, name=name, **attributes))
        return outputs[0] if count == 1 else outputs

    def normal(self, *shape: int, scale: float = 1.0) -> Array:
        return self.rng.normal(0, scale, shape).astype(np.float32)

    def conv(self, x: str, inputs: int, outputs: int, *kernel: int, groups: int = 1, **attributes: Any) -> str:
        scale = (inputs // groups * np.prod(kernel)) ** -0.5
        weight, bias = self.normal(outputs, inputs // groups, *kernel, scale=scale), self.normal(outputs, scale=0.3)
        return str(self.op("Conv", x, weight, bias, group=groups, **attributes))

    def dense(self, x: str, inputs: int, outputs: int) -> str:
        weight = self.normal(outputs, inputs, scale=inputs**-0.5)
        return str(self.op("Gemm", x, weight, self.normal(outputs, scale=0.3), transB=1))

    def quantized(self, x: str | npt.ArrayLike, pair: Pair, dtype: Any = np.uint8) -> str:
        """`x` through QuantizeLinear and DequantizeLinear."""
        scale, zero_point = np.float32(pair[0]), np.asarray(pair[1], dtype)
        return str(self.op("DequantizeLinear", self.op("QuantizeLinear", x, scale, zero_point), scale, zero_point))

    def weights(self, values: Array, scales: npt.ArrayLike, axis: int) -> str:
        """int8 weights, stored as such, with scales along an axis."""
        zeros, along = np.zeros(np.shape(scales), np.int8), {"axis": axis} if np.shape(scales) else {}
        return str(self.op("DequantizeLinear", values.astype(np.int8), np.float32(scales), zeros, **along))

    def model(self, *outputs: str, output_type: int = TensorProto.FLOAT) -> onnx.ModelProto:
        """Of the last node's output, or those named."""
        names = outputs or (self.nodes[-1].output[0],)
        x = helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype)), self.shape)
        ends = [helper.make_tensor_value_info(v, output_type, None) for v in names]
        graph = helper.make_graph(self.nodes, "network", [x], ends, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        model.ir_version = 8 if self.opset < 20 else 10
        return model


def quantize(network: Network, *outputs: str, samples: Array | None = None, **options: Any) -> bytes:
    """The QDQ model that ONNX Runtime makes of a float network, calibrated on `samples` [N, …] or normal noise."""
    from onnxruntime.quantization import QuantFormat, quantize_static

    logging.disable(logging.WARNING)  # of the quantizer, about preprocessing
    model = onnx.shape_inference.infer_shapes(network.model(*outputs))
    onnx.checker.check_model(model)
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "float.onnx", Path(folder) / "quantized.onnx"
        onnx.save(model, before)
        x = noise(network, 16) if samples is None else samples
        quantize_static(before, after, _reader(x), quant_format=QuantFormat.QDQ, **options)
        return after.read_bytes()


def _reader(samples: Array) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left: Iterator[dict[str, Array]] = iter({"x": samples[i : i + 1]} for i in range(len(samples)))

        def get_next(self) -> dict[str, Array] | None:
            return next(self.left, None)

    return Reader()


def noise(network: Network, count: int) -> Array:
    sizes = [d if isinstance(d, int) else 1 for d in network.shape[1:]]
    return np.random.default_rng(1).normal(0, 1, (count, *sizes)).astype(np.float32)


def runtime(data: bytes) -> Callable[[Array], list[Array]]:
    """ONNX Runtime on a model, one sample at a time and node by node: without the fusions that round otherwise."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(samples: Array) -> list[Array]:
        found = [session.run(None, {name: samples[i : i + 1]}) for i in range(len(samples))]
        return [np.stack(outputs) for outputs in zip(*found, strict=True)]

    return run


def compared(data: bytes, samples: Array | None = None, count: int = 48) -> tuple[QdqModel, list[Array]]:
    """The import, and by output how many steps the integer graph is off ONNX Runtime, element by element.

    `samples` are as the file wants them; by default all stored values occur.
    """
    imported = import_qdq(data)
    (port,) = imported.inputs
    if samples is None:
        rng = np.random.default_rng(2)
        stored = rng.integers(-128, 128, (count, *port.tensor.shape)).astype(np.int8)
    else:
        stored = port.stored(samples)
    expected = runtime(data)(port.original(stored))
    given = simulate.run(imported.graph, stored)
    off = [
        np.abs(p.stored(e).astype(int) - given[p.tensor.name]) for p, e in zip(imported.outputs, expected, strict=True)
    ]
    return imported, off
