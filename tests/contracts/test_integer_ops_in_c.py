"""The C of every integer operation, built for this machine, is the simulator byte for byte, whatever it overwrites."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from firmware_networks import samples
from host_c import outputs
from integer_op_cases import CASES, drawn, together

from thumbnet.cost import estimate
from thumbnet.cost.kernel import Kernel
from thumbnet.cost.kernels import choose
from thumbnet.cost.plan import ArenaPlan, Buffer
from thumbnet.cost.schedule import single
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.simulate import run
from thumbnet.targets import load_target

each_case = pytest.mark.parametrize(
    ("op", "seed"), [pytest.param(op, seed, id=f"{op}-{seed}") for op in CASES for seed in (0, 1)]
)
BOARD = load_target("cortex-m4")


def one(op: str, seed: int) -> IntegerGraph:
    """Node "c/y", its inputs cut out of the only one."""
    return together({"c": drawn(op, seed)})


def tight(ig: IntegerGraph, kernel: Kernel, which: int, slack: int) -> ArenaPlan:
    """Input `which` of node "y" as near to the output as its kernel promises to bear, and `slack` bytes farther."""
    node, overlap = ig.by_name["c/y"], kernel.overlaps[which]
    assert overlap is not None
    base, free = 1 << 16, 1 << 17
    place = {node.inputs[which]: base + overlap.distance + (0 if overlap.exact else slack), "c/y": base}
    roots = {n.name: n.inputs[0] if n.op == "reshape" else n.name for n in ig.nodes} | {"all": "all"}
    for name in (v for v in ig.tensors if roots[v] == v):
        shared = [v for v in place if roots[v] == name]  # a reshape lies where its input does
        if not shared:
            place[name] = free
            free += -(-ig.tensors[name].bytes // 16) * 16
        else:
            place[name] = place[shared[0]]
    low = min(place.values()) // 16 * 16  # the arena starts at a multiple of 16
    buffers = [Buffer(v, "activation", place[roots[v]] - low, t.bytes, 0, 9) for v, t in ig.tensors.items()]
    scratch = [Buffer("c/y", "scratch", free - low, kernel.scratch_bytes, 0, 9)] if kernel.scratch_bytes else []
    end = free - low + kernel.scratch_bytes
    return ArenaPlan(end, end, (*buffers, *scratch), {})


@each_case
def test_it_may_overwrite_its_inputs_as_it_promises(op: str, seed: int, tmp_path: Path) -> None:
    ig = one(op, seed)
    kernels = {node.name: choose(node, ig, "generic") for node in ig.nodes}
    kernel, node = kernels["c/y"], ig.by_name["c/y"]
    x = samples(ig, seed)
    expected = run(ig, x)["y"]
    units = tuple(single(step, kernel) for step, kernel in enumerate(kernels.values()))
    for which, overlap in enumerate(kernel.overlaps):
        if overlap is None or not kernel.function or node.inputs.count(node.inputs[which]) > 1:
            continue
        for slack in (0, 5):
            plan = tight(ig, kernel, which, slack)
            assert np.array_equal(outputs(ig, tmp_path / f"{which}-{slack}", x, units, plan), expected)


@each_case
def test_its_cost_is_known(op: str, seed: int) -> None:
    (layer,) = (x for x in estimate(one(op, seed), BOARD).layers if x.name == "c/y")
    assert (layer.instructions > 0) == (op != "reshape")
    assert (layer.macs > 0) == ("weight" in drawn(op, seed).nodes[0].arrays)
