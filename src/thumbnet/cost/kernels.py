"""Which kernel computes a node on an instruction set.

The memory planner, the flash and latency models and the C exporter all ask here, so they always agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from thumbnet.cost.kernel import Kernel, Overlap
from thumbnet.cost.kernels_dsp import choose_dsp
from thumbnet.cost.kernels_generic import choose_generic
from thumbnet.cost.kernels_mve import choose_mve
from thumbnet.cost.kernels_v7m import choose_v7m
from thumbnet.cost.transposed import phases
from thumbnet.errors import UnsupportedOpError
from thumbnet.integer.graph import IntegerGraph, IntegerNode
from thumbnet.targets.target import Isa

Chooser = Callable[[IntegerNode, IntegerGraph], Kernel | None]  # None: no kernel, or a condition that the node misses

# In the order of preference. Cores with the DSP extension multiply and add to 64 bits as Cortex-M3 does, which serves
# where sums are too large for two in a word and for windows of other shapes; those with Helium ("mve") have it too.
_CHOOSERS: Mapping[Isa, tuple[Chooser, ...]] = {
    "generic": (choose_generic,),
    "v7m": (choose_v7m, choose_generic),
    "dsp": (choose_dsp, choose_v7m, choose_generic),
    "mve": (choose_mve, choose_dsp, choose_generic),
}


def choose(node: IntegerNode, ig: IntegerGraph, isa: Isa) -> Kernel:
    """The kernel that computes `node` on `isa`. Raises `UnsupportedOpError` for an operation without one."""
    if node.op == "conv_transpose2d":
        return _transposed(node, ig, isa)
    for chooser in _CHOOSERS[isa]:
        if (kernel := chooser(node, ig)) is not None:
            return kernel
    raise UnsupportedOpError(node.op, node.name, "There is no C kernel for it yet.")


def _transposed(node: IntegerNode, ig: IntegerGraph, isa: Isa) -> Kernel:
    made = phases(node, ig)
    parts = tuple(choose(phase.node, phase.ig, isa) for phase in made.all)
    sources = dict.fromkeys(("generic/conv_transpose2d.c", *(s for part in parts for s in part.sources)))
    scratch = max(part.scratch_bytes for part in parts)
    if made.spills:
        scratch = spill_offset(parts) + made.written_bytes
    overlap = Overlap(made.distance)
    return Kernel("tn_conv_transpose2d", tuple(sources), scratch, (overlap,), parts=parts)


def spill_offset(parts: tuple[Kernel, ...]) -> int:
    """Where, in the scratch memory of a transposed convolution, its last rows may spill."""
    return -(-max(part.scratch_bytes for part in parts) // 4) * 4
