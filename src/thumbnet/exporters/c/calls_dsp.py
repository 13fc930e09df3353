"""Constants and calls of the kernels for the DSP extension."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from thumbnet.cost.kernel import even_inputs, exact_input, window_of
from thumbnet.cost.kernels_dsp import depthwise_scales
from thumbnet.exporters.c import spell
from thumbnet.exporters.c.packing import pack_dense, pack_pairs, right_shifts
from thumbnet.exporters.c.site import Call, Definitions, Site, channel_constants, folded_bias, with_params


def convolution(site: Site) -> tuple[Definitions, str]:
    """What `constants` of a convolution's tn_conv2d_params points to, and its address in C."""
    node, arrays = site.node, site.node.arrays
    if node.op == "depthwise_conv2d":
        return _depthwise_constants(site)
    w, name = window_of(node, site.ig), f"{site.name}_packed"
    weight = arrays["weight"].astype(np.int8).reshape(w.out_c, w.kernel[0], -1)  # a row of the window is one run
    bias = folded_bias(node, site.zero_point(0))
    positive_at = site.out_zero_point if site.kernel.positive else None
    packed = pack_pairs(weight, bias, arrays["multiplier"], arrays["shift"], positive_at, node.weight_bits)
    return (spell.array(name, packed),), name


def _depthwise_constants(site: Site) -> tuple[Definitions, str]:
    """As tn_depthwise_rows.h wants them: the bias scaled, and how far the weights are to be, or the right shift - 1."""
    scales = depthwise_scales(site.node, site.kernel.positive)
    shifts = right_shifts(site.node.arrays["multiplier"], site.node.arrays["shift"])
    bias = folded_bias(site.node, site.zero_point(0)) << scales.astype(np.int32)
    return channel_constants(site, bias, scales.astype(np.int8) if site.kernel.positive else shifts)


def _dense(site: Site) -> Call:
    arrays, packed = site.node.arrays, f"{site.name}_packed"
    out_c, in_c = (int(n) for n in arrays["weight"].shape)
    fields: dict[str, int | str] = {
        "in_c": in_c,
        "out_c": out_c,
        "multiplier": int(arrays["multiplier"][0]),
        "packed": packed,
        "rounding": 1 + 2 * site.out_zero_point,
        "shift": int(right_shifts(arrays["multiplier"], arrays["shift"])[0]),
    }
    made = with_params(site, "tn_dense_dsp_params", fields, site.inputs[0], site.output)
    bias = folded_bias(site.node, site.zero_point(0))
    weights = pack_dense(arrays["weight"].astype(np.int8), bias, site.node.weight_bits)
    return Call((spell.array(packed, weights), *made.constants), made.statements)


def _add(site: Site) -> Call:
    attrs, exact = site.node.attrs, exact_input(site.node)
    assert exact is not None  # or the kernel would not have been chosen
    other = 1 - exact
    even = even_inputs(site.node)
    shift, out_shift = 0 if even else -int(attrs["shifts"][other]) - 1, -int(attrs["shifts"][2]) - 1
    fields: dict[str, int | str] = {
        "out_multiplier": int(attrs["multipliers"][2]),
        "out_shift": out_shift,
        "out_rounding": (1 + 2 * site.out_zero_point) * (1 << out_shift),
        "multiplier": int(attrs["multipliers"][other]),
        "shift": shift,
        "rounding": 1 << shift,
        "constant_x": -(site.zero_point(exact) << 20),
        "constant_y": -(site.zero_point(other) << (22 if even else 21)),
        "size": site.size,
    }
    return with_params(site, "tn_add_dsp_params", fields, site.inputs[exact], site.inputs[other], site.output)


SPELLERS: Mapping[str, Callable[[Site], Call]] = {"dense": _dense, "add": _add}
