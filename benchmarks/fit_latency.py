"""Measures every kernel on every core that Unicorn runs, and writes `src/thumbnet/cost/measured.json`.

For each kernel and core, a firmware with many shapes of it runs in the emulator; instructions and modelled cycles of
each call are fitted (non-negative least squares on relative errors) to the loop counts in `thumbnet.cost.features`. A
second firmware with the kernel alone gives code size, tables and stack. Run it after a change to a kernel:

    python benchmarks/fit_latency.py [--core cortex-m4] [--only tn_conv2d ...] [--json FILE]

The Helium kernels have a script of their own, fit_latency_mve.py.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

from thumbnet.cost.features import CONVOLUTIONS, FEATURES, cascade
from thumbnet.cost.flash import constant_bytes
from thumbnet.cost.kernel import Kernel, window_of
from thumbnet.cost.kernels import choose
from thumbnet.cost.latency import features_of, phase_counts, unit_latency
from thumbnet.cost.measured import Measured, source_hash
from thumbnet.cost.probes import ProbeBuilder
from thumbnet.cost.schedule import Unit, single
from thumbnet.cost.schedule import cascade as make_cascade
from thumbnet.cost.transposed import phases
from thumbnet.emulation.cycles import call_costs
from thumbnet.emulation.layers import calls_per_node
from thumbnet.emulation.machines import Machine, machine_for
from thumbnet.emulation.toolchain import Firmware, build, version
from thumbnet.emulation.unicorn import Run
from thumbnet.exporters.c import emit, write_firmware
from thumbnet.integer.graph import IntegerGraph, IntegerNode
from thumbnet.targets import Isa, Target, load_target

CORES = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33")
OUT = Path(__file__).parents[1] / "src/thumbnet/cost/measured.json"
BASE = ("main", "Reset_Handler", "Fault_Handler", "model_input", "model_output")
Make = Callable[[ProbeBuilder, str], str]
Probe = tuple[tuple[int, ...], Make]


def conv_probes() -> Iterator[Probe]:
    for h, c, o, k, s in (
        (6, 8, 8, 1, 1), (7, 16, 24, 1, 1), (5, 48, 16, 1, 1), (4, 96, 24, 1, 1), (3, 128, 64, 1, 1), (6, 24, 40, 1, 1),
        (9, 8, 48, 1, 1), (8, 20, 12, 1, 1), (5, 28, 7, 1, 1), (4, 10, 6, 1, 1), (1, 96, 40, 1, 1), (9, 12, 8, 1, 2),
        (12, 3, 8, 3, 2), (15, 1, 8, 3, 2), (16, 3, 16, 3, 2), (8, 8, 8, 3, 1), (6, 16, 16, 3, 1), (7, 12, 20, 3, 2),
        (9, 4, 8, 5, 1), (5, 32, 8, 3, 1), (11, 2, 4, 5, 2), (3, 40, 12, 3, 1), (8, 16, 10, 3, 1), (10, 3, 5, 3, 1),
    ):  # fmt: skip
        yield (h, h + 1, c), lambda b, x, o=o, k=k, s=s: b.conv2d(x, o, (k, k), (s, s))


def clamped_probes(kernel: tuple[int, int]) -> Iterator[Probe]:
    for h, c, o in ((5, 12, 16), (7, 8, 10), (6, 4, 21)):
        yield (h, h, c), lambda b, x, o=o: b.conv2d(x, o, kernel, clamp=(-128, 100))


def pair_probes() -> Iterator[Probe]:
    """Windows of every kind that pairs.S tells apart: odd rows, gaps, borders on all sides, remainders of channels."""
    yield from conv_probes()
    for h, w, c, o, k, s, d in (
        (49, 10, 1, 16, (10, 4), 2, 1), (9, 5, 8, 8, (3, 3), 1, 2), (6, 7, 5, 9, (1, 1), 1, 1),
        (5, 5, 7, 10, (1, 1), 1, 1), (8, 6, 6, 11, (2, 2), 1, 1), (7, 7, 16, 4, (1, 1), 2, 1),
        (12, 3, 20, 8, (3, 1), 1, 1), (3, 17, 9, 8, (1, 3), 1, 1), (10, 10, 4, 5, (3, 3), 3, 1),
        (20, 20, 2, 3, (5, 5), 2, 1), (11, 11, 3, 4, (3, 3), 1, 2), (4, 4, 32, 2, (4, 4), 1, 1),
        (16, 16, 3, 8, (3, 3), 2, 1), (6, 5, 13, 14, (1, 1), 1, 1), (13, 9, 1, 12, (5, 3), 1, 1),
        (8, 8, 48, 4, (3, 3), 1, 1),
    ):  # fmt: skip
        yield (h, w, c), lambda b, x, o=o, k=k, s=s, d=d: b.conv2d(x, o, k, (s, s), dilation=(d, d))


def positive(make: Make) -> Make:
    """The same, with an output of which nothing lies below its zero point."""

    def built(b: ProbeBuilder, x: str) -> str:
        y = make(b, x)
        b.tensors[y] = replace(b.tensors[y], zero_point=-128)
        return y

    return built


def depthwise_probes(kernels: tuple[int, ...]) -> Iterator[Probe]:
    for k in kernels:
        for h, w, c, s in (
            (6, 6, 8, 1), (9, 9, 4, 1), (14, 13, 4, 1), (20, 22, 4, 1), (5, 5, 24, 1), (7, 7, 16, 1), (3, 3, 48, 1),
            (40, 40, 2, 1), (12, 12, 8, 2), (19, 21, 4, 2), (40, 40, 2, 2), (7, 7, 20, 2), (10, 10, 12, 1),
            (24, 8, 8, 1),
        ):  # fmt: skip
            yield (h, w, c), lambda b, x, k=k, s=s: b.depthwise_conv2d(x, (k, k), (s, s))
            if h == 9:
                yield (h, w, c), lambda b, x, k=k, s=s: b.depthwise_conv2d(x, (k, k), (s, s), clamp=(-128, 9))


def on_two(make: Callable[[ProbeBuilder, str, str], str]) -> Iterator[Probe]:
    """Operations on two operands: of equal shape, and with a second one for each channel, each pixel, or everything."""
    yield (64,), lambda b, x: make(b, x, x)
    for h, w, c in ((4, 4, 4), (5, 5, 8), (3, 9, 37), (12, 1, 1), (1, 1, 1500), (10, 10, 10)):
        for small in ((h, w, c), (1, 1, c), (h, w, 1), (1, 1, 1)):

            def built(b: ProbeBuilder, x: str, small: tuple[int, ...] = small) -> str:
                flat = b.reshape(x, math.prod(b.tensors[x].shape))
                return make(b, x, b.reshape(b.slice(flat, 0, 0, math.prod(small)), *small))

            yield (h, w, c), built


def line_probes(kernel: int, stride: int) -> Iterator[Probe]:
    """Depthwise convolutions in lines: even and odd sizes, channels of every remainder, another vertical stride."""
    for h, w, c in (
        (6, 6, 8), (9, 9, 5), (14, 13, 4), (20, 22, 6), (5, 5, 24), (7, 7, 19), (3, 3, 48), (40, 40, 4), (25, 5, 16),
        (10, 10, 13), (24, 8, 8), (1, 12, 8), (2, 30, 7), (4, 1, 20),
    ):  # fmt: skip
        yield (h, w, c), lambda b, x: b.depthwise_conv2d(x, (kernel, kernel), (stride, stride))
        if h in (9, 10, 24):
            yield (h, w, c), lambda b, x: b.depthwise_conv2d(x, (kernel, kernel), (3 - stride, stride))
            yield (h, w, c), lambda b, x: b.depthwise_conv2d(x, (kernel, kernel), (stride, stride), clamp=(-128, 9))


def probes_of(function: str) -> list[Probe]:
    """Input shapes and what to build on them, for one kernel."""
    sizes = (64, 200, 1000, 1500)
    images = ((4, 4, 8), (7, 5, 16), (10, 10, 6), (3, 3, 40), (8, 9, 24))
    match function:
        case "tn_conv2d" | "tn_conv2d_int4":
            grouped: list[Probe] = [
                ((6, 6, 16), lambda b, x, g=g, k=k: b.conv2d(x, 16, (k, k), groups=g))
                for g in (2, 4, 16)
                for k in (1, 3)
            ]
            return [*conv_probes(), *grouped]
        case "tn_conv2d_dsp" | "tn_conv2d_int4_dsp":
            return [*pair_probes(), *clamped_probes((3, 2)), *clamped_probes((1, 1))]
        case "tn_conv2d_positive_dsp" | "tn_conv2d_int4_positive_dsp":
            return [(shape, positive(make)) for shape, make in (*pair_probes(), *clamped_probes((3, 2)))]
        case "tn_conv2d_v7m":
            return [*pair_probes(), *clamped_probes((3, 2)), *clamped_probes((1, 1))]
        case "tn_conv2d_positive_v7m":
            return [(shape, positive(make)) for shape, make in (*pair_probes(), *clamped_probes((3, 2)))]
        case "tn_depthwise_conv2d":
            return list(depthwise_probes((2, 3, 5, 7)))
        case "tn_depthwise_conv2d_k3_v7m":
            return list(depthwise_probes((3,)))
        case "tn_depthwise_conv2d_k3_positive_v7m":
            return [(shape, positive(make)) for shape, make in depthwise_probes((3,))]
        case "tn_depthwise_conv2d_any_v7m":
            return list(depthwise_probes((2, 5, 7)))
        case "tn_depthwise_conv2d_any_positive_v7m":
            return [(shape, positive(make)) for shape, make in depthwise_probes((2, 5, 7))]
        case _ if function.startswith("tn_depthwise_conv2d_k"):
            lines = line_probes(int(function[21]), int(function[23]))
            return [(shape, positive(make) if "_positive" in function else make) for shape, make in lines]
        case "tn_dense" | "tn_dense_v7m" | "tn_dense_dsp" | "tn_dense_int4" | "tn_dense_int4_dsp":
            pairs = ((16, 10), (64, 2), (130, 12), (256, 4), (40, 33), (640, 8), (45, 7), (18, 5))
            return [((k,), lambda b, x, n=n, c=c: b.dense(x, n, (-128, c))) for k, n in pairs for c in (127, 20)]
        case "tn_add_v7m" | "tn_add_even_v7m" | "tn_add_dsp" | "tn_add_even_dsp":
            even = "_even" in function
            return [
                ((n,), lambda b, x, n=n, c=c: b.add(x, x, clamp=(-128, c), even=even))
                for n in (*sizes, 33, 107)
                for c in (127, 50)
            ]
        case "tn_add":  # a difference, which no other kernel computes
            return [*on_two(lambda b, x, y: b.add(x, y, "sub"))]
        case "tn_mul":
            return [*on_two(lambda b, x, y: b.mul(x, y))]
        case "tn_maximum" | "tn_minimum":
            return [*on_two(lambda b, x, y: b.extreme(function[3:], x, y))]
        case "tn_prelu":
            return [*on_two(lambda b, x, y: b.prelu(x, y))]
        case "tn_lut":
            return [((n,), lambda b, x: b.lut(x)) for n in sizes]
        case "tn_requantize":
            return [((n,), lambda b, x: b.requantize(x)) for n in sizes]
        case "tn_max_pool2d" | "tn_avg_pool2d":
            windows = ((2, 2), (3, 2), (3, 1), (4, 4))
            return [
                (s, lambda b, x, k=k, t=t: b.pool(function[3:], x, (min(k, 3), k) if k < 4 else (3, 3), (t, t)))
                for s in images
                for k, t in windows
            ]
        case "tn_max_pool2d_dsp" | "tn_avg_pool2d_dsp":
            op = function[3:-4]
            return [
                (s, lambda b, x, k=k, t=t: b.pool(op, x, k, (t, t)))
                for s in (*images, (9, 12, 7))
                for k, t in (((2, 2), 2), ((3, 2), 1), ((3, 3), 2), ((2, s[1]), 1), (s[:2], 1))
            ]
        case "tn_global_avg_pool":
            return [(s, lambda b, x: b.global_avg_pool(x)) for s in images]
        case "tn_global_avg_pool_dsp":
            return [(s, lambda b, x: b.global_avg_pool(x)) for s in (*images, (7, 7, 13), (19, 28, 4), (1, 1, 21))]
        case "tn_copy_blocks":
            return [
                (s, lambda b, x, a=a, n=n: b.slice(x, a, 0, n)) for s in images for a, n in ((2, 4), (0, 2), (1, 2))
            ]
        case "tn_pad":
            amounts = (((1, 1, 1, 1), (0, 0)), ((0, 0, 1, 2), (0, 0)), ((0, 0, 0, 0), (0, 8)), ((1, 0, 1, 0), (3, 2)))
            return [(s, lambda b, x, p=p, c=c: b.pad(x, p, c)) for s in images for p, c in amounts]
        case "tn_move":
            turned: list[Probe] = [
                (s, lambda b, x, p=p: b.transpose(x, *p)) for s in images for p in ((2, 0, 1), (1, 0, 2), (0, 2, 1))
            ]
            return [*turned, *((s, lambda b, x: b.depth_to_space(x, 2)) for s in images if s[2] % 4 == 0)]
        case "tn_resize_nearest":
            return [(s, lambda b, x, n=n: b.resize_nearest(x, n)) for s in images for n in ((8, 8), (12, 5))]
        case "tn_reduce_sum" | "tn_reduce_max" | "tn_reduce_min":
            op = "mean" if function == "tn_reduce_sum" else function[3:]
            several = ((0,), (1,), (2,), (0, 1), (1, 2))
            return [(s, lambda b, x, a=a: b.reduction(op, x, a)) for s in images for a in several]
        case "tn_take":
            return [
                (s, lambda b, x, n=n: b.resize("resize_nearest", x, n, align_corners=True))
                for s in images
                for n in ((9, 11), (12, 7))
            ]
        case "tn_resize_bilinear":
            return [(s, lambda b, x, n=n: b.resize("resize_bilinear", x, n)) for s in images for n in ((8, 8), (12, 5))]
        case "tn_softmax":
            return [((n,), lambda b, x: b.softmax(x)) for n in (2, 3, 10, 35, 100)]
    raise KeyError(function)


def bits_of(function: str) -> int:
    return 4 if "_int4" in function else 8


def many(probes: list[Probe], bits: int) -> IntegerGraph:
    """One network that computes every probe on a part of its input, with weights of so many bits."""
    b = ProbeBuilder(7, bits=bits)
    x = b.input(max(math.prod(shape) for shape, _ in probes))
    for shape, make in probes:
        make(b, b.reshape(b.slice(x, 0, 0, math.prod(shape)), *shape))
    return b.graph()


def built(
    ig: IntegerGraph, target: Target, folder: Path, units: tuple[Unit, ...] | None = None
) -> tuple[Firmware, Machine]:
    write_firmware(folder, emit(ig, target, units=units))
    a, b = ig.tensors[ig.inputs[0]], ig.tensors[ig.outputs[0]]
    machine, firmware = machine_for(folder, build(folder, target), a.bytes, b.bytes)
    return firmware, machine


def executed(machine: Machine, ig: IntegerGraph) -> Run:
    """The second run: the first one is for the emulator's own checks."""
    data = np.random.default_rng(0).bytes(ig.tensors[ig.inputs[0]].bytes)
    machine.run(data)
    return machine.run(data)


def speed(function: str, probes: list[Probe], target: Target, folder: Path) -> dict[str, Any]:
    """Coefficients for instructions and cycles, and the worst relative error of the former."""
    ig = many(probes, bits_of(function))
    firmware, machine = built(ig, target, folder)
    executed(machine, ig)
    calls = iter(call_costs(machine.counts(), firmware.image, target.core))
    chosen: list[tuple[IntegerNode, Kernel, int, int]] = []
    for node, count in zip(ig.nodes, calls_per_node((folder / "model.c").read_text()), strict=True):
        kernel = choose(node, ig, target.core.isa)
        parts = [next(calls) for _ in range(count)]  # none where a slice is already in its place
        if kernel.function == function and parts:
            total = (sum(c.instructions for c in parts), sum(c.cycles for c in parts))
            chosen.append((node, kernel, *total))
    assert next(calls, None) is None, function
    rows = np.array([features_of(n, ig, k) for n, k, *_ in chosen], float)
    fitted = {}
    for i, what in enumerate(("instructions", "cycles")):
        y = np.array([row[2 + i] for row in chosen], float)
        coefficients, _ = nnls(rows / y[:, None], np.ones(len(y)))
        fitted[what] = [float(f"{v:.5g}") for v in coefficients]
        if what == "instructions":
            errors = rows @ coefficients / y - 1
            fitted["error"] = round(float(np.abs(errors).max()), 4)
    return fitted


def alone(function: str, probes: list[Probe], isa: Isa) -> IntegerGraph:
    """A network of this kernel and nothing else: the first probe that is one."""
    for shape, make in probes:
        b = ProbeBuilder(7, bits=bits_of(function))
        make(b, b.input(*shape))
        ig = b.graph()
        kernel = choose(ig.nodes[0], ig, isa)
        if len(ig.nodes) == 1 and kernel.function == function and not kernel.clamped:
            return ig
    raise AssertionError(f"no probe is a network of {function} alone")


def size(function: str, probes: list[Probe], target: Target, folder: Path) -> dict[str, Any]:
    """Functions, tables and stack of a firmware with one node of this kernel."""
    ig = alone(function, probes, target.core.isa)
    firmware, machine = built(ig, target, folder)
    run = executed(machine, ig)
    sizes, seen = {}, set()
    for f in firmware.image.functions:
        if f.address not in seen and f.name != "model_invoke":
            sizes[f.name] = f.bytes
            seen.add(f.address)
    constants = sum(constant_bytes(ig.nodes[0], ig, choose(ig.nodes[0], ig, target.core.isa)))
    invoke = firmware.image.symbol("model_invoke").bytes
    total = sum(-(-n // 4) * 4 for n in (*sizes.values(), invoke))
    return {
        "functions": {_unique(n, function): s for n, s in sizes.items() if n not in BASE},
        "base": {n: s for n, s in sizes.items() if n in BASE},
        "rest": firmware.image.sizes.code - total,
        "rodata": max(0, firmware.image.sizes.rodata - constants),
        "stack": run.stack_bytes,
    }


CASCADES = (  # input height, width, channels; expanded and output channels; kernel, stride; rows in each round
    (12, 10, 4, 16, 8, 3, 1, 2), (16, 14, 8, 12, 4, 3, 2, 1), (13, 9, 4, 8, 8, 5, 1, 4), (20, 20, 4, 12, 8, 5, 2, 2),
    (24, 8, 4, 24, 4, 3, 1, 1), (18, 18, 4, 8, 4, 3, 1, 8), (9, 30, 12, 40, 4, 3, 1, 1), (30, 9, 4, 16, 4, 3, 2, 4),
)  # fmt: skip


def cascades(isa: Isa) -> tuple[IntegerGraph, tuple[Unit, ...]]:
    """A network of inverted bottlenecks, each a cascade on a part of the input."""
    b = ProbeBuilder(7)
    x = b.input(max(h * w * c for h, w, c, *_ in CASCADES))
    for h, w, c, expanded, out, k, s, _ in CASCADES:
        y = b.conv2d(b.reshape(b.slice(x, 0, 0, h * w * c), h, w, c), expanded)
        b.conv2d(b.depthwise_conv2d(y, (k, k), (s, s)), out)
    ig = b.graph()
    kernels = [choose(node, ig, isa) for node in ig.nodes]
    units: list[Unit] = []
    for i, (*_, rows) in enumerate(CASCADES):
        units += [single(5 * i, kernels[5 * i]), single(5 * i + 1, kernels[5 * i + 1])]
        stages = range(5 * i + 2, 5 * i + 5)
        windows = tuple(window_of(ig.nodes[j], ig) for j in stages)
        units.append(make_cascade(stages[0], tuple(kernels[j] for j in stages), windows, rows))
    return ig, tuple(units)


def measure_cascade(target: Target, known: dict[str, Any], base: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What `tn_cascade` takes beyond its stages."""
    ig, units = cascades(target.core.isa)
    firmware, machine = built(ig, target, folder, units)
    run = executed(machine, ig)
    counted = call_costs(machine.counts(), firmware.image, target.core)
    costs = Measured.of({"base_functions": base, "base_bytes": 0, "kernels": known | {"tn_cascade": NOTHING}})
    rows, rest, total = [], [], []
    made = calls_per_node((folder / "model.c").read_text())
    for unit, spent in zip([u for u in units if made[u.last]], counted, strict=True):
        if unit.rows:
            stages = np.array(unit_latency(unit, ig, costs)).sum(0)
            rows.append(cascade(unit))
            rest.append([spent.instructions - stages[0], spent.cycles - stages[1]])
            total.append(spent.instructions)
    deepest = max(costs.kernels[k.function].stack_bytes for u in units for k in u.kernels if k.function)
    return {
        "functions": {f.name: f.bytes for f in firmware.image.functions if f.name.endswith(("tn_cascade", "memmove"))},
        "rodata": 0,
        "stack": run.stack_bytes - deepest,
        **_remainder(rows, rest, total),
    }


TRANSPOSED = (  # input height, width, channels; output channels; kernel, stride; rows and columns cut off
    (6, 6, 8, 8, 2, 2, 0), (9, 5, 4, 6, 3, 2, 0), (7, 8, 12, 4, 4, 2, 1), (12, 4, 3, 8, 5, 3, 1),
    (4, 20, 8, 5, 3, 1, 1), (20, 3, 6, 4, 2, 2, 0),
)  # fmt: skip


def measure_transposed(target: Target, known: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What `tn_conv_transpose2d` takes beyond the kernels of its phases."""
    b = ProbeBuilder(7)
    x = b.input(max(h * w * c for h, w, c, *_ in TRANSPOSED))
    for h, w, c, out, k, stride, cut in TRANSPOSED:
        part = b.reshape(b.slice(x, 0, 0, h * w * c), h, w, c)
        b.conv_transpose2d(part, out, (k, k), (stride, stride), (cut, cut))
    ig = b.graph()
    firmware, machine = built(ig, target, folder)
    run = executed(machine, ig)
    counted = iter(call_costs(machine.counts(), firmware.image, target.core))
    rows, rest, total, deepest = [], [], [], 0
    for node in ig.nodes:
        kernel = choose(node, ig, target.core.isa)
        if not kernel.parts:
            _ = next(counted) if kernel.function else None
            continue
        spent, parts = next(counted), np.zeros(2)
        for phase, part_kernel in zip(phases(node, ig).all, kernel.parts, strict=True):
            cost = known[part_kernel.function]
            deepest = max(deepest, cost["stack"])
            parts += np.array([cost["instructions"], cost["cycles"]]) @ phase_counts(phase, part_kernel)
        rows.append(features_of(node, ig, kernel))
        rest.append([spent.instructions - parts[0], spent.cycles - parts[1]])
        total.append(spent.instructions)
    own = {"functions": {"tn_conv_transpose2d": firmware.image.symbol("tn_conv_transpose2d").bytes}, "rodata": 0}
    return {**own, "stack": run.stack_bytes - deepest, **_remainder(rows, rest, total)}


def _remainder(rows: list[Any], rest: list[Any], total: list[Any]) -> dict[str, Any]:
    """Coefficients for what parts leave over, and the worst error of that relative to the whole."""
    fits = [nnls(np.array(rows, float), np.array(rest, float)[:, i])[0] for i in (0, 1)]
    errors = (np.array(rows) @ fits[0] - np.array(rest)[:, 0]) / np.array(total)
    found: dict[str, Any] = {k: [float(f"{v:.5g}") for v in fits[i]] for i, k in enumerate(("instructions", "cycles"))}
    return {**found, "error": round(float(np.abs(errors).max()), 4)}


def measure_unpacking(target: Target, folder: Path) -> dict[str, Any]:
    """What `tn_depthwise_conv2d_int4` takes beyond the kernel that it calls."""
    probes: list[Probe] = [
        ((3, 3, c), lambda b, x, k=k: b.depthwise_conv2d(x, k))
        for c in (4, 9, 16, 40)
        for k in ((3, 3), (2, 1), (5, 5))
    ]
    counted, stack, size = [], [], 0
    for bits in (4, 8):
        ig = many(probes, bits)
        firmware, machine = built(ig, target, folder / str(bits))
        stack.append(executed(machine, ig).stack_bytes)
        calls = iter(call_costs(machine.counts(), firmware.image, target.core))
        numbers = calls_per_node((folder / str(bits) / "model.c").read_text())
        spent = [(n, [next(calls) for _ in range(count)]) for n, count in zip(ig.nodes, numbers, strict=True)]
        counted.append([(n, c[0]) for n, c in spent if n.op == "depthwise_conv2d"])
        if bits == 4:
            size = firmware.image.symbol("tn_depthwise_conv2d_int4").bytes
    pairs = list(zip(*counted, strict=True))
    rows = np.array([(1, node.weight_bytes) for (node, _), _ in pairs], float)
    rest = np.array([(a.instructions - b.instructions, a.cycles - b.cycles) for (_, a), (_, b) in pairs], float)
    fits = [nnls(rows / rest[:, i : i + 1], np.ones(len(rest)))[0] for i in (0, 1)]
    return {
        "functions": {"tn_depthwise_conv2d_int4": size},
        "rodata": 0,
        "stack": stack[0] - stack[1],
        "instructions": [float(f"{v:.5g}") for v in fits[0]],
        "cycles": [float(f"{v:.5g}") for v in fits[1]],
        "error": round(float(np.abs(rows @ fits[0] / rest[:, 0] - 1).max()), 4),
    }


NOTHING = {"functions": {}, "rodata": 0, "stack": 0, "instructions": [0] * 6, "cycles": [0] * 6, "error": 0}


def _unique(name: str, function: str) -> str:
    """Static functions of different kernels may have the same name; library and tn_ functions are shared."""
    shared = name.startswith(("tn_", "__", "mem", "compiler_rt"))
    return name if shared else f"{function}/{name}"


def functions_of(target: Target) -> list[str]:
    """Kernels that this core may run, Helium and those `AROUND` others left out."""
    own = {"generic": (), "v7m": ("v7m",), "dsp": ("v7m", "dsp")}[target.core.isa]
    others = tuple(f"_{family}" for family in ("v7m", "dsp", "mve") if family not in own)
    return [f for f in (*CONVOLUTIONS, *FEATURES) if not f.endswith(others) and f not in AROUND]


AROUND = ("tn_cascade", "tn_conv_transpose2d")  # these call other kernels


def measure(core: str, only: list[str], old: dict[str, Any]) -> dict[str, Any]:
    board = load_target(core)
    known = (*functions_of(board), *AROUND)
    kernels: dict[str, Any] = {k: v for k, v in old.get("kernels", {}).items() if only and k in known}
    base, rest = old.get("base_functions", {}), old.get("base_bytes", 0)
    for function in functions_of(board):
        if only and function not in only:
            continue
        isa: Isa = "dsp" if function.endswith("_dsp") else "v7m" if function.endswith("_v7m") else "generic"
        target = replace(board, core=replace(board.core, isa=isa))
        with tempfile.TemporaryDirectory() as folder:
            if function == "tn_depthwise_conv2d_int4":
                kernels[function] = measure_unpacking(target, Path(folder))
            else:
                sizes = size(function, probes_of(function), target, Path(folder) / "one")
                base, rest = sizes.pop("base"), sizes.pop("rest")
                kernels[function] = {**sizes, **speed(function, probes_of(function), target, Path(folder) / "many")}
        stack, error = kernels[function]["stack"], kernels[function]["error"]
        print(f"{core:14} {function:38} rest {rest:4} stack {stack:4} worst error {error:7.2%}", flush=True)
    for function in (f for f in AROUND if not only or f in only):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            kernels[function] = (
                measure_cascade(board, kernels, base, folder)
                if function == "tn_cascade"
                else measure_transposed(board, kernels, folder)
            )
        print(f"{core:14} {function}, worst error {kernels[function]['error']:7.2%}", flush=True)
    return {"base_functions": base, "base_bytes": rest, "kernels": kernels}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--core", choices=CORES)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--json", type=Path, default=OUT)
    options = parser.parse_args()
    old = json.loads(options.json.read_text()) if options.json.exists() else {"cores": {}}
    cores = dict(old["cores"])
    for core in (options.core,) if options.core else CORES:
        cores[core] = measure(core, options.only, cores.get(core, {}))
    data = {"sources": source_hash(), "compiler": version(), "cores": cores}
    options.json.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
