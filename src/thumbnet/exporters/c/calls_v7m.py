"""Constants and calls of the Armv7-M kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from thumbnet.cost.kernel import even_inputs, exact_input
from thumbnet.exporters.c import spell
from thumbnet.exporters.c.packing import right_shifts
from thumbnet.exporters.c.packing_v7m import offsets, pack_dense, pack_quads
from thumbnet.exporters.c.site import Call, Definitions, Site, channel_constants, folded_bias, with_params


def convolution(site: Site) -> tuple[Definitions, str]:
    """What `constants` of a convolution's tn_conv2d_params points to, and its address in C."""
    node, arrays, name = site.node, site.node.arrays, f"{site.name}_packed"
    bias = folded_bias(node, site.zero_point(0))
    if node.op == "depthwise_conv2d":
        return channel_constants(site, offsets(bias), right_shifts(arrays["multiplier"], arrays["shift"]))
    weight = arrays["weight"].astype(np.int8).reshape(len(arrays["bias"]), -1)
    packed = pack_quads(weight, bias, arrays["multiplier"], arrays["shift"])
    return (spell.array(name, packed),), name


def _dense(site: Site) -> Call:
    arrays, packed = site.node.arrays, f"{site.name}_packed"
    out_c, in_c = (int(n) for n in arrays["weight"].shape)
    fields: dict[str, int | str] = {
        "packed": packed,
        "in_c": in_c,
        "out_c": out_c,
        "rounding": 1 + 2 * site.out_zero_point,
        "multiplier": int(arrays["multiplier"][0]),
        "shift": int(right_shifts(arrays["multiplier"], arrays["shift"])[0]),
    }
    made = with_params(site, "tn_dense_v7m_params", fields, site.inputs[0], site.output)
    weights = pack_dense(arrays["weight"].astype(np.int8), folded_bias(site.node, site.zero_point(0)))
    return Call((spell.array(packed, weights), *made.constants), made.statements)


def _add(site: Site) -> Call:
    attrs, exact = site.node.attrs, exact_input(site.node)
    assert exact is not None  # or the kernel would not have been chosen
    other, even = 1 - exact, even_inputs(site.node)
    halved = site.zero_point(exact) + (site.zero_point(other) if even else 0)
    fields: dict[str, int | str] = {
        "size": site.size,
        "constant": -(halved << 20),
        "constant_y": 0 if even else -(site.zero_point(other) << 21),
        "multiplier": 0 if even else int(attrs["multipliers"][other]),
        "shift": 0 if even else -int(attrs["shifts"][other]) - 1,
        "out_multiplier": int(attrs["multipliers"][2]),
        "out_shift": -int(attrs["shifts"][2]) - 1,
        "rounding": 1 + 2 * site.out_zero_point,
    }
    return with_params(site, "tn_add_v7m_params", fields, site.inputs[exact], site.inputs[other], site.output)


SPELLERS: Mapping[str, Callable[[Site], Call]] = {"dense": _dense, "add": _add}
