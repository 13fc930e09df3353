"""Calls of the operations on two operands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from thumbnet.exporters.c import spell
from thumbnet.exporters.c.site import Call, Site, with_params
from thumbnet.integer.binary import operands_of, repetition


@dataclass(frozen=True)
class _Pair:
    """Both operands of a node: the one as large as the output first, `swapped` where that is the second one."""

    constants: tuple[str, ...]
    addresses: tuple[str, str]
    spread: dict[str, int | str]  # fields of tn_spread
    zero_points: dict[str, int | str]
    swapped: bool


def _pair(site: Site) -> _Pair:
    node, shape = site.node, site.ig.tensors[site.node.name].shape
    operands = operands_of(node, [site.ig.tensors[v] for v in node.inputs])
    addresses, constants = list(site.inputs), []
    if "constant" in node.arrays:
        addresses.insert(0 if node.attrs.get("constant_first") else 1, f"{site.name}_constant")
        constants.append(spell.array(f"{site.name}_constant", node.arrays["constant"].astype(np.int8)))
    swapped = operands[0].bytes < site.size
    first, second = (1, 0) if swapped else (0, 1)
    found = repetition(operands[second].shape, shape)
    assert found is not None  # or the node would not be valid
    repeat, period = found
    return _Pair(
        tuple(constants),
        (addresses[first], addresses[second]),
        {"size": site.size, "repeat": repeat, "period": period if period * repeat < site.size else 0},
        {"zero_point1": operands[first].zero_point, "zero_point2": operands[second].zero_point},
        swapped,
    )


def _spelled_pair(site: Site, kind: str, pair: _Pair, fields: Mapping[str, int | str]) -> Call:
    spread = {f"spread.{k}": v for k, v in pair.spread.items()}
    made = with_params(site, kind, {**spread, **fields, **pair.zero_points, **site.clamp}, *pair.addresses, site.output)
    return Call((*pair.constants, *made.constants), made.statements)


def _add(site: Site) -> Call:
    pair = _pair(site)
    multipliers, shifts = ([int(v) for v in site.node.attrs[k]] for k in ("multipliers", "shifts"))
    if site.node.op == "sub":
        multipliers[1] *= -1
    first, second = (1, 0) if pair.swapped else (0, 1)
    fields: dict[str, int | str] = {
        "multiplier1": multipliers[first],
        "multiplier2": multipliers[second],
        "out_multiplier": multipliers[2],
        "shift1": shifts[first],
        "shift2": shifts[second],
        "out_shift": shifts[2],
        "left_shift": int(site.node.attrs["left_shift"]),
        "out_zero_point": site.out_zero_point,
    }
    return _spelled_pair(site, "tn_add_params", pair, fields)


def _mul(site: Site) -> Call:
    attrs = site.node.attrs
    fields = {"multiplier": int(attrs["multiplier"]), "shift": int(attrs["shift"])}
    return _spelled_pair(site, "tn_mul_params", _pair(site), {**fields, "out_zero_point": site.out_zero_point})


def _extreme(site: Site) -> Call:
    pair = _pair(site)
    made = with_params(site, "tn_spread", pair.spread, *pair.addresses, site.output)
    return Call((*pair.constants, *made.constants), made.statements)


def _prelu(site: Site) -> Call:
    attrs = site.node.attrs
    fields = {f"multiplier{i + 1}": int(attrs["multipliers"][i]) for i in (0, 1)}
    fields |= {f"shift{i + 1}": int(attrs["shifts"][i]) for i in (0, 1)}
    return _spelled_pair(site, "tn_prelu_params", _pair(site), {**fields, "out_zero_point": site.out_zero_point})


PAIRS: Mapping[str, Callable[[Site], Call]] = {
    "add": _add,
    "sub": _add,
    "mul": _mul,
    "maximum": _extreme,
    "minimum": _extreme,
    "prelu": _prelu,
}
