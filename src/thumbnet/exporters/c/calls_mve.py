"""Constants and calls of the Helium kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from thumbnet.cost.kernel import even_inputs, exact_input, window_of
from thumbnet.cost.kernels_mve import runs_of
from thumbnet.exporters.c import spell
from thumbnet.exporters.c.packing_mve import pack_dense, pack_narrow, pack_planes, pack_triples
from thumbnet.exporters.c.site import Call, Definitions, Site, folded_bias, with_params


def convolution(site: Site) -> tuple[Definitions, str]:
    """What `constants` of a convolution's tn_conv2d_params points to, and its address in C."""
    node, name = site.node, f"{site.name}_packed"
    weight, bias = node.arrays["weight"].astype(np.int8), folded_bias(node, site.zero_point(0))
    scaling = bias, node.arrays["multiplier"], node.arrays["shift"]
    if node.op == "depthwise_conv2d":
        packed = pack_planes(weight.reshape(-1, len(bias)).T, *scaling)
    elif "_narrow" in site.kernel.function:
        packed = pack_narrow(weight.reshape(len(bias), -1), *scaling)
    else:
        runs = runs_of(window_of(node, site.ig), site.kernel.function)
        packed = pack_triples(weight.reshape(len(bias), runs, -1), *scaling)
    return (spell.array(name, packed),), name


def _dense(site: Site) -> Call:
    node, packed = site.node, f"{site.name}_packed"
    out_c, in_c = (int(n) for n in node.arrays["weight"].shape)
    multiplier = int(node.arrays["multiplier"][0])
    fields: dict[str, int | str] = {
        "packed": packed,
        "in_c": in_c,
        "out_c": out_c,
        "multiplier": multiplier,
        "shift": int(node.arrays["shift"][0]) if multiplier else 0,
        "out_zero_point": site.out_zero_point,
    }
    weights = pack_dense(node.arrays["weight"].astype(np.int8), folded_bias(node, site.zero_point(0)))
    made = with_params(site, "tn_dense_mve_params", fields, site.inputs[0], site.output)
    return Call((spell.array(packed, weights), *made.constants), made.statements)


def _add(site: Site) -> Call:
    attrs, exact = site.node.attrs, exact_input(site.node)
    assert exact is not None  # or the kernel would not have been chosen
    other, even = 1 - exact, even_inputs(site.node)
    up = 21 if even else 20  # and then halved twice, which changes nothing
    fields: dict[str, int | str] = {
        "multiplier": int(attrs["multipliers"][other]),
        "shift": -1 if even else int(attrs["shifts"][other]),
        "lift": 1 << up,
        "constant_x": -(site.zero_point(exact) << 19),
        "constant_y": -(site.zero_point(other) << up),
        "out_multiplier": int(attrs["multipliers"][2]),
        "out_shift": int(attrs["shifts"][2]),
        "out_zero_point": site.out_zero_point,
        "size": site.size,
    }
    return with_params(site, "tn_add_mve_params", fields, site.inputs[exact], site.inputs[other], site.output)


SPELLERS: Mapping[str, Callable[[Site], Call]] = {"dense": _dense, "add": _add}
