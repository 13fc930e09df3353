"""Every entrance by every exit: models imported from each format, quantized, and run by what will run them.

    python benchmarks/interop.py [--only NAME …] [--samples N] [--images N] [--update] [--markdown FILE] [--json FILE]

Prints one matrix, model × entrance × exit. Entrances are compared with the source's own runtime (the largest
difference of any output, as a fraction of what is tolerated). Exits with the integer simulator on the same inputs:
tflite-micro and the emulated Cortex-M4 byte for byte, LiteRT in steps of the output, Arm NN and ONNX Runtime by the
class they choose, Vela by the operators it leaves on the CPU; the float network as ONNX and as PyTorch source by the
largest difference relative to the output. The architectures are those of `zoo.py`, with random weights and calibrated
on normal noise; the MLPerf Tiny files and their samples come from the folder that THUMBNET_SHARED names, with accuracy.
SavedModels need TensorFlow, which is best installed apart: --update keeps the rows of FILE that are not measured anew.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import consumers
import numpy as np
import numpy.typing as npt
import torch
import zoo

from thumbnet.emulation.verify import verify_firmware
from thumbnet.errors import ThumbnetError
from thumbnet.exporters.c import emit, write_firmware
from thumbnet.exporters.onnx_float import to_onnx
from thumbnet.exporters.onnx_qdq import to_qdq
from thumbnet.exporters.tflite import to_tflite
from thumbnet.exporters.tflite_arm_nn import for_arm_nn
from thumbnet.exporters.torch_module import to_torch
from thumbnet.files import write_bytes_atomic
from thumbnet.graph.evaluate import evaluate_values
from thumbnet.graph.graph import Graph
from thumbnet.graph.passes import clean
from thumbnet.importers.imported import Imported
from thumbnet.importers.load import load_imported
from thumbnet.importers.quantized_models import load_quantized
from thumbnet.integer import simulate
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.lower import lower
from thumbnet.integer.passes import lossless
from thumbnet.integer.passes.join_inputs import join_inputs
from thumbnet.integer.passes.join_outputs import join_outputs
from thumbnet.targets import load_target

Array = npt.NDArray[Any]
CALIBRATION, TARGET = 64, "cortex-m4"
MLPERF = {  # name -> files by entrance, and the samples they were published with
    "resnet8_mlperf": ({"Keras .h5": "pretrainedResnet.h5", "TFLite float": "pretrainedResnet.tflite"}, "ic01"),
    "ds_cnn_mlperf": ({"TFLite int8": "kws_ref_model.tflite"}, "kws01"),
    "resnet8_mlperf_int8": ({"TFLite int8": "pretrainedResnet_quant.tflite"}, "ic01"),
    "vww_mlperf": ({"Keras .h5": "vww_96.h5", "TFLite float": "vww_96_float.tflite"}, None),
    "vww_mlperf_int8": ({"TFLite int8": "vww_96_int8.tflite"}, None),
    "ad_mlperf": (
        {"Keras .h5": "ad01.h5", "TFLite float": "ad01_fp32.tflite", "TFLite int8": "ad01_int8.tflite"},
        None,
    ),
    "wake_word_mlperf": ({"Keras .h5": "str_ww_ref_model.h5", "TFLite int8": "str_ww_ref_model.tflite"}, None),
}


@dataclass(frozen=True)
class Cell:
    """A measured value, or why there is none. `text` is what the matrix shows."""

    text: str
    value: float | None = None
    unit: str = ""
    n: int = 0


@dataclass(eq=False)
class Row:
    model: str
    entrance: str
    cells: dict[str, Cell] = field(default_factory=dict)


# --- entrances


@dataclass(frozen=True)
class Source:
    """`make` gives the float import; `exact` the integer graph of a quantized file, in the place of lowering."""

    model: str
    entrance: str
    make: Callable[[], Imported]
    exact: Callable[[], IntegerGraph] | None = None
    samples: str | None = None  # name of published samples


def sources(shared: Path | None, scratch: Path) -> Iterator[Source]:
    for name, entry in zoo.ZOO.items():
        shapes = list(entry.shapes)
        yield Source(name, "PyTorch module", partial(load_imported, zoo.network(name), shapes))
        inputs = tuple(torch.zeros(1, *s) for s in shapes)
        yield Source(name, "PyTorch .pt2", partial(_through_pt2, name, inputs, scratch))
        yield Source(name, "ONNX", partial(_through_onnx, name, inputs, scratch))
    for name, make in _keras_networks().items():
        yield Source(f"keras_{name}", "Keras .keras", partial(_through_keras, make, scratch / f"{name}.keras"))
    for name in SAVED_MODELS if has_tensorflow() else ():
        yield Source(f"keras_{name}", "SavedModel", partial(_through_saved_model, name, scratch / f"{name}_saved"))
    for name, (files, samples) in MLPERF.items() if shared else ():
        for entrance, file in files.items():
            path = shared / "models" / "mlperf_tiny" / file
            exact = partial(_exact, path) if entrance == "TFLite int8" else None
            yield Source(name, entrance, partial(load_imported, path), exact, samples)


def _through_pt2(name: str, inputs: tuple[torch.Tensor, ...], scratch: Path) -> Imported:
    path = scratch / f"{name}.pt2"
    torch.export.save(torch.export.export(zoo.network(name), inputs), path)
    return load_imported(path)


def _through_onnx(name: str, inputs: tuple[torch.Tensor, ...], scratch: Path) -> Imported:
    path = scratch / f"{name}.onnx"
    torch.onnx.export(zoo.network(name), inputs, path, dynamo=True, verbose=False)
    return load_imported(path)


def _through_keras(make: Callable[[], Any], path: Path) -> Imported:
    make().save(path)
    return load_imported(path)


def _keras_networks() -> dict[str, Callable[[], Any]]:
    """Keras's own applications, small and untrained, with weights that are nowhere zero."""
    try:
        from thumbnet.importers.keras_backend import keras_module

        keras = keras_module()
    except (ImportError, ThumbnetError):
        return {}
    small = {"input_shape": (48, 48, 3), "weights": None, "classes": 5}
    apps = keras.applications

    def randomized(model: Any) -> Any:
        rng = np.random.default_rng(0)
        weights = [w + rng.normal(0, 0.05, w.shape).astype(w.dtype) for w in model.get_weights()]
        named = zip(model.weights, weights, strict=True)
        model.set_weights([np.abs(w) + 0.1 if "variance" in v.path else w for v, w in named])
        return model

    return {
        "mobilenet": lambda: randomized(apps.MobileNet(alpha=0.25, **small)),
        "mobilenet_v2": lambda: randomized(apps.MobileNetV2(alpha=0.35, **small)),
        "mobilenet_v3_small": lambda: randomized(apps.MobileNetV3Small(alpha=0.75, **small)),
    }


SAVED_MODELS = {
    "mobilenet": "MobileNet(alpha=0.25, ",
    "mobilenet_v2": "MobileNetV2(alpha=0.35, ",
    "mobilenet_v3_small": "MobileNetV3Small(alpha=0.75, ",
}
_SAVE = """
import sys
import numpy as np
import tensorflow as tf
model = tf.keras.applications.{make}input_shape=(48, 48, 3), weights=None, classes=5)
rng = np.random.default_rng(0)
weights = [w + rng.normal(0, 0.05, w.shape).astype(w.dtype) for w in model.get_weights()]
model.set_weights([np.abs(w) + 0.1 if "variance" in v.path else w for v, w in zip(model.weights, weights)])
model.export(sys.argv[1])
"""


def has_tensorflow() -> bool:
    return all(importlib.util.find_spec(name) for name in ("tensorflow", "tf2onnx"))


def _through_saved_model(name: str, folder: Path) -> Imported:
    """Written by TensorFlow in a process of its own."""
    code = _SAVE.replace("{make}", SAVED_MODELS[name])
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    subprocess.run([sys.executable, "-c", code, str(folder)], env=environment, check=True, capture_output=True)
    return load_imported(folder)


def _exact(path: Path) -> IntegerGraph:
    """As `compile` takes it: all that no output byte depends on taken away."""
    return lossless(load_quantized(path).graph)


# --- one row


def measured(source: Source, options: argparse.Namespace) -> Row:
    row = Row(source.model, source.entrance)
    imported = source.make()
    check = imported.check
    assert check is not None
    share = check.difference / check.tolerance if check.tolerance else 0.0
    row.cells["import"] = Cell(f"{check.difference:.1e} ({share:.0%})", check.difference, "real", check.random)
    graph = clean(imported.graph)
    x = _inputs(imported, graph)
    integer = source.exact() if source.exact else _lowered(graph, x)
    stored, labels = _stored(source, integer, x, options)
    row.cells |= _exits(integer, stored, labels, options)
    if source.exact is None:
        row.cells |= _float_exits(graph, x)
    return row


def _inputs(imported: Imported, graph: Graph) -> dict[str, Array]:
    """Noise, of the size that the source's own comparison draws."""
    rng = np.random.default_rng(1)
    ranges = imported.ranges or (None,) * len(graph.inputs)
    made = {}
    for port, span in zip(graph.inputs, ranges, strict=True):
        x = rng.normal(size=(CALIBRATION, *port.shape)).astype(np.float32)
        made[port.name] = x if span is None else np.clip(sum(span) / 2 + x * (span[1] - span[0]) / 8, *span)
    return made


def _lowered(graph: Graph, x: dict[str, Array]) -> IntegerGraph:
    with torch.inference_mode():
        values = evaluate_values(graph, {k: torch.from_numpy(v) for k, v in x.items()})
    return lower(graph, {k: (float(v.min()), float(v.max())) for k, v in values.items()})


def _stored(
    source: Source, integer: IntegerGraph, x: dict[str, Array], options: argparse.Namespace
) -> tuple[list[Array], Array | None]:
    """int8 inputs as the firmware gets them, and labels where the samples have some."""
    if source.samples and source.exact and "THUMBNET_SHARED" in os.environ:
        images, labels = consumers.samples(source.samples, options.images)
        return [images.reshape(len(images), *integer.tensors[integer.inputs[0]].shape)], labels
    stored = []
    for name, values in zip(integer.inputs, x.values(), strict=True):
        t = integer.tensors[name]
        real = values[: options.samples]
        real = real.transpose(0, 2, 3, 1) if real.ndim == 4 else real
        q = np.clip(np.rint(real / t.scale) + t.zero_point, -128, 127).astype(np.int8)
        stored.append(np.ascontiguousarray(q).reshape(len(q), *t.shape))
    return stored, None


# --- exits


def _exits(
    integer: IntegerGraph, stored: list[Array], labels: Array | None, options: argparse.Namespace
) -> dict[str, Cell]:
    run = simulate.run(integer, stored[0] if len(stored) == 1 else dict(zip(integer.inputs, stored, strict=True)))
    expected = [run[v] for v in integer.outputs]
    n = len(stored[0])
    cells: dict[str, Cell] = {}
    if labels is not None:
        right = 100 * float(np.mean(expected[0].reshape(n, -1).argmax(1) == labels))
        cells["accuracy"] = Cell(f"{right:.1f} %", right, "%", n)
    model = _attempt(lambda: to_tflite(integer))
    if isinstance(model, Cell):
        return cells | {"tflite-micro": model}

    def tflite(consumer: consumers.Consumer, file: bytes = model, count: int = n) -> list[Array]:
        return consumer(file, [x[:count] for x in stored])

    cells["tflite-micro"] = _attempt(lambda: _exact_cell(tflite(consumers.tflite_micro), expected))
    cells["LiteRT"] = _attempt(lambda: _step_cell(tflite(consumers.litert), expected))
    few = min(n, options.arm_nn)
    arm = lambda: tflite(consumers.arm_nn, to_tflite(for_arm_nn(integer)), few)  # noqa: E731
    cells["Arm NN"] = _attempt(lambda: _top1_cell(arm(), [y[:few] for y in expected]))
    cells["Vela"] = _attempt(lambda: _vela_cell(model))
    cells["ONNX Runtime"] = _attempt(
        lambda: _top1_cell(consumers.onnx_stored(to_qdq(integer), integer, stored), expected)
    )
    cells["C, Cortex-M4"] = _attempt(lambda: _firmware_cell(integer, [x[:4] for x in stored]))
    return cells


def _attempt(run: Callable[[], Any]) -> Any:
    try:
        return run()
    except consumers.AbsentError:
        return Cell("absent")
    except (ThumbnetError, RuntimeError, ValueError) as e:
        return Cell("refused: " + " ".join(str(e).split())[-160:])


def _exact_cell(found: Sequence[Array], expected: Sequence[Array]) -> Cell:
    differ = sum(int(np.sum(a.reshape(b.shape) != b)) for a, b in zip(found, expected, strict=True))
    return Cell("equal" if not differ else f"{differ} bytes differ", differ, "bytes", len(expected[0]))


def _step_cell(found: Sequence[Array], expected: Sequence[Array]) -> Cell:
    steps = max(int(np.abs(a.reshape(b.shape).astype(int) - b).max()) for a, b in zip(found, expected, strict=True))
    return Cell(f"{steps} LSB", steps, "LSB", len(expected[0]))


def _top1_cell(found: Sequence[Array], expected: Sequence[Array]) -> Cell:
    """Over all outputs and positions: how often the largest of the last axis is the same."""
    same, steps = [], 0
    for a, b in zip(found, expected, strict=True):
        a = a.reshape(b.shape).astype(int)
        same.append((a.argmax(-1) == b.astype(int).argmax(-1)).reshape(-1))
        steps = max(steps, int(np.abs(a - b).max()))
    agreement = 100 * float(np.mean(np.concatenate(same)))
    return Cell(f"{agreement:.1f} %, {steps} LSB", agreement, "%", len(expected[0]))


def _vela_cell(model: bytes) -> Cell:
    found = consumers.vela(model)
    left = len(found.cpu_operators)
    return Cell(f"{left} on the CPU" + (f" ({', '.join(found.cpu_operators)})" if left else ""), left, "operators")


def _firmware_cell(integer: IntegerGraph, stored: list[Array]) -> Cell:
    joined = join_outputs(join_inputs(integer))
    target = load_target(TARGET)
    x = stored[0] if len(stored) == 1 else np.concatenate([s.reshape(len(s), -1) for s in stored], 1)
    with tempfile.TemporaryDirectory() as folder:
        write_firmware(Path(folder), emit(joined, target))
        proof = verify_firmware(Path(folder), joined, target, x)
    millions = proof.json()["instructions"] / 1e6
    return Cell(f"{'equal' if proof.bit_exact else 'DIFFERS'}, {millions:.2f} M", millions, "M instructions", len(x))


def _float_exits(graph: Graph, x: dict[str, Array]) -> dict[str, Cell]:
    some = {k: v[:4] for k, v in x.items()}
    with torch.inference_mode():
        values = evaluate_values(graph, {k: torch.from_numpy(v) for k, v in some.items()})
    expected = [values[v].numpy() for v in graph.outputs]

    def compared(found: Sequence[Array]) -> Cell:
        worst = max(
            float(np.abs(a.reshape(b.shape) - b).max() / max(float(np.abs(b).max()), 1e-9))
            for a, b in zip(found, expected, strict=True)
        )
        return Cell(f"{worst:.0e}", worst, "of the largest output", len(expected[0]))

    def torch_source() -> Cell:
        with tempfile.TemporaryDirectory() as folder:
            made = to_torch(graph)
            for name, data in made.files().items():
                write_bytes_atomic(Path(folder) / name, data)
            return compared(_run_source(Path(folder), [torch.from_numpy(v) for v in some.values()]))

    return {
        "ONNX float": _attempt(lambda: compared(consumers.onnx_runtime(to_onnx(graph), list(some.values())))),
        "PyTorch source": _attempt(torch_source),
    }


def _run_source(folder: Path, inputs: list[torch.Tensor]) -> list[Array]:
    """The written module, imported as its user would."""
    spec = importlib.util.spec_from_file_location("exported_model", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with torch.inference_mode():
        y = module.load()(*inputs)
    return [v.numpy() for v in (y if isinstance(y, tuple | list) else [y])]


# --- the matrix

COLUMNS = (
    *("import", "accuracy", "tflite-micro", "LiteRT", "C, Cortex-M4", "Vela", "Arm NN"),
    *("ONNX Runtime", "ONNX float", "PyTorch source"),
)


def markdown(figures: Sequence[dict[str, Any]]) -> str:
    """The page, from the figures of a JSON file."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for f in figures:
        model, entrance, column = f["name"].split("/", 2)
        rows.setdefault((model, entrance), {})[column] = f["text"]
    columns = [c for c in COLUMNS if any(c in cells for cells in rows.values())]
    lines = [HEAD, "| model | entrance | " + " | ".join(columns) + " |", "| --- " * (len(columns) + 2) + "|"]
    for (model, entrance), cells in rows.items():
        shown = [cells.get(c, "–").replace("|", "/") for c in columns]
        lines.append(f"| {model} | {entrance} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


HEAD = """# Interoperability

Every model through every entrance, quantized, and through every exit, with the real software on the other side. This
page is written by `python benchmarks/interop.py --markdown docs/interop.md` from `benchmarks/results/interop.json`.

- *import*: the largest difference of any output from the source's own runtime, and how much that is of what is
  tolerated. Quantized files are compared as float networks here; `compile` takes them byte for byte.
- *accuracy*: of the integer network on the published samples (tflite-micro's rounding).
- *tflite-micro*, *C, Cortex-M4*: the TFLite file, and the firmware on the emulated core with its instructions, against
  the integer simulator, byte for byte.
- *LiteRT*: its reference kernels, largest difference in steps of the output. *Vela*: operators left on the CPU by the
  compiler for Ethos-U55-128.
- *Arm NN* (20.08, CpuRef; `export --format arm-nn`), *ONNX Runtime* (QDQ): how often the largest value of an output's
  last axis is the same, and the largest difference.
- *ONNX float*, *PyTorch source*: the float network, largest difference relative to the largest output.

The architectures are those of `benchmarks/zoo.py` with random weights, the last rows MLPerf Tiny's own files.
"""


def as_figures(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [
        {
            "name": f"{r.model}/{r.entrance}/{column}",
            "value": cell.value,
            "text": cell.text,
            "unit": cell.unit,
            "kind": "emulated" if column.startswith("C,") else "measured",
            "baseline": None,
            "ratio": None,
            "n": cell.n,
        }
        for r in rows
        for column, cell in r.cells.items()
    ]


def merged(old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The old figures, those of rows that were measured anew replaced in their place, other new ones at the end."""
    rows = {f["name"].rsplit("/", 1)[0]: [] for f in [*old, *new]}
    again = {f["name"].rsplit("/", 1)[0] for f in new}
    for f in [*(f for f in old if f["name"].rsplit("/", 1)[0] not in again), *new]:
        rows[f["name"].rsplit("/", 1)[0]].append(f)
    return [f for row in rows.values() for f in row]


def versions() -> dict[str, str]:
    """Of the packages that are here."""
    names = ("torch", "keras", "onnx", "onnxruntime", "ai-edge-litert", "tflite-micro", "ethos-u-vela", "tensorflow")
    found = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=None, help="models whose names hold one of these texts")
    parser.add_argument("--samples", type=int, default=32, help="random inputs for each exit")
    parser.add_argument("--images", type=int, default=None, help="published samples of each set; default: all")
    parser.add_argument("--arm-nn", type=int, default=32, help="inputs for Arm NN, whose CpuRef is slow")
    parser.add_argument("--update", action="store_true", help="keep the rows of --json that are not measured now")
    parser.add_argument("--markdown", type=Path, default=None)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # of what it could export beyond PyTorch itself
    warnings.filterwarnings("ignore", category=FutureWarning)
    shared = Path(os.environ["THUMBNET_SHARED"]) if "THUMBNET_SHARED" in os.environ else None
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        for source in sources(shared, Path(scratch)):
            if options.only and not any(text in source.model for text in options.only):
                continue
            made = _attempt(lambda s=source: measured(s, options))
            rows.append(made if isinstance(made, Row) else Row(source.model, source.entrance, {"import": made}))
            row = rows[-1]
            cells = "; ".join(f"{k} {c.text}" for k, c in row.cells.items())
            print(f"{row.model}, {row.entrance}: {cells}", flush=True)
    found, packages = as_figures(rows), versions()
    if options.update and options.json and options.json.is_file():
        before = json.loads(options.json.read_text())
        found, packages = merged(before["figures"], found), {**before["versions"], **packages}
    print("\n" + markdown(found).split("\n\n")[-1])
    if options.markdown:
        options.markdown.write_text(markdown(found))
    if options.json:
        data = {
            "figures": found,
            "machine": platform.machine(),
            "versions": packages,
            "seed": 0,
            "command": "python benchmarks/" + Path(sys.argv[0]).name,
        }
        options.json.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
