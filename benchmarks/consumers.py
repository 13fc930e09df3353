"""The software on the other side of every exit: a model, in files of ours or of others, run by what will run it.

    python benchmarks/consumers.py [--images N] [--json FILE]

Each function takes a file's bytes and inputs [N, *shape], one array per input, and returns outputs [N, *shape] in the
file's own types; or raises `AbsentError`, which says why that software is not here. As a program: the MLPerf Tiny files
with published accuracy, and what our exporter writes of them, on the images of `data/mlperf_tiny_samples` in the folder
that THUMBNET_SHARED names.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.errors import ToolchainError
from thumbnet.exporters.ethos_u import EthosU, compile_for_ethos_u
from thumbnet.exporters.onnx_qdq import to_qdq
from thumbnet.exporters.onnx_qdq_writer import quantized_inputs, real_values
from thumbnet.exporters.tflite import run_tflm, to_tflite
from thumbnet.exporters.tflite_arm_nn import for_arm_nn
from thumbnet.importers.tflite import import_tflite
from thumbnet.integer import simulate
from thumbnet.integer.graph import IntegerGraph

Array = npt.NDArray[Any]
Consumer = Callable[[bytes, Sequence[Array]], list[Array]]

ARMNN_PYTHON = "/usr/bin/python3"  # the one that Debian's python3-pyarmnn is installed for
ARMNN_SECONDS = 900
RESULTS = Path(__file__).parent / "results"


class AbsentError(Exception):
    """The software is not installed here; the text says how to get it."""


# --- TFLite files


def tflite_micro(model: bytes, inputs: Sequence[Array]) -> list[Array]:
    """TensorFlow Lite for Microcontrollers: what the integer graph is defined by."""
    if importlib.util.find_spec("tflite_micro") is None:
        raise AbsentError("pip install 'thumbnet[tflm]'")
    found = run_tflm(model, list(inputs))
    return [found] if isinstance(found, np.ndarray) else list(found)


def litert(model: bytes, inputs: Sequence[Array]) -> list[Array]:
    """LiteRT's interpreter with its reference kernels."""
    from ai_edge_litert.interpreter import OpResolverType

    return _litert(model, inputs, OpResolverType.BUILTIN_REF)


def litert_xnnpack(model: bytes, inputs: Sequence[Array]) -> list[Array]:
    """LiteRT as applications run it: with the delegate XNNPACK where it takes an operator."""
    from ai_edge_litert.interpreter import OpResolverType

    return _litert(model, inputs, OpResolverType.AUTO)


def _litert(model: bytes, inputs: Sequence[Array], resolver: Any) -> list[Array]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, experimental_op_resolver_type=resolver, num_threads=1)
    ports, ends = interpreter.get_input_details(), interpreter.get_output_details()
    for port in ports:  # files from Keras have a free batch axis
        interpreter.resize_tensor_input(port["index"], [1, *port["shape"][1:]])
    interpreter.allocate_tensors()
    found: list[list[Array]] = [[] for _ in ends]
    for i in range(len(inputs[0])):
        for port, x in zip(ports, inputs, strict=True):
            interpreter.set_tensor(port["index"], x[i].reshape(1, *port["shape"][1:]))
        interpreter.invoke()
        for values, end in zip(found, ends, strict=True):
            values.append(interpreter.get_tensor(end["index"])[0].copy())
    return [np.stack(values) for values in found]


def arm_nn(model: bytes, inputs: Sequence[Array]) -> list[Array]:
    """Arm NN 20.08 with the backend CpuRef, from Debian's packages, in their own Python."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "model.tflite").write_bytes(model)
        np.savez(folder / "inputs.npz", **{f"input{k}": x for k, x in enumerate(inputs)})  # type: ignore[arg-type]
        if not _has_armnn():
            raise AbsentError(
                "apt install python3-pyarmnn libarmnn-cpuref-backend22 libarmnntfliteparser22 (Debian 12)"
            )
        names = [str(folder / n) for n in ("model.tflite", "inputs.npz", "outputs.npz")]
        child = str(Path(__file__).with_name("armnn_child.py"))
        done = subprocess.run(
            [ARMNN_PYTHON, "-I", child, *names], capture_output=True, timeout=ARMNN_SECONDS, env={}, check=False
        )
        if done.returncode != 0:
            log = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise ToolchainError(f"Arm NN cannot run the file: {log[-400:]}")
        with np.load(folder / "outputs.npz", allow_pickle=False) as r:
            return [r[f"output{k}"] for k in range(len(r.files))]


def _has_armnn() -> bool:
    if not Path(ARMNN_PYTHON).is_file():
        return False
    asked = [ARMNN_PYTHON, "-I", "-c", "import importlib.util as u; raise SystemExit(u.find_spec('pyarmnn') is None)"]
    return subprocess.run(asked, capture_output=True, env={}, check=False).returncode == 0


def vela(model: bytes, accelerator: str = "ethos-u55-128") -> EthosU:
    """Arm's compiler for Ethos-U: what it makes of the file, and its figures."""
    if importlib.util.find_spec("ethosu") is None:
        raise AbsentError("pip install 'thumbnet[ethos-u]'")
    return compile_for_ethos_u(model, accelerator)


# --- ONNX files


def onnx_runtime(model: bytes, inputs: Sequence[Array], *, optimized: bool = True) -> list[Array]:
    """ONNX Runtime on the CPU; without `optimized` node by node, as the file says."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise AbsentError("pip install onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    return [np.asarray(y) for y in session.run(None, dict(zip(names, inputs, strict=True)))]


def onnx_stored(model: bytes, graph: IntegerGraph, stored: Sequence[Array], *, optimized: bool = True) -> list[Array]:
    """As `onnx_runtime` for a file of `to_qdq(graph)`, int8 in and out as the graph stores them."""
    feeds = [real_values(x, graph.tensors[v]) for v, x in zip(graph.inputs, stored, strict=True)]
    outputs = onnx_runtime(model, feeds, optimized=optimized)
    return [quantized_inputs(y, graph.tensors[v]) for v, y in zip(graph.outputs, outputs, strict=True)]


TFLITE_CONSUMERS: dict[str, Consumer] = {
    "tflite-micro": tflite_micro,
    "LiteRT, reference kernels": litert,
    "LiteRT, XNNPACK": litert_xnnpack,
    "Arm NN 20.08, CpuRef": arm_nn,
}


# --- the published models on their images


def samples(name: str, count: int | None = None) -> tuple[Array, Array]:
    """(int8 [N, *shape], labels [N]) of "ic01" (CIFAR-10) or "kws01" (keywords), `count` of them spread over all."""
    folder = Path(os.environ["THUMBNET_SHARED"]) / "data" / "mlperf_tiny_samples" / name
    with (folder / "y_labels.csv").open(newline="") as f:
        rows = list(csv.reader(f))
    if count is not None:
        rows = [rows[i] for i in np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]
    raw = np.stack([np.frombuffer((folder / r[0]).read_bytes(), np.uint8) for r in rows])
    values = (raw ^ 0x80).view(np.int8).reshape(-1, 32, 32, 3) if name == "ic01" else raw.view(np.int8)
    return values.reshape(len(rows), *((32, 32, 3) if name == "ic01" else (49, 10, 1))), np.array(
        [int(r[2]) for r in rows]
    )


MODELS = {"ResNet8": ("pretrainedResnet_quant.tflite", "ic01"), "DS-CNN": ("kws_ref_model.tflite", "kws01")}


def compare(model: bytes, graph: IntegerGraph, x: Array, labels: Array) -> dict[str, Any]:
    """Every consumer's agreement with the integer graph's simulator, which is what our firmware computes."""
    expected = simulate.run(graph, x)[graph.outputs[0]].reshape(len(x), -1).astype(int)
    qdq = to_qdq(graph)

    def figures(found: list[Array]) -> dict[str, float]:
        y = found[0].reshape(len(x), -1).astype(int)
        return {
            "top1_agreement": 100 * float(np.mean(y.argmax(1) == expected.argmax(1))),
            "largest_lsb": int(np.abs(y - expected).max()),
            "accuracy": 100 * float(np.mean(y.argmax(1) == labels)),
        }

    def attempt(run: Callable[[], Any]) -> Any:
        try:
            return run()
        except (AbsentError, ToolchainError, RuntimeError, ValueError) as e:
            return {"reason": str(e)}

    rows = {n: attempt(lambda c=c: figures(c(model, [x]))) for n, c in TFLITE_CONSUMERS.items()}
    rows["Arm NN 20.08, CpuRef, --format arm-nn"] = attempt(lambda: figures(arm_nn(to_tflite(for_arm_nn(graph)), [x])))
    rows["ONNX Runtime (QDQ)"] = attempt(lambda: figures(onnx_stored(qdq, graph, [x])))
    rows["Vela, Ethos-U55-128"] = attempt(lambda: vela(model).json())
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=None, help="of each set; default: all (200 and 1,000)")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    shared = Path(os.environ["THUMBNET_SHARED"]) / "models" / "mlperf_tiny"
    table: dict[str, Any] = {}
    for title, (file, data) in MODELS.items():
        original = (shared / file).read_bytes()
        graph = import_tflite(original).graph
        x, labels = samples(data, options.images)
        for kind, model in (("original file", original), ("re-exported", to_tflite(graph))):
            rows = table[f"{title}, {kind}, {len(x)} images"] = compare(model, graph, x, labels)
            print(f"{title}, {kind}, {len(x)} images")
            for consumer, row in rows.items():
                print(f"  {consumer:28}", {k: round(v, 2) if isinstance(v, float) else v for k, v in row.items()})
    if options.json is not None:
        head = {"python": platform.python_version(), "machine": platform.machine(), "command": " ".join(sys.argv)}
        options.json.write_text(json.dumps({**head, "table": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
