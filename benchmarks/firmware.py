"""The compiler's figures next to TensorFlow Lite for Microcontrollers with CMSIS-NN.

    python benchmarks/firmware.py [--models vww,ds-cnn] [--targets cortex-m4] [--json FILE] [--markdown FILE]
                                  [--kernels cmsis-nn]

Compiles each model for each core, builds the firmware, runs it on the emulated core, and compares every output byte
with tflite-micro on the original file. The MLPerf Tiny models are read from `models/mlperf_tiny` of the folder that
THUMBNET_SHARED names; where they are absent, only the networks with random weights are compiled.

The baseline is not built here. Its figures were measured on 2026-11-24 with tflite-micro 90b983c2, the CMSIS-NN that it
pins, arm-none-eabi-gcc 12.2 and QEMU 7.2: instructions of the second invocation; flash = .text + .rodata + .data
without test vectors; RAM = arena + static data + stack. Ours: what the linked firmware takes, and the instructions of
one invocation, start-up left out. 1 KB = 1024 bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import thumbnet
from thumbnet.compiler import Kernels
from thumbnet.data import Preprocessing
from thumbnet.errors import ThumbnetError
from thumbnet.exporters.tflite import to_tflite
from thumbnet.graph.graph import Graph, Input, Node
from thumbnet.integer.lower import lower
from thumbnet.training.quantize_aware import QuantizedModule, calibrate

RESULTS = Path(__file__).parent / "results"
BEGIN = "<!-- firmware: written by benchmarks/firmware.py --markdown docs/benchmarks.md -->"
END = "<!-- firmware end -->"
CORES = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")


@dataclass(frozen=True)
class Baseline:
    """TFLM with CMSIS-NN: flash and RAM on a Cortex-M4 in bytes, millions of instructions by core."""

    flash: int
    ram: int
    instructions: dict[str, float]


@dataclass(frozen=True)
class Model:
    """A model to compile. `goals` are this project's own, for a Cortex-M4: millions of instructions, KB."""

    title: str
    source: str | Callable[[], bytes]  # a file of models/mlperf_tiny, or what makes a TFLite file
    baseline: Baseline | None = None
    goals: dict[str, float] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


def tflm(flash: int, ram: int, *instructions: float) -> Baseline:
    cores = ("cortex-m3", "cortex-m4", "cortex-m7", "cortex-m55")
    return Baseline(flash, ram, dict(zip(cores, instructions, strict=True)))


def mobilenet() -> bytes:
    """MobileNetV1 0.25 for 96x96 grey images and two classes, random weights: the size of TFLM's person detection."""
    rng = np.random.default_rng(0)
    nodes: list[Node] = []

    def convolution(channels: int, outputs: int, kernel: int, stride: int, size: int, depthwise: bool = False) -> None:
        total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
        pads = [total // 2, total // 2, total - total // 2, total - total // 2]
        attrs = {"stride": [stride] * 2, "padding": pads, "dilation": [1, 1], "activation": "relu6"}
        shape = (outputs, 1 if depthwise else channels, kernel, kernel)
        weight = rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)
        op, groups = ("depthwise_conv2d", {}) if depthwise else ("conv2d", {"groups": 1})
        weights = {"weight": weight, "bias": rng.normal(0, 0.1, outputs).astype(np.float32)}
        source = nodes[-1].name if nodes else "image"
        nodes.append(Node(f"{op}_{len(nodes)}", op, (source,), {**attrs, **groups}, weights))

    convolution(1, 8, 3, 2, 96)
    channels, size = 8, 48
    for outputs, stride in ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1)):
        convolution(channels, channels, 3, stride, size, depthwise=True)
        size = -(-size // stride)
        convolution(channels, outputs, 1, 1, size)
        channels = outputs
    nodes.append(Node("pool", "global_avg_pool", (nodes[-1].name,), {"keepdims": False}))
    weight = rng.normal(0, 0.1, (2, channels)).astype(np.float32)
    weights = {"weight": weight, "bias": np.zeros(2, np.float32)}
    nodes.append(Node("classes", "dense", ("pool",), {"activation": "none"}, weights))
    nodes.append(Node("probabilities", "softmax", ("classes",)))
    graph = Graph("mobilenet_025", (Input("image", (1, 96, 96)),), tuple(nodes), ("probabilities",))
    module = QuantizedModule(graph, {"image": Preprocessing((96, 96), 1, (0.5,), (0.5,)).input_qparams()})
    calibrate(module, [torch.from_numpy(rng.uniform(-1, 1, (16, 1, 96, 96)).astype(np.float32))])
    return to_tflite(lower(module.to_graph(), module.ranges(), fixed=module.fixed))


MODELS = {
    "vww": Model(
        "Visual wake words", "vww_96_int8.tflite", tflm(386832, 102756, 31.96, 24.10, 24.03, 6.56),
        {"instructions": 6.0, "flash": 72, "ram": 42},
    ),
    "vww-plain": Model(
        "Visual wake words, nothing removed", "vww_96_int8.tflite", tflm(386832, 102756, 31.96, 24.10, 24.03, 6.56),
        {"instructions": 10.0, "ram": 42}, {"lossless": False},
    ),
    "person-detect": Model(
        "MobileNetV1 0.25, 96x96x1 (random weights)", mobilenet, tflm(344368, 84348, 30.33, 22.93, 22.72, 6.51),
        {"instructions": 9.8, "ram": 40},
    ),
    "resnet8": Model(
        "ResNet8", "pretrainedResnet_quant.tflite", tflm(149836, 57044, 41.85, 29.86, 30.03, 4.91),
        {"instructions": 14.0, "flash": 92, "ram": 36},
    ),
    "ds-cnn": Model(
        "DS-CNN keyword spotting", "kws_ref_model.tflite", tflm(107474, 24868, 10.53, 7.70, 7.64, 1.81),
        {"instructions": 3.6, "flash": 38, "ram": 12},
    ),
    "auto-encoder": Model(
        "Anomaly detection auto-encoder", "ad01_int8.tflite", tflm(305240, 4540, 0.956, 0.583, 0.583, 0.150),
        {"instructions": 0.33, "flash": 278, "ram": 2},
    ),
    "wake-word": Model("Streaming wake word", "str_ww_ref_model.tflite"),
}  # fmt: skip


def measure(name: str, core: str, kernels: Kernels, shared: Path | None) -> dict[str, Any] | None:
    """The figures of one firmware; None where the model's file is not here."""
    model = MODELS[name]
    if callable(model.source):
        source: bytes | Path = model.source()
    elif shared is None or not (shared / "models" / "mlperf_tiny" / model.source).is_file():
        return None
    else:
        source = shared / "models" / "mlperf_tiny" / model.source
    with tempfile.TemporaryDirectory() as folder:
        made = thumbnet.compile(source, core, Path(folder) / "firmware", kernels=kernels, **model.options)
    found = made.json()
    keys = ("flash_bytes", "code_bytes", "weight_bytes", "ram_bytes", "arena_bytes", "stack_bytes", "instructions")
    kept = {k: found[k] for k in (*keys, "macs", "bit_exact", "original_equal", "original", "emulator", "kind")}
    return {"model": name, "core": core, "kernels": kernels, **kept, "note": made.note}


def figures(runs: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One entry a figure, with the baseline and the ratio to it."""
    for run in runs:
        baseline = MODELS[run["model"]].baseline
        reference = {
            "instructions": baseline and baseline.instructions.get(run["core"], 0) * 1e6,
            "flash_bytes": baseline and baseline.flash if run["core"] == "cortex-m4" else None,
            "ram_bytes": baseline and baseline.ram if run["core"] == "cortex-m4" else None,
        }
        for key, unit in (("instructions", ""), ("flash_bytes", "B"), ("ram_bytes", "B")):
            value, base = run[key], reference[key]
            yield {
                "name": f"firmware/{run['model']}/{run['core']}/{key.removesuffix('_bytes')}",
                "value": value,
                "unit": unit,
                "kind": run["kind"],
                "baseline": base or None,
                "ratio": round(value / base, 4) if base and value is not None else None,
                "n": 1,
            }


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: a line per model and core. Ratios are to TFLM + CMSIS-NN; `!` marks a missed goal of this project."""
    head = ["model", "core", "M instructions", "per MAC", "TFLM", "ratio", "flash KB", "TFLM", "of it weights",
            "RAM KB", "TFLM", "equal to tflite-micro"]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---", "---", *["---:"] * 9, "---"]) + " |"]
    for run in runs:
        model, core = MODELS[run["model"]], run["core"]
        base = model.baseline
        million = run["instructions"] / 1e6
        theirs = base.instructions.get(core) if base else None
        goals = model.goals if core == "cortex-m4" else {}
        cells = [
            model.title,
            core.removeprefix("cortex-").upper().replace("PLUS", "+"),
            f"{million:.2f}" + _missed(million, goals.get("instructions")),
            f"{run['instructions'] / run['macs']:.2f}",
            f"{theirs:.2f}" if theirs else "–",
            f"{million / theirs:.2f}" if theirs else "–",
            f"{run['flash_bytes'] / 1024:.1f}" + _missed(run["flash_bytes"] / 1024, goals.get("flash")),
            f"{base.flash / 1024:.1f}" if base and core == "cortex-m4" else "–",
            f"{run['weight_bytes'] / 1024:.1f}",
            f"{run['ram_bytes'] / 1024:.1f}" + _missed(run["ram_bytes"] / 1024, goals.get("ram")),
            f"{base.ram / 1024:.1f}" if base and core == "cortex-m4" else "–",
            {True: "yes", False: "NO", None: "not compared"}[run["original_equal"]],
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _missed(value: float, goal: float | None) -> str:
    return "" if goal is None or value <= goal else f" (goal {goal:g}!)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), help="some of: " + ", ".join(MODELS))
    parser.add_argument("--targets", default="cortex-m3,cortex-m4,cortex-m7,cortex-m33,cortex-m55", help="cores")
    parser.add_argument("--kernels", default="thumbnet", choices=("thumbnet", "cmsis-nn"), help="cmsis-nn: $CMSIS_NN")
    parser.add_argument("--json", type=Path, help="default: results/firmware.json, or firmware-cmsis-nn.json")
    parser.add_argument("--markdown", type=Path, help="put the table into this file, between its marks")
    arguments = parser.parse_args()
    out = arguments.json or RESULTS / f"firmware{'' if arguments.kernels == 'thumbnet' else '-cmsis-nn'}.json"
    names, cores = arguments.models.split(","), arguments.targets.split(",")
    for unknown in sorted({*names} - {*MODELS} | {*cores} - {*CORES}):
        parser.error(f"unknown: {unknown}")
    shared = Path(os.environ["THUMBNET_SHARED"]) if "THUMBNET_SHARED" in os.environ else None
    runs = []
    for name in names:
        for core in cores:
            try:
                run = measure(name, core, arguments.kernels, shared)
            except ThumbnetError as e:
                print(f"{name} on {core}: {e}", file=sys.stderr)
                continue
            if run is None:
                print(f"{name}: {MODELS[name].source} is not here; set THUMBNET_SHARED.", file=sys.stderr)
                break
            if run["instructions"] is None or run["kind"] != "emulated":
                print(f"{name} on {core}: {run['note']}", file=sys.stderr)
                continue
            runs.append(run)
            print(table([run]).splitlines()[-1], flush=True)
    if not runs:
        raise SystemExit("Nothing was measured.")
    text = table(runs)
    print(f"\n{text}")
    machine = {"python": platform.python_version(), "system": platform.platform()}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"figures": list(figures(runs)), "runs": runs, "machine": machine}, indent=1) + "\n")
    if arguments.markdown:
        before, rest = arguments.markdown.read_text().split(BEGIN + "\n")
        arguments.markdown.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
