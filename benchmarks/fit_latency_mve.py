"""Measures every Helium kernel in QEMU and writes `src/thumbnet/cost/measured_mve.json`, as fit_latency.py does for
the others. Run it after a change to a kernel under `kernels/mve`:

    python benchmarks/fit_latency_mve.py [--only tn_conv2d_mve] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fit_latency import Probe, clamped_probes, depthwise_probes, pair_probes, positive, probes_of, size, speed

from thumbnet.cost.features_mve import CONVOLUTIONS, FEATURES
from thumbnet.cost.measured import source_hash
from thumbnet.emulation.toolchain import version
from thumbnet.targets import load_target

CORE = load_target("cortex-m55")
OUT = Path(__file__).parents[1] / "src/thumbnet/cost/measured_mve.json"


def narrow_probes() -> Iterator[Probe]:
    """Windows of at most 16 values: of one pixel, with strides, borders and gaps, channels of every remainder."""
    for h, w, c, o, k, s, d in (
        (9, 9, 8, 16, (1, 1), 1, 1), (12, 11, 16, 32, (1, 1), 1, 1), (6, 7, 16, 64, (1, 1), 2, 1),
        (5, 5, 13, 9, (1, 1), 1, 1), (8, 8, 4, 10, (1, 1), 1, 1), (20, 20, 1, 8, (3, 3), 2, 1),
        (9, 8, 1, 12, (3, 3), 1, 1), (9, 9, 1, 7, (3, 3), 1, 2), (14, 3, 3, 16, (5, 1), 1, 1),
        (3, 14, 2, 8, (1, 7), 1, 1), (30, 30, 3, 8, (2, 2), 2, 1), (4, 40, 10, 20, (1, 1), 1, 1),
        (17, 5, 16, 4, (1, 1), 3, 1), (24, 24, 16, 24, (1, 1), 1, 1),
    ):  # fmt: skip
        yield (h, w, c), lambda b, x, o=o, k=k, s=s, d=d: b.conv2d(x, o, k, (s, s), dilation=(d, d))


def plane_probes() -> Iterator[Probe]:
    yield from depthwise_probes((2, 3, 4))
    for h, w, c, k, s in (
        (30, 1, 40, (9, 1), 1), (12, 1, 16, (15, 1), 1), (9, 30, 8, (1, 5), 2), (7, 9, 13, (3, 3), 1),
        (20, 20, 6, (3, 3), 2), (10, 9, 17, (5, 3), 1), (25, 5, 64, (3, 3), 1), (3, 3, 128, (3, 3), 1),
        (48, 48, 8, (3, 3), 1), (6, 6, 32, (3, 3), 3),
    ):  # fmt: skip
        yield (h, w, c), lambda b, x, k=k, s=s: b.depthwise_conv2d(x, k, (s, s))


def probes(function: str) -> list[Probe]:
    """Input shapes and what to build on them. Kernels are chosen by shape, so some probes go to others."""
    found: list[Probe]
    match function.replace("_positive", ""):
        case "tn_conv2d_mve" | "tn_conv2d_rows_mve":
            found = [*pair_probes(), *clamped_probes((3, 2)), *clamped_probes((2, 2))]
        case "tn_conv2d_narrow_mve":
            found = [*narrow_probes(), *clamped_probes((1, 1))]
        case "tn_depthwise_conv2d_mve":
            found = list(plane_probes())
        case "tn_depthwise_conv2d_wide2_mve":
            found = [*depthwise_probes((5,)), ((9, 8, 12), lambda b, x: b.depthwise_conv2d(x, (3, 3), dilation=(2, 2)))]
        case "tn_depthwise_conv2d_wide4_mve":
            found = list(depthwise_probes((7,)))
        case "tn_dense_mve":
            pairs = ((16, 10), (64, 2), (130, 12), (256, 4), (40, 33), (640, 8), (90, 100))
            found = [((k,), lambda b, x, n=n, c=c: b.dense(x, n, (-128, c))) for k, n in pairs for c in (127, 20)]
        case "tn_mul_mve":
            found = [*probes_of("tn_mul"), ((33,), lambda b, x: b.mul(x, x))]
            found += [((4, 5, c), lambda b, x: b.mul(x, b.global_avg_pool(x))) for c in (8, 13, 40)]
        case "tn_add_mve":
            found = probes_of("tn_add_dsp")
        case plain:
            found = probes_of(plain.removesuffix("_mve"))
    return [(s, positive(m)) for s, m in found] if "_positive" in function else found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only")
    parser.add_argument("--json", type=Path, default=OUT)
    options = parser.parse_args()
    old = json.loads(options.json.read_text())["cores"].get(CORE.name, {}) if options.only else {}
    kernels = dict(old.get("kernels", {}))
    base, rest = old.get("base_functions", {}), old.get("base_bytes", 0)
    for function in (*CONVOLUTIONS, *FEATURES):
        if options.only and function != options.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            sizes = size(function, probes(function), CORE, Path(folder) / "one")
            fitted = speed(function, probes(function), CORE, Path(folder) / "many")
        base, rest = sizes.pop("base"), sizes.pop("rest")
        kernels[function] = {**sizes, **fitted}
        print(f"{function:36} stack {sizes['stack']:4} worst error {fitted['error']:7.2%}", flush=True)
    core = {"base_functions": base, "base_bytes": rest, "kernels": kernels}
    data = {"sources": source_hash(helium=True), "compiler": version(), "cores": {CORE.name: core}}
    options.json.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
