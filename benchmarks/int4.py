"""Weights of 4 bits next to weights of 8: instructions per multiply-accumulate by layer, flash of whole networks.

    python benchmarks/int4.py [--targets cortex-m3,cortex-m4] [--json FILE]

Layers have random weights. The networks are those of MLPerf Tiny (`models/mlperf_tiny` of the folder that
THUMBNET_SHARED names; left out where they are absent) with all their weights rounded to 4 bits: sizes and speed are
those of a network trained for 4 bits, accuracy is not. Every firmware is run on the emulated core and compared byte for
byte with the simulator and tflite-micro. 1 KB = 1024 bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import thumbnet
from thumbnet.importers import quantized
from thumbnet.importers.quantized_models import load_quantized
from thumbnet.integer import build
from thumbnet.integer.arithmetic import WEIGHT_MAX
from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor

OUT = Path(__file__).parent / "results" / "int4.json"
LAYERS = {  # operation, input shape, output channels, kernel
    "1x1 48² 8→16": ("conv2d", (48, 48, 8), 16, 1),
    "1x1 24² 32→32": ("conv2d", (24, 24, 32), 32, 1),
    "1x1 12² 64→64": ("conv2d", (12, 12, 64), 64, 1),
    "1x1 3² 256→256": ("conv2d", (3, 3, 256), 256, 1),
    "3x3 32² 3→16": ("conv2d", (32, 32, 3), 16, 3),
    "3x3 16² 32→32": ("conv2d", (16, 16, 32), 32, 3),
    "3x3 8² 64→64": ("conv2d", (8, 8, 64), 64, 3),
    "depthwise 3x3 24² 32": ("depthwise_conv2d", (24, 24, 32), 32, 3),
    "dense 640→128": ("dense", (640,), 128, 1),
    "dense 128→128": ("dense", (128,), 128, 1),
}
NETWORKS = {
    "resnet8": "pretrainedResnet_quant.tflite",
    "auto-encoder": "ad01_int8.tflite",
    "ds-cnn": "kws_ref_model.tflite",
}


def layer(name: str, bits: int) -> IntegerGraph:
    op, shape, channels, k = LAYERS[name]
    rng = np.random.default_rng(0)
    terms = shape[-1] * k * k if op != "depthwise_conv2d" else k * k
    x, y = (
        QTensor("x", shape, 2.0**-5, 3),
        QTensor("y", (*shape[:-1], channels), float(np.float32(terms**0.5 / 32)), -5),
    )
    bias, padding = rng.normal(0, 1, channels).astype(np.float32), [k // 2] * 4
    if op == "dense":
        node = build.dense("y", x, y, rng.normal(0, 1, (channels, terms)).astype(np.float32), bias, weight_bits=bits)
    elif op == "conv2d":
        weight = rng.normal(0, 1, (channels, k, k, shape[-1])).astype(np.float32)
        node = build.conv2d("y", x, y, weight, bias, padding=padding, weight_bits=bits)
    else:
        weight = rng.normal(0, 1, (k, k, channels)).astype(np.float32)
        node = build.depthwise_conv2d("y", x, y, weight, bias, padding=padding, weight_bits=bits)
    return IntegerGraph(op, {"x": x, "y": y}, ("x",), (node,), ("y",))


def rounded(ig: IntegerGraph) -> IntegerGraph:
    """The network with all weights rounded to 4 bits, their scales and all that follows from them made anew."""
    return replace(ig, nodes=tuple(_rounded(ig, n) if "weight" in n.arrays else n for n in ig.nodes))


def _rounded(ig: IntegerGraph, node: IntegerNode) -> IntegerNode:
    factor = WEIGHT_MAX[4] / WEIGHT_MAX[8]
    weight = np.rint(np.clip(node.arrays["weight"], -127, 127) * factor).astype(np.int8)
    bias = np.rint(node.arrays["bias"] * factor).astype(np.int32)
    scales = (np.array(node.weight_scale) / factor).astype(np.float32)
    x, out = ig.tensors[node.inputs[0]], ig.tensors[node.name]
    attrs = {**node.attrs, "weight_bits": 4}
    made = quantized.weighted(node.op, x, out, weight, bias, scales, "none", attrs)
    return replace(made, clamp=node.clamp)


def measured(ig: IntegerGraph, core: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        made = thumbnet.compile(ig, core, Path(folder) / "firmware", lossless=False)
    assert made.proof is not None, made.note
    assert made.proof.bit_exact
    assert made.proof.tflm_equal is not False, made.proof.tflm_note
    return made.json()


def figure(name: str, value: float, unit: str, baseline: float) -> dict[str, Any]:
    ratio = round(value / baseline, 4)
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "kind": "emulated",
        "baseline": baseline,
        "ratio": ratio,
        "n": 1,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", default="cortex-m3,cortex-m4", help="cores")
    parser.add_argument("--json", type=Path, default=OUT)
    arguments = parser.parse_args()
    figures: list[dict[str, Any]] = []
    print("| | core | 8 bits | 4 bits | ratio |\n| --- | --- | ---: | ---: | ---: |")
    for core in arguments.targets.split(","):
        for name in LAYERS:
            eight, four = (measured(layer(name, bits), core) for bits in (8, 4))
            a, b = (run["instructions"] / run["macs"] for run in (eight, four))
            figures.append(figure(f"{name}/{core}/instructions_per_mac", round(b, 4), "", round(a, 4)))
            print(f"| {name}, instructions per MAC | {core} | {a:.3f} | {b:.3f} | {b / a:.2f} |", flush=True)
    shared = Path(os.environ.get("THUMBNET_SHARED", "")) / "models" / "mlperf_tiny"
    for name, file in NETWORKS.items():
        if not (shared / file).is_file():
            print(f"{name}: {file} is not here; set THUMBNET_SHARED.")
            continue
        ig = load_quantized(shared / file).graph
        for core in arguments.targets.split(","):
            eight, four = measured(ig, core), measured(rounded(ig), core)
            for key, unit in (("flash_bytes", "B"), ("weight_bytes", "B"), ("ram_bytes", "B"), ("instructions", "")):
                figures.append(figure(f"{name}/{core}/{key}", four[key], unit, eight[key]))
                ratio = four[key] / eight[key]
                print(f"| {name}, {key} | {core} | {eight[key]:,} | {four[key]:,} | {ratio:.2f} |", flush=True)
    machine = {"python": platform.python_version(), "system": platform.platform()}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps({"figures": figures, "machine": machine}, indent=1) + "\n")


if __name__ == "__main__":
    main()
