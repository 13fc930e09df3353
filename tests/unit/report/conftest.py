"""A run such as a search leaves behind, made by code: plausible in shape, invented in every number."""

from __future__ import annotations

import base64
import io
import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

BLOCKS = [(16, 1, 1), (24, 2, 2), (40, 2, 2), (80, 3, 2), (112, 3, 1), (192, 4, 2), (320, 1, 1)]


def _layers(width: float, side: int, dropped: frozenset[str]) -> list[dict[str, Any]]:
    """An inverted-residual network: (name, op, channels, side, macs, weights) per layer."""
    layers: list[dict[str, Any]] = []
    channels, side = max(8, int(32 * width) // 8 * 8), side // 2

    def add(name: str, op: str, out: int, macs: int, weights: int) -> None:
        if not any(name.startswith(d) for d in dropped):
            layers.append({"name": name, "op": op, "c": out, "side": side, "macs": macs, "weights": weights})

    add("stem", "conv2d", channels, side * side * 9 * channels, 9 * channels)
    for stage, (full, depth, stride) in enumerate(BLOCKS, 1):
        out = max(8, int(full * width) // 8 * 8)
        for i in range(depth):
            name, expand = f"stage{stage}.{i}", channels * (1 if stage == 1 else 6)
            if stage > 1:
                add(f"{name}.expand", "conv2d", expand, side * side * channels * expand, channels * expand)
            side = side // (stride if i == 0 else 1)
            add(f"{name}.depthwise", "depthwise_conv2d", expand, side * side * 9 * expand, 9 * expand)
            add(f"{name}.project", "conv2d", out, side * side * expand * out, expand * out)
            if i > 0:
                add(f"{name}.add", "add", out, 0, 0)
            channels = out
    add("head.conv", "conv2d", 4 * channels, side * side * 4 * channels * channels, 4 * channels * channels)
    add("head.pool", "global_avg_pool", 4 * channels, 0, 0)
    add("head.dense", "dense", 2, 8 * channels, 8 * channels)
    return layers


def _arena(layers: list[dict[str, Any]]) -> dict[str, Any]:
    """Ping-pong addresses: enough to have lifetimes, a peak and scratch."""
    buffers, top = [], 0
    size = [layer["c"] * layer["side"] ** 2 for layer in layers]
    peak = max(a + b for a, b in pairwise(size))
    for i, layer in enumerate(layers):
        offset = 0 if i % 2 else peak - size[i] // 16 * 16
        last = min(i + (3 if layer["name"].endswith("project") else 1), len(layers) - 1)
        kind = {"name": layer["name"], "kind": "activation", "offset": offset, "bytes": size[i]}
        buffers.append({**kind, "first": i, "last": last if i % 2 else min(i + 1, len(layers) - 1)})
        top = max(top, offset + size[i])
    buffers.append({"name": "stem", "kind": "scratch", "offset": top, "bytes": 1152, "first": 0, "last": 0})
    return {
        "arena_bytes": top + 1152,
        "lower_bound_bytes": peak,
        "buffers": buffers,
        "steps": [layer["name"] for layer in layers],
    }


def _costs(flash: int, ram: int, macs: int, kind: str = "estimated") -> dict[str, Any]:
    return {
        "kind": kind,
        "flash_bytes": flash,
        "code_bytes": 19_480,
        "weight_bytes": int(flash * 0.84),
        "ram_bytes": ram,
        "arena_bytes": ram - 1_276,
        "static_bytes": 24,
        "stack_bytes": 1_252,
        "macs": macs,
        "instructions": int(macs * 1.53),
        "cycles": int(macs * 2.21),
        "latency_ms": macs * 2.21 / 64_000,
        "layers": [],
    }


def _trials(rng: random.Random) -> list[dict[str, Any]]:
    trials: list[dict[str, Any]] = []
    for i in range(64):
        scale = rng.uniform(0.25, 1.6)
        flash, ram = int(236_000 * scale), int(84_000 * scale * rng.uniform(0.7, 1.3))
        fits = flash <= 262_144 and ram <= 98_304
        rung = min(4, int(rng.expovariate(0.9))) if fits else 0
        last = 84.6 - 9 / (1 + rung) - 6 * abs(1 - scale) + rng.uniform(-1.5, 1.5)
        curve = [{"step": 60 * 2**r, "loss": 0.7 - r / 10, "accuracy": last - (rung - r)} for r in range(rung)]
        trials.append(
            {
                "id": f"c{i:02d}",
                "recipe": {},
                "state": "feasible" if fits else "infeasible",
                "reason": f"dropped after rung {rung}" if fits else "needs too much memory",
                "costs": _costs(flash, ram, int(30e6 * scale)),
                "accuracy": last if fits or i % 3 else None,
                "rung": rung,
                "curve": curve,
            }
        )
    return trials


def _curve(name: str, steps: int, start: float, end: float) -> dict[str, Any]:
    points = []
    for step in range(0, steps + 1, 20):
        left = 0.985**step
        points.append(
            {"step": step, "loss": (90 - end) / 20 + (end - start) / 40 * left, "accuracy": end - (end - start) * left}
        )
    return {"name": name, "points": points}


def _samples(rng: random.Random) -> list[dict[str, Any]]:
    samples = []
    for i in range(16):
        grey = Image.new("L", (96, 96), 60 + 8 * (i % 5))
        for _ in range(30):
            x, y = rng.randrange(96), rng.randrange(96)
            grey.paste(rng.randrange(40, 220), (x, y, min(96, x + 18), min(96, y + 3)))
        out = io.BytesIO()
        grey.save(out, "PNG")
        label = i % 2
        wrong = {3: "reference", 6: "best", 11: "best"}.get(i)
        samples.append(
            {
                "png": base64.b64encode(out.getvalue()).decode(),
                "label": label,
                "reference": {"label": 1 - label if wrong == "reference" else label, "confidence": 91.2},
                "best": {"label": 1 - label if wrong == "best" else label, "confidence": 78.9},
            }
        )
    return samples


def make_robustness() -> dict[str, Any]:
    points = []
    for name, unit, severities in (
        ("none", "", (0.0,)),
        ("noise", "of the range of pixel values, standard deviation", (0.06, 0.12)),
        ("blur", "of the shorter side, standard deviation", (0.015, 0.03)),
        ("brighter", "of the range of pixel values", (0.15, 0.3)),
        ("darker", "of the range of pixel values", (0.15, 0.3)),
    ):
        for k, severity in enumerate(severities):
            before, after = (85.2 - 3.1 * k, 84.1 - 3.4 * k) if severity else (85.2, 84.1)
            points.append(
                {
                    "corruption": name,
                    "severity": severity,
                    "unit": unit,
                    "reference": before,
                    "reference_interval": [before - 3.2, before + 2.9],
                    "result": after,
                    "result_interval": [after - 3.2, after + 2.9],
                    "drop": before - after,
                    "drop_interval": [before - after - 2.0, before - after + 2.0],
                }
            )
    mean = {"reference": 82.1, "result": 80.7, "reference_lost": 3.1, "result_lost": 3.4, "more_lost": 0.3}
    return {
        "samples": 528,
        "of": 528,
        "seed": 0,
        "kind": "measured",
        "points": points,
        "mean": {**mean, "more_lost_interval": [-0.8, 1.5]},
    }


def make_insight() -> dict[str, Any]:
    rng = random.Random(3)
    groups = []
    for stage, (full, depth, _) in enumerate(BLOCKS, 1):
        for i in range(depth):
            after = 0 if (stage, i) in ((5, 2), (6, 3)) else max(4, int(full * rng.uniform(0.2, 0.9)) // 4 * 4)
            share = {"group": f"stage{stage}.{i}.expand", "share": rng.uniform(0.2, 12)}
            groups.append({**share, "per_channel": 4 ** rng.uniform(-2, 1.5), "before": 6 * full, "after": after})
            groups[-1]["kept"] = 100.0 if after == 6 * full else 70.0 * bool(after)
    start = {"flash_bytes": 3_400_000, "ram_bytes": 300_000, "macs": 385_000_000, "instructions": 590_000_000}
    start |= {"latency_ms": 9_000.0}
    alone = {**start, "flash_bytes": 1_200_000, "score": 71.2, "loss": 0.6, "drop": 12.0, "drop_interval": [8.1, 16.0]}
    without = {**start, "flash_bytes": 402_000, "ram_bytes": 90_000, "violations": {"flash_bytes": 1.53}}
    moves = [
        {"move": "input 80 × 80", "kind": "resolution", "count": 1, "alone": alone, "without": without},
        {"move": "without block stage5.2", "kind": "skip", "count": 1, "alone": alone, "without": None},
        {
            "move": "widths " + ", ".join(f"stage{k}.0.expand → 16" for k in range(1, 8)),
            "kind": "widths",
            "count": 1,
            "alone": None,
            "without": {**without, "violations": {}},
        },
    ]
    kinds = [{"kind": "skip", "rung": 2, "with": 82.0, "without": 81.2, "with_count": 3, "without_count": 5}]
    blocks = [{"block": "stage5.2", "loss_change": 0.034, "stays": False}]
    begin = {**start, "score": 83.2, "loss": 0.41}
    return {
        "groups": groups,
        "blocks": blocks,
        "samples": 266,
        "reference": begin,
        "result": start,
        "moves": moves,
        "kinds": kinds,
    }


def make_result() -> dict[str, Any]:
    return {
        "reference": {"accuracy": 85.2, "size_bytes": 13_600_000, "parameters": 3_373_570, "macs": 385_000_000},
        "best": {
            "accuracy": 84.1,
            "accuracy_interval": [80.7, 87.0],
            "size_bytes": 251_112,
            "flash_bytes": 250_880,
            "code_bytes": 19_480,
            "ram_bytes": 91_648,
            "parameters": 209_480,
            "macs": 24_310_000,
            "instructions": 37_194_300,
            "cycles": 53_725_100,
            "latency_ms": 839.5,
        },
        "drop_points": 1.1,
        "drop_interval": [-0.9, 3.1],
        "test_images": 528,
        "robustness": make_robustness(),
        "proof": {"images": 64, "bit_exact": True, "emulator": "unicorn 2.1.4"},
        "seed": 0,
        "wall_seconds": 512.4,
        "versions": {"thumbnet": "0.1.0", "torch": "2.13.0", "numpy": "2.4.6"},
    }


def make_details() -> dict[str, Any]:
    rng = random.Random(7)
    trials = _trials(rng)
    chosen = max((t for t in trials if t["state"] == "feasible"), key=lambda t: (t["rung"], t["accuracy"]))
    before, after = _layers(1.0, 224, frozenset()), _layers(0.4, 80, frozenset({"stage5.2", "stage6.3"}))
    best = _costs(250_112, 91_648, 24_310_000)
    return {
        "title": "EfficientNet-Lite0 on solar cells",
        "command": "thumbnet demo --seed 0",
        "target": {
            "name": "nrf52840",
            "title": "Nordic nRF52840",
            "core": "cortex-m4",
            "flash_bytes": 1 << 20,
            "ram_bytes": 256 << 10,
            "clock_hz": 64_000_000,
        },
        "limits": {"flash_bytes": 256 << 10, "ram_bytes": 96 << 10, "latency_ms": None, "macs": None, "max_drop": 2.0},
        "classes": ["defect", "ok"],
        "data": {
            "name": "solar cells",
            "licence": "CC BY-NC-SA 4.0, not for commercial use",
            "digest": "ab" * 32,
            "train": 1_830,
            "val": 266,
            "test": 528,
        },
        "reference_costs": _costs(3_460_000, 1_254_000, 385_000_000),
        "best_costs": best,
        "reference_layers": [
            {
                "name": layer["name"],
                "op": layer["op"],
                "output_shape": [layer["c"], layer["side"], layer["side"]],
                "macs": layer["macs"],
                "parameters": layer["weights"] + layer["c"] * (layer["weights"] > 0),
            }
            for layer in before
        ],
        "best_layers": [
            {
                "name": layer["name"],
                "op": layer["op"],
                "output_shape": [layer["side"], layer["side"], layer["c"]],
                "macs": layer["macs"],
                "weight_bytes": layer["weights"],
                "parameter_bytes": 9 * layer["c"] * (layer["weights"] > 0),
                "instructions": int(layer["macs"] * 1.5) + layer["c"] * layer["side"] ** 2,
                "cycles": int(layer["macs"] * (4.1 if "depth" in layer["op"] else 1.8)) + layer["c"] * 99,
            }
            for layer in after
        ],
        "arena": _arena(after),
        "trials": trials,
        "validation": {"reference": 85.7, "best": 84.3, "best_trial": chosen["id"]},
        "curves": [
            _curve("reference, fine-tuning", 300, 61.0, 85.7),
            _curve("result, distillation", 620, 55.0, 84.5),
            _curve("result, quantization-aware", 200, 83.0, 84.3),
        ],
        "confusion": {"reference": [[142, 41], [37, 308]], "best": [[139, 44], [40, 305]]},
        "samples": _samples(rng),
        "proof": {
            "images": 64,
            "extreme_vectors": 8,
            "bit_exact": True,
            "tflm_equal": True,
            "tflm_note": "tflite-micro 0.dev20261023182759",
            "cycle_error": 0.3,
            "mismatches": [],
            "arena_bytes": 90_372,
            "data_bytes": 8,
            "bss_bytes": 90_388,
            "stack_bytes": 1_252,
            "flash_bytes": 250_880,
            "layers": [],
            "emulator": "unicorn 2.1.4",
            "compiler": "zig cc 0.17.1 (clang 22)",
            "flags": "-O2 -mcpu=cortex_m4",
            "firmware_sha256": "cd" * 32,
        },
        "provenance": {"started": "2026-01-01T00:00:00Z", "tflite_sha256": "ef" * 32, "model_c_sha256": "01" * 32},
        "story": [
            {"stage": "Fine-tune the reference", "seconds": 121.0, "note": "5 epochs"},
            {"stage": "Fit candidates to the limits", "seconds": 14.2, "note": "64 fit"},
            {"stage": "Search", "seconds": 203.5, "note": "16 → 8 → 4 → 2"},
            {"stage": "Quantization-aware training", "seconds": 88.0, "note": "200 steps"},
            {"stage": "Verify", "seconds": 21.7, "note": "64 images"},
        ],
        "finalists": [
            {"id": "c05", "score": 83.5, "interval": [78.6, 87.4], "flash_bytes": 240_000, "ram_bytes": 90_000},
            {"id": chosen["id"], "score": 84.2, "interval": [79.4, 88.1], "flash_bytes": 250_112, "ram_bytes": 91_648},
        ],
        "insight": make_insight(),
        "moves": [
            "input 80×80",
            "skip stage5.2",
            "skip stage6.3",
            *(f"stage{i}: 40 % of channels" for i in range(1, 8)),
        ],
    }


@pytest.fixture
def result() -> dict[str, Any]:
    return make_result()


@pytest.fixture
def details() -> dict[str, Any]:
    return make_details()


@pytest.fixture
def run_dir(tmp_path: Path, result: dict[str, Any], details: dict[str, Any]) -> Path:
    (tmp_path / "result.json").write_text(json.dumps(result))
    (tmp_path / "details.json").write_text(json.dumps(details))
    return tmp_path
