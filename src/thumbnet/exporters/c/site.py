"""A node with everything that its C is spelled from, and what the families of kernels share of the spelling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.cost.kernel import Kernel
from thumbnet.exporters.c import spell
from thumbnet.exporters.c.packing import pack_halves
from thumbnet.integer.arithmetic import pack_int4
from thumbnet.integer.graph import IntegerGraph, IntegerNode

Definitions = tuple[str, ...]


@dataclass(frozen=True)
class Call:
    """C text of one node: definitions of its constants, and statements (one each line)."""

    constants: tuple[str, ...]
    statements: tuple[str, ...]


@dataclass(frozen=True)
class Site:
    """A node with everything its call is spelled from."""

    node: IntegerNode
    ig: IntegerGraph
    kernel: Kernel
    name: str  # C identifier
    inputs: tuple[str, ...]  # C expressions of addresses
    output: str
    scratch: str

    @property
    def clamp(self) -> dict[str, int | str]:
        return {"low": self.node.clamp[0], "high": self.node.clamp[1]}

    def zero_point(self, i: int) -> int:
        return self.ig.tensors[self.node.inputs[i]].zero_point

    @property
    def out_zero_point(self) -> int:
        return self.ig.tensors[self.node.name].zero_point

    @property
    def size(self) -> int:
        return self.ig.tensors[self.node.name].bytes


def folded_bias(node: IntegerNode, zero_point: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Bias minus zero point times the sum of the channel's weights, modulo 2^32, so that kernels need no offset."""
    weight = node.arrays["weight"].astype(np.int64)
    axes = tuple(range(weight.ndim - 1)) if node.op == "depthwise_conv2d" else tuple(range(1, weight.ndim))
    bias = node.arrays["bias"].astype(np.int64) - zero_point * weight.sum(axes)
    folded: np.ndarray[Any, np.dtype[np.int32]] = bias.astype(np.uint32).view(np.int32)
    return folded


def with_params(site: Site, kind: str, fields: Mapping[str, int | str], *addresses: str) -> Call:
    """A call with a struct of parameters of this kind before the addresses."""
    arguments = ", ".join((f"&{site.name}", *addresses))
    return Call((spell.struct(kind, site.name, fields),), (f"{site.kernel.function}({arguments});",))


def channel_constants(site: Site, bias: npt.NDArray[np.int32], shift: npt.NDArray[np.int8]) -> tuple[Definitions, str]:
    """The arrays of tn_conv2d_constants, or of its like for weights of 4 bits, the struct itself, and its address in C.

    Bias, shift: as the kernel has them.
    """
    kind, weight = _stored(site)
    multiplier = site.node.arrays["multiplier"]
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "weight": weight,
        "bias": bias,
        "multiplier": multiplier.astype(np.int32),
        "shift": shift,
    }
    fields: dict[str, int | str] = {key: f"{site.name}_{key}" for key in arrays}
    if site.kernel.unpacks:
        packed = fields.pop("weight")
        constants = ", ".join(f".{key} = {value}" for key, value in fields.items())
        fields = {"run": site.kernel.function, "packed": packed, "count": int(site.node.arrays["weight"].size)}
        fields["constants"] = f"{{.weight = NULL, {constants}}}"
    struct = spell.struct(kind, f"{site.name}_constants", fields)
    return (*(spell.array(f"{site.name}_{k}", v) for k, v in arrays.items()), struct), f"&{site.name}_constants"


def _stored(site: Site) -> tuple[str, npt.NDArray[Any]]:
    """The kind of constants, and the weights in the order in which the kernel reads them."""
    weight = site.node.arrays["weight"].astype(np.int8)
    if site.node.op == "depthwise_conv2d":
        weight = np.moveaxis(weight, -1, 0)
    if site.kernel.unpacks:
        return "tn_depthwise_int4_constants", pack_int4(weight).view(np.int8)
    if site.node.weight_bits == 4:
        groups = int(site.node.attrs["groups"])
        return "tn_conv2d_int4_constants", pack_halves(weight.reshape(groups, len(weight) // groups, -1))
    return "tn_conv2d_constants", weight
