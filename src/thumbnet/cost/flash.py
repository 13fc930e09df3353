"""Bytes of flash: constants by their types, code as measured, call sites by their instructions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from thumbnet.cost.kernel import Kernel, window_of
from thumbnet.cost.kernels_mve import blocks_of, runs_of
from thumbnet.cost.measured import Measured
from thumbnet.cost.schedule import Unit
from thumbnet.cost.transposed import phases
from thumbnet.integer.graph import IntegerGraph, IntegerNode

# sizeof of the parameter structs in the kernels' headers on a 32-bit core; `_positive` ones have the same
STRUCT_BYTES = {
    "tn_conv2d": 32 + 16,
    "tn_conv2d_int4": 32 + 16,
    "tn_depthwise_conv2d": 32 + 16,
    "tn_conv_transpose2d": 16,
    "tn_depthwise_conv2d_int4": 12,  # beyond those of the kernel that it calls
    "tn_dense": 22,
    "tn_dense_int4": 22,
    "tn_conv2d_dsp": 32,
    "tn_conv2d_int4_dsp": 32,
    **{f"tn_depthwise_conv2d_{kernel}_dsp": 32 + 16 for kernel in ("k3s1", "k3s2", "k5s1", "k5s2")},
    "tn_dense_dsp": 24,
    "tn_dense_int4_dsp": 24,
    "tn_conv2d_v7m": 32,
    "tn_depthwise_conv2d_k3_v7m": 32 + 16,
    "tn_depthwise_conv2d_any_v7m": 32 + 16,
    "tn_dense_v7m": 24,
    "tn_add_v7m": 32,
    "tn_add_even_v7m": 32,
    "tn_conv2d_mve": 32,
    "tn_conv2d_rows_mve": 32,
    "tn_conv2d_narrow_mve": 32,
    "tn_depthwise_conv2d_mve": 32,
    "tn_depthwise_conv2d_wide2_mve": 32,
    "tn_depthwise_conv2d_wide4_mve": 32,
    "tn_dense_mve": 24,
    "tn_add_mve": 36,
    "tn_mul_mve": 24,
    "tn_max_pool2d_dsp": 18,
    "tn_avg_pool2d_dsp": 18,
    "tn_global_avg_pool_dsp": 18,
    "tn_max_pool2d_mve": 18,
    "tn_avg_pool2d_mve": 18,
    "tn_global_avg_pool_mve": 18,
    "tn_add": 36,
    "tn_add_dsp": 36,
    "tn_add_even_dsp": 36,
    "tn_mul": 24,
    "tn_maximum": 12,
    "tn_minimum": 12,
    "tn_prelu": 28,
    "tn_max_pool2d": 18,
    "tn_avg_pool2d": 18,
    "tn_global_avg_pool": 18,
    "tn_requantize": 16,
    "tn_pad": 16,
    "tn_move": 32,
    "tn_reduce_sum": 24,
    "tn_reduce_max": 12,
    "tn_reduce_min": 12,
    "tn_resize_nearest": 10,
    "tn_resize_bilinear": 28,
    "tn_take": 16,
    "tn_softmax": 16,
}


_PHASE_BYTES = 16  # sizeof(tn_phase)


def constant_bytes(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> tuple[int, int]:
    """(weights, parameters and tables) that the node puts into flash, each array rounded up to its alignment."""
    weight = node.weight_bytes if "weight" in node.arrays else 0
    struct = _aligned(STRUCT_BYTES.get(kernel.function.replace("_positive", ""), 0))
    struct += STRUCT_BYTES.get(kernel.unpacks, 0)
    if kernel.family == "mve" and weight:
        return weight, struct + _packed_mve(node, ig, kernel.function) - weight
    if kernel.family == "dsp" and node.op in ("conv2d", "dense"):
        return weight, struct + _packed_dsp(node, ig, kernel) - weight
    if kernel.family == "v7m" and node.op in ("conv2d", "dense"):
        return weight, struct + _packed_v7m(node) - weight
    if node.op == "conv_transpose2d":
        made = zip(phases(node, ig).all, kernel.parts, strict=True)
        of_phases = [sum(constant_bytes(phase.node, phase.ig, part)) + _PHASE_BYTES for phase, part in made]
        return weight, struct + sum(of_phases) - weight
    if weight:
        channels = len(node.arrays["bias"])
        stored = _half_bytes(node) if kernel.function.endswith("_int4") else _aligned(weight)
        scales = 0 if node.op == "dense" else 4 * channels + _aligned(channels)
        return weight, struct + 4 * channels + scales + stored - weight
    if node.op == "lut":
        return 0, 256
    if kernel.function == "tn_take":
        return 0, struct + sum(_aligned(2 * n) for n in ig.tensors[node.name].shape[:2])
    constant = int(node.arrays["constant"].size) if "constant" in node.arrays else 0
    return constant, struct + _aligned(constant) - constant


def _packed_v7m(node: IntegerNode) -> int:
    """Bytes of weights and parameters, by groups of two or four channels: see `thumbnet.exporters.c.packing_v7m`."""
    channels = len(node.arrays["bias"])
    values = int(node.arrays["weight"].size) // channels
    if node.op == "dense":
        return -(-channels // 4) * (4 * values + 16)
    return -(-channels // 2) * (_aligned(2 * values) + 20)


def _packed_dsp(node: IntegerNode, ig: IntegerGraph, kernel: Kernel) -> int:
    """Bytes of weights and parameters, by groups of four channels: see pairs.S and dense.S."""
    dense = node.op == "dense"
    twos = 4 * -(-int(node.arrays["weight"].shape[1]) // 8) if dense else window_of(node, ig).twos
    words = 4 + (2 * -(-twos // 2) if node.weight_bits == 4 else 2 * twos)
    words += 0 if dense else 9 if kernel.positive else 5
    return 4 * words * -(-len(node.arrays["bias"]) // 4)


def _half_bytes(node: IntegerNode) -> int:
    """Weights of 4 bits of two channels and four values in each word (`kernels/generic/tn_int4.h`)."""
    channels, groups = len(node.arrays["bias"]), int(node.attrs.get("groups", 1))
    values = int(node.arrays["weight"].size) // channels
    return 4 * groups * -(-(channels // groups) // 2) * -(-values // 4)


def _packed_mve(node: IntegerNode, ig: IntegerGraph, function: str) -> int:
    """Bytes of weights and parameters, by groups of four channels: see `thumbnet.exporters.c.packing_mve`."""
    groups = -(-len(node.arrays["bias"]) // 4)
    if node.op == "dense":
        return 16 * groups * (4 * blocks_of(node.arrays["weight"].shape[1]) + 1)
    w = window_of(node, ig)
    if node.op == "depthwise_conv2d":
        return groups * (4 * w.taps + 36)
    runs = runs_of(w, function)
    head = 0 if "_narrow" in function else 4
    return head + groups * (64 * runs * blocks_of(w.taps * w.in_c // runs) + 36)


def functions_of(units: Sequence[Unit]) -> set[str]:
    """Kernels that are linked."""
    kernels = [k for unit in units for k in unit.kernels]
    found = {f for kernel in kernels for k in (kernel, *kernel.parts) for f in (k.function, k.unpacks) if f}
    return found | {"tn_cascade" for unit in units if unit.rows}


def code_bytes(functions: Iterable[str], sites: int, costs: Measured) -> int:
    """Vectors, start-up, accessors, kernels and what they call, and `model_invoke` with call sites of `sites` bytes."""
    linked = dict(costs.base_functions)
    for function in functions:
        linked |= costs.kernels[function].functions
    return costs.base_bytes + sum(_aligned(size) for size in linked.values()) + sites


def kernel_rodata_bytes(functions: Iterable[str], costs: Measured) -> int:
    """Tables inside kernels."""
    return sum(costs.kernels[f].rodata_bytes for f in functions)


def stage_bytes(units: Iterable[Unit]) -> int:
    """Tables of the cascades' stages."""
    return sum(16 * len(unit.kernels) for unit in units if unit.rows)


def site_bytes(calls: Iterable[tuple[int, ...]], thumb2: bool) -> int:
    """Bytes of `model_invoke`: one call for each tuple of numbers, arena offsets or others.

    Thumb-2 loads the parameters' address in 8 bytes (movw, movt), an arena address in 2 (offset 0), 4 (below 4096) or
    6, and calls in 4. Armv6-M has literal pools: 2 + 4 for each constant, 2 for an addition. Arguments from the fifth
    on go through the stack.
    """
    total = 8
    for numbers in calls:
        total += 4 + (8 if thumb2 else 6) + 2 * max(0, len(numbers) - 3)
        for number in numbers:
            if number == 0:
                total += 2
            elif thumb2:
                total += 4 if number < 4096 else 6
            else:
                total += 4 if number < 256 else 8
    return total


def _aligned(size: int) -> int:
    return -(-size // 4) * 4
