"""One function per operation: the constants a node needs in C, and the statement that computes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from thumbnet.cost.kernel import window_of
from thumbnet.exporters.c import calls_cmsis_nn, calls_dsp, calls_mve, calls_v7m, spell
from thumbnet.exporters.c.site import Call, Definitions, Site, channel_constants, folded_bias, with_params
from thumbnet.targets.target import Isa


def call(site: Site) -> Call:
    """Constants and statements of the node; none where nothing is computed."""
    if not site.kernel.function:
        return Call((), ())
    speller = calls_cmsis_nn.SPELLERS.get(site.kernel.function) or _FAMILIES[site.kernel.family][site.node.op]
    made = speller(site)
    if not site.kernel.clamp:
        return made
    low, high = site.node.clamp
    return Call(made.constants, (*made.statements, f"{site.kernel.clamp}({site.output}, {site.size}, {low}, {high});"))


def convolution_constants(site: Site) -> Definitions:
    """Definitions of everything that a convolution's `tn_conv2d_params`, called `site.name`, needs, and the struct."""
    definitions, address = _CONVOLUTIONS[site.kernel.family](site)
    groups = int(site.node.attrs.get("groups", 1))
    fields: dict[str, int | str] = {"constants": address, "groups": groups, "strip": site.kernel.strip}
    return (*definitions, spell.struct("tn_conv2d_params", site.name, {**fields, **_geometry(site), **site.clamp}))


def _geometry(site: Site) -> dict[str, int | str]:
    """Fields of tn_conv2d_params: shapes, window and zero points."""
    w = window_of(site.node, site.ig)
    fields: dict[str, int | str] = {"in_h": w.in_h, "in_w": w.in_w, "in_c": w.in_c}
    fields |= {"out_h": w.out_h, "out_w": w.out_w, "out_c": w.out_c}
    fields |= {"kernel_h": w.kernel[0], "kernel_w": w.kernel[1], "stride_h": w.stride[0], "stride_w": w.stride[1]}
    fields |= {"dilation_h": w.dilation[0], "dilation_w": w.dilation[1]}
    fields |= {"pad_top": w.padding[0], "pad_left": w.padding[1]}
    return fields | {"in_zero_point": site.zero_point(0), "out_zero_point": site.out_zero_point}


def _convolution(site: Site) -> Call:
    statement = f"{site.kernel.function}(&{site.name}, {site.inputs[0]}, {site.output}, {site.scratch});"
    return Call(convolution_constants(site), (statement,))


def _dense(site: Site) -> Call:
    weight = site.node.arrays["weight"].astype(np.int8)
    arrays: dict[str, np.ndarray[Any, Any]] = {"weight": weight, "bias": folded_bias(site.node, site.zero_point(0))}
    fields: dict[str, int | str] = {
        "in_c": weight.shape[1],
        "out_c": weight.shape[0],
        "multiplier": int(site.node.arrays["multiplier"][0]),
        **{key: f"{site.name}_{key}" for key in arrays},
        "shift": int(site.node.arrays["shift"][0]),
        "out_zero_point": site.out_zero_point,
        **site.clamp,
    }
    params = with_params(site, "tn_dense_params", fields, site.inputs[0], site.output)
    return Call(
        (*(spell.array(f"{site.name}_{k}", v) for k, v in arrays.items()), *params.constants), params.statements
    )


def _period(site: Site) -> int:
    """After how many elements input 1 repeats; 0 where it has as many as the output."""
    second = site.ig.tensors[site.node.inputs[1]].bytes
    return second if second < site.size else 0


def _add(site: Site) -> Call:
    multipliers = [int(m) for m in site.node.attrs["multipliers"]]
    shifts = [int(s) for s in site.node.attrs["shifts"]]
    fields: dict[str, int | str] = {
        "multiplier1": multipliers[0],
        "multiplier2": -multipliers[1] if site.node.op == "sub" else multipliers[1],
        "out_multiplier": multipliers[2],
        "size": site.size,
        "period": _period(site),
        "shift1": shifts[0],
        "shift2": shifts[1],
        "out_shift": shifts[2],
        "left_shift": int(site.node.attrs["left_shift"]),
        "zero_point1": site.zero_point(0),
        "zero_point2": site.zero_point(1),
        "out_zero_point": site.out_zero_point,
        **site.clamp,
    }
    return with_params(site, "tn_add_params", fields, *site.inputs, site.output)


def _mul(site: Site) -> Call:
    fields: dict[str, int | str] = {
        "multiplier": int(site.node.attrs["multiplier"]),
        "size": site.size,
        "period": _period(site),
        "shift": int(site.node.attrs["shift"]),
        "zero_point1": site.zero_point(0),
        "zero_point2": site.zero_point(1),
        "out_zero_point": site.out_zero_point,
        **site.clamp,
    }
    return with_params(site, "tn_mul_params", fields, *site.inputs, site.output)


def _pool(site: Site) -> Call:
    w = window_of(site.node, site.ig)
    fields: dict[str, int | str] = {
        "in_h": w.in_h,
        "in_w": w.in_w,
        "channels": w.in_c,
        "out_h": w.out_h,
        "out_w": w.out_w,
        "kernel_h": w.kernel[0],
        "kernel_w": w.kernel[1],
        "stride_h": w.stride[0],
        "stride_w": w.stride[1],
        "pad_top": w.padding[0],
        "pad_left": w.padding[1],
        **site.clamp,
    }
    return with_params(site, "tn_pool_params", fields, site.inputs[0], site.output)


def _global_avg_pool(site: Site) -> Call:
    h, w, channels = site.ig.tensors[site.node.inputs[0]].shape
    fields: dict[str, int | str] = {
        "multiplier": int(site.node.attrs["multiplier"]),
        "offset": -h * w * site.zero_point(0),
        "pixels": h * w,
        "channels": channels,
        "shift": int(site.node.attrs["shift"]),
        "out_zero_point": site.out_zero_point,
        **site.clamp,
    }
    return with_params(site, "tn_global_avg_pool_params", fields, site.inputs[0], site.output)


def _lut(site: Site) -> Call:
    table = spell.array(f"{site.name}_table", site.node.arrays["table"].astype(np.int8))
    return Call(
        (table,), (f"{site.kernel.function}({site.name}_table, {site.size}, {site.inputs[0]}, {site.output});",)
    )


def _requantize(site: Site) -> Call:
    fields: dict[str, int | str] = {
        "multiplier": int(site.node.attrs["multiplier"]),
        "size": site.size,
        "shift": int(site.node.attrs["shift"]),
        "in_zero_point": site.zero_point(0),
        "out_zero_point": site.out_zero_point,
        **site.clamp,
    }
    return with_params(site, "tn_requantize_params", fields, site.inputs[0], site.output)


def _axis(site: Site, shape: tuple[int, ...]) -> int:
    return int(site.node.attrs["axis"]) % len(shape)


def _run(shape: tuple[int, ...], axis: int) -> int:
    return int(np.prod(shape[axis:]))


def _concat(site: Site) -> Call:
    shape = site.ig.tensors[site.node.name].shape
    axis = _axis(site, shape)
    blocks, step = int(np.prod(shape[:axis])), _run(shape, axis)
    statements, at = [], 0
    for source, name in zip(site.inputs, site.node.inputs, strict=True):
        size = _run(site.ig.tensors[name].shape, axis)
        place = f"{site.output} + {at}" if at else site.output
        statements.append(f"tn_copy_blocks({source}, {place}, {blocks}, {size}, {size}, {step});")
        at += size
    return Call((), tuple(statements))


def _slice(site: Site) -> Call:
    shape = site.ig.tensors[site.node.inputs[0]].shape
    axis = _axis(site, shape)
    blocks, step, unit = int(np.prod(shape[:axis])), _run(shape, axis), _run(shape, axis + 1)
    start, stop = int(site.node.attrs["start"]), int(site.node.attrs["stop"])
    size = (stop - start) * unit
    source = f"{site.inputs[0]} + {start * unit}" if start else site.inputs[0]
    return Call((), (f"tn_copy_blocks({source}, {site.output}, {blocks}, {size}, {step}, {size});",))


def _pad(site: Site) -> Call:
    h, w, c = site.ig.tensors[site.node.inputs[0]].shape
    top, left, bottom, right = (int(p) for p in site.node.attrs["padding"])
    fields: dict[str, int | str] = {"in_h": h, "in_w": w, "channels": c, "top": top, "left": left}
    fields |= {"bottom": bottom, "right": right, "value": site.zero_point(0)}
    return with_params(site, "tn_pad_params", fields, site.inputs[0], site.output)


def _resize(site: Site) -> Call:
    h, w, c = site.ig.tensors[site.node.inputs[0]].shape
    out_h, out_w, _ = site.ig.tensors[site.node.name].shape
    fields: dict[str, int | str] = {"in_h": h, "in_w": w, "channels": c, "out_h": out_h, "out_w": out_w}
    return with_params(site, "tn_resize_params", fields, site.inputs[0], site.output)


def _softmax(site: Site) -> Call:
    shape = site.ig.tensors[site.node.name].shape
    fields: dict[str, int | str] = {
        "multiplier": int(site.node.attrs["multiplier"]),
        "diff_min": int(site.node.attrs["diff_min"]),
        "rows": int(np.prod(shape[:-1])),
        "depth": shape[-1],
        "shift": int(site.node.attrs["shift"]),
    }
    return with_params(site, "tn_softmax_params", fields, site.inputs[0], site.output)


SPELLERS: Mapping[str, Callable[[Site], Call]] = {
    "conv2d": _convolution,
    "depthwise_conv2d": _convolution,
    "dense": _dense,
    "add": _add,
    "sub": _add,
    "mul": _mul,
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
    "global_avg_pool": _global_avg_pool,
    "lut": _lut,
    "concat": _concat,
    "slice": _slice,
    "pad": _pad,
    "requantize": _requantize,
    "resize_nearest": _resize,
    "softmax": _softmax,
}

# A family's own spelling comes before the generic one.
_FAMILIES: Mapping[Isa, Mapping[str, Callable[[Site], Call]]] = {
    "generic": SPELLERS,
    "v7m": {**SPELLERS, **calls_v7m.SPELLERS},
    "dsp": {**SPELLERS, **calls_dsp.SPELLERS},
    "mve": {**SPELLERS, **calls_mve.SPELLERS},
}

# What `constants` of tn_conv2d_params points to, and its address.
_CONVOLUTIONS: Mapping[Isa, Callable[[Site], tuple[Definitions, str]]] = {
    "generic": lambda site: channel_constants(
        site, folded_bias(site.node, site.zero_point(0)), site.node.arrays["shift"].astype(np.int8)
    ),
    "v7m": calls_v7m.convolution,
    "dsp": calls_dsp.convolution,
    "mve": calls_mve.convolution,
}
