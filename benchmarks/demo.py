"""The demo's figures: runs it in new directories, and compares the runs byte for byte.

    python benchmarks/demo.py [--runs 2] [--against DIR] [--seed 0] [--json FILE] [--readme README.md]

Each run starts from nothing: the reference is fine-tuned again. `--against` adds the directory of an earlier run with
the same seed to the comparison. The baseline of every figure is the reference as plain int8. `--readme` writes the
table into that file, between the two lines that mark it; alone with `--json` of an earlier call (`--runs 0`) it does
not measure anything.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

OUT = Path(__file__).parent / "results" / "demo.json"
SAME = ("firmware/model.c", "firmware/model.h", "model.tflite")  # what equal seeds must give byte for byte
BEGIN, END = "<!-- demo -->", "<!-- end of demo -->"


def run(folder: Path, seed: int) -> dict[str, Any]:
    """One demo, from nothing: its result.json, wall time and peak memory, all child processes included."""
    start = time.monotonic()
    command = [sys.executable, "-m", "thumbnet", "demo", "--run-dir", str(folder), "--seed", str(seed)]
    code = subprocess.run(command, check=False).returncode
    if not (folder / "result.json").exists():
        raise SystemExit(f"The demo stopped with exit code {code}.")
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024  # Linux counts in KB
    return {**result, "exit_code": code, "seconds": round(time.monotonic() - start, 1), "peak_bytes": peak}


def figures(result: dict[str, Any], runs: int, identical: bool | None) -> list[dict[str, Any]]:
    best, reference, n = result["best"], result["reference"], result["test_images"]
    found = []

    def add(name: str, value: Any, unit: str, kind: str, baseline: Any = None, count: int = 1) -> None:
        ratio = None if not baseline or value is None else round(value / baseline, 5)
        figure = {"value": value, "unit": unit, "kind": kind, "baseline": baseline, "ratio": ratio, "n": count}
        found.append({"name": f"demo/{name}", **figure})

    add("accuracy", best["accuracy"], "%", "measured", reference["accuracy"], n)
    for side, value in zip(("low", "high"), best["accuracy_interval"], strict=True):
        add(f"accuracy_{side}", value, "%", "measured", None, n)
    add("drop", result["drop_points"], "points", "measured", None, n)
    for side, value in zip(("low", "high"), result["drop_interval"], strict=True):
        add(f"drop_{side}", value, "points", "measured", None, n)
    add("parameters", best["parameters"], "", "measured", reference["parameters"])
    add("macs", best["macs"], "", "measured", reference["macs"])
    add("flash", best["flash_bytes"], "B", "emulated", reference["flash_bytes"])
    add("code", best["code_bytes"], "B", "emulated")
    add("ram", best["ram_bytes"], "B", "emulated", reference["ram_bytes"])
    add("instructions", best["instructions"], "", "emulated")
    add("cycles", best["cycles"], "", "estimated")
    add("latency", best["latency_ms"], "ms", "estimated", reference["latency_ms"])
    add("proof_images", result["proof"]["images"] if result["proof"]["bit_exact"] else 0, "", "emulated")
    add("wall", result["seconds"], "s", "measured")
    add("peak_memory", result["peak_bytes"], "B", "measured")
    if identical is not None:
        add("identical_bytes", int(identical), "", "measured", None, runs)
    return found


def table(data: dict[str, Any]) -> str:
    """The figures as Markdown, with the reference next to them."""
    f = {x["name"].removeprefix("demo/"): x for x in data["figures"]}

    def row(label: str, name: str, form: str, kind: str, scale: float = 1.0) -> str:
        before = f[name]["baseline"]
        cells = (label, "–" if before is None else form.format(before / scale), form.format(f[name]["value"] / scale))
        change = f"÷ {before / f[name]['value']:.1f}" if before and name != "accuracy" else ""
        return "| " + " | ".join((*cells, change, kind)) + " |"

    drop, low, high = (f[k]["value"] for k in ("drop", "drop_low", "drop_high"))
    interval = f"{f['accuracy_low']['value']:.1f}–{f['accuracy_high']['value']:.1f}"
    accuracy = row(
        f"accuracy, {f['accuracy']['n']} test images of modules held out", "accuracy", "{:.1f} %", "measured"
    )
    accuracy = accuracy.replace(
        " |  | ", f" ({interval}) | {-drop or 0.0:+.2f} points ({-high:+.1f} to {-low:+.1f}) | "
    )
    rows = [
        "| | reference | Thumbnet | change | figure is |",
        "| --- | --- | --- | --- | --- |",
        accuracy,
        row("parameters", "parameters", "{:,.0f}", "counted"),
        row("multiply-accumulates", "macs", "{:,.0f}", "counted"),
        row("flash, everything linked", "flash", "{:.1f} KB", "emulated; reference estimated, as int8", 1024),
        row("RAM, arena + static + stack", "ram", "{:.1f} KB", "emulated; reference estimated, as int8", 1024),
        row("instructions per inference", "instructions", "{:,.0f}", "emulated"),
        row("latency at 64 MHz", "latency", "{:,.0f} ms", "estimated, ±30 %"),
    ]
    wall, memory = f["wall"]["value"] / 60, f["peak_memory"]["value"] / 2**30
    same = f.get("identical_bytes", {"value": 0, "n": 0})
    again = f"; {same['n']} runs gave byte-identical firmware" if same["value"] else ""
    machine = data["machine"]
    return "\n".join(rows) + (
        f"\n\nSeed {data['seed']}, effort quick; 95 % intervals in brackets; 1 KB = 1024 bytes. The firmware equalled "
        "the integer arithmetic\n"
        f"byte for byte on {f['proof_images']['value']} images and extreme inputs{again}.\n"
        f"The run took {wall:.1f} minutes and {memory:.1f} GB of memory on {machine['cpus']} cores "
        f"({machine['cpu']}), fine-tuning of the reference\nincluded. `python benchmarks/demo.py` makes these figures."
    )


def into(readme: Path, text: str) -> None:
    whole = readme.read_text()
    pattern = re.compile(f"{re.escape(BEGIN)}\n.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(whole):
        raise SystemExit(f"{readme} has no lines {BEGIN} and {END}.")
    readme.write_text(pattern.sub(lambda _: f"{BEGIN}\n{text}\n{END}", whole))


def machine() -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), cpu)
    return {"cpu": cpu, "cpus": len(os.sched_getaffinity(0)), "platform": platform.platform()}


def measure(count: int, seed: int, earlier: list[Path]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        folders = [Path(folder) / f"run{k}" for k in range(count)]
        results = [run(path, seed) for path in folders]
        contents = [[(path / name).read_bytes() for name in SAME] for path in (*folders, *earlier)]
    identical = all(c == contents[0] for c in contents) if len(contents) > 1 else None
    return {
        "figures": figures(results[0], len(contents), identical),
        "machine": machine(),
        "versions": results[0]["versions"],
        "seed": seed,
        "command": " ".join(["python", *(Path(a).name if Path(a).is_absolute() else a for a in sys.argv)]),
        "seconds_of_runs": [r["seconds"] for r in results],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--against", type=Path, action="append", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=OUT)
    parser.add_argument("--readme", type=Path)
    options = parser.parse_args()
    if options.runs:
        data = measure(options.runs, options.seed, options.against)
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(data, indent=1) + "\n")
    data = json.loads(options.json.read_text())
    print(table(data))
    if options.readme:
        into(options.readme, table(data))


if __name__ == "__main__":
    main()
